"""
The same fit with lmfit
=======================

Bounds, fixed parameters, expressions and confidence intervals, in lmfit and in skoptax
side by side. The data are NIST's MGH17: two exponentials whose rates are hard to tell
apart.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import lmfit
import numpy as np
import pandas as pd
from sklearn.base import clone

from skoptax import OptaxEstimator, Parameter
from skoptax.inference import compare
from skoptax.plots import FitDisplay

try:
    HERE = Path(__file__).parent
except NameError:  # in a gallery
    HERE = Path.cwd()
nist = json.loads((HERE / "data" / "mgh17.json").read_text())
x, y = np.array(nist["x"]), np.array(nist["y"])
X = x[:, None]  # an estimator takes a matrix, of a column here

# %%
# The model
# ---------
# The function is the same, but for ``jnp`` in place of ``np``: JAX differentiates it,
# where lmfit takes differences.


def curve_np(x, b1, b2, b3, b4, b5):
    """Return two exponentials on a constant, for lmfit."""
    return b1 + b2 * np.exp(-x * b4) + b3 * np.exp(-x * b5)


def curve(x, b1, b2, b3, b4, b5):
    """Return two exponentials on a constant, for skoptax."""
    return b1 + b2 * jnp.exp(-x * b4) + b3 * jnp.exp(-x * b5)


# %%
# The parameters
# --------------
# Nothing in the model says which of the two rates is which. So ``b5`` is ``b4`` plus a
# gap that is not negative: in lmfit an expression, a string; in skoptax a function
# whose arguments are names of parameters. ``gap`` itself is no argument of the model.

model = lmfit.Model(curve_np)
params = model.make_params(b1=0.5, b2=1.5, b3=-1.0, b4={"value": 0.01, "min": 0.0})
params.add("gap", value=0.01, min=0.0)
params.add("b5", expr="b4 + gap")

spec = {
    "b1": 0.5,
    "b2": 1.5,
    "b3": -1.0,
    "b4": Parameter(value=0.01, lower=0.0),
    "gap": Parameter(value=0.01, lower=0.0),
    "b5": Parameter(tie=lambda b4, gap: b4 + gap),
}

# %%
# The fit
# -------
# lmfit returns a result; skoptax's estimator holds it. Standard errors, that of the
# tied ``b5`` included, agree with the certified ones, in skoptax to all their digits:
# exact derivatives go further than differences.

result = model.fit(y, params, x=x)
est = OptaxEstimator(curve, spec).fit(X, y)
certified = {f"b{k + 1}": value for k, value in enumerate(nist["certified"])}
certified_error = {f"b{k + 1}": value for k, value in enumerate(nist["certified_sd"])}
table = pd.DataFrame(
    {
        "lmfit": {name: p.value for name, p in result.params.items()},
        "skoptax": est.params_,
        "certified": certified,
        "+- lmfit": {name: p.stderr for name, p in result.params.items()},
        "+- skoptax": est.stderr_,
        "+- certified": certified_error,
    }
).loc[list(spec)]
print(table.to_string(float_format="{:.8g}".format))
display = FitDisplay.from_estimator(est, X, y)

# %%
# What a fit says about itself is ``result.fit_report()`` there and ``est.report()``
# here. Chi-square is the same. lmfit's AIC leaves out a constant of the likelihood,
# ``n (log(2 pi) + 1)``, so that only differences can be compared:

print(est.report(min_correlation=0.99))
constant = len(y) * (np.log(2.0 * np.pi) + 1.0)
aic = est.report().statistics["AIC"]
print(f"AIC: {aic:.4f}, lmfit's plus the constant: {result.aic + constant:.4f}")

# %%
# Confidence intervals
# --------------------
# lmfit's ``conf_interval`` is what skoptax calls a profile: both find where the F test
# of holding the parameter is at the level.

theirs = result.conf_interval(sigmas=[0.95])
ours = est.confidence_intervals(X, y, method="profile", level=0.95)
for name, (lower, _, upper) in theirs.items():
    ends = ours.loc[name]
    print(
        f"{name:<4} lmfit {lower[1]:.5f} to {upper[1]:.5f}   "
        f"skoptax {ends['ci_lower']:.5f} to {ends['ci_upper']:.5f}"
    )

# %%
# A fixed parameter
# -----------------
# ``vary=False`` is ``free=False``. In lmfit the parameters are changed, and the fit is
# called again. Here a clone, which is not fitted, gets the change by its path. Is a
# ``b1`` of 0.37 possible? The F test is at hand:

params["b1"].set(value=0.37, vary=False)
theirs = model.fit(y, params, x=x)
held = clone(est).set_params(params__b1__value=0.37, params__b1__free=False)
held.fit(X, y)
f_test = compare(held, est).iloc[0]
print(f"chi-square: {theirs.chisqr:.6e}, {2 * len(y) * held.loss_:.6e}")
print(f"F = {f_test['f_value']:.3f}, p = {f_test['f_p_value']:.4f}")

# %%
# On a bound
# ----------
# Here the two differ. lmfit maps the whole line onto what a bound leaves, and that map
# has no slope at the bound: what comes out as standard errors there means little.
# skoptax projects: ``at_bound_`` says that the optimum is on the bound, there is no
# standard error for that parameter, and the others' are those with it held there. lmfit
# has the same, once the parameter is fixed where it has ended.

params["b1"].set(value=0.5, vary=True)
params["b3"].set(value=-1.0, min=-1.2)
theirs = model.fit(y, params, x=x)
params["b3"].set(value=-1.2, vary=False)
fixed = model.fit(y, params, x=x)
bounded = clone(est).set_params(params__b3__lower=-1.2).fit(X, y)
print("on a bound:", [name for name, there in bounded.at_bound_.items() if there])
print(f"b3: {theirs.params['b3'].value:.6f}, {bounded.params_['b3']:.6f}")
print(f"standard error of b2 by lmfit:           {theirs.params['b2'].stderr:.6f}")
print(f"standard error of b2 by lmfit, b3 fixed: {fixed.params['b2'].stderr:.6f}")
print(f"standard error of b2 by skoptax:         {bounded.stderr_['b2']:.6f}")

# %%
# What else is different
# ----------------------
# - Weights: lmfit's ``weights`` multiply residuals, so that they are ``1 / sigma``;
#   ``sample_weight`` is scikit-learn's, ``1 / sigma**2``. ``scale_covar=False`` is
#   ``absolute_sigma=True``.
# - Bounds: lmfit swaps reversed ones, and moves a start value outside them; skoptax
#   raises an error.
# - An estimator is for all rows that may come: it goes into ``cross_val_score``,
#   ``GridSearchCV`` and a ``Pipeline``. Rows are not kept, and so profiles and the
#   bootstrap ask for them again.
# - The first fit of a model compiles a program, which takes a second or so; all others
#   of that model, from other starts, with other bounds or to other data, use it.
