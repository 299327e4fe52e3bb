"""
The bootstrap
=============

Resampled rows, resampled residuals, standard errors and profiles answer the same
question, and suppose different things. NIST's Chwirut1, 214 measurements of an
ultrasonic response whose noise grows with the response, tells them apart.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import norm

from skoptax import OptaxEstimator
from skoptax.plots import ResidualsDisplay

try:
    HERE = Path(__file__).parent
except NameError:  # in a gallery
    HERE = Path.cwd()
nist = json.loads((HERE / "data" / "chwirut1.json").read_text())
X, y = np.c_[nist["x"]], np.array(nist["y"])


def response(distance, b1, b2, b3):
    """Return the response at a distance in metal."""
    return jnp.exp(-b1 * distance) / (b2 + b3 * distance)


start = {"b1": 0.1, "b2": 0.01, "b3": 0.02}
est = OptaxEstimator(response, start).fit(X, y)
for name, certified in zip(est.stderr_, nist["certified_sd"], strict=True):
    print(f"{name}  standard error {est.stderr_[name]:.6e}  certified {certified:.6e}")

# %%
# These are the certified standard errors, and they suppose that all responses are
# measured with the same error. The residuals say otherwise: they fan out. (Neighbouring
# rows resemble each other, too, which nothing on this page takes into account.)

figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
ResidualsDisplay.from_estimator(est, X, y, ax=axes)

# %%
# Two kinds of resamples
# ----------------------
# ``"residuals"`` leaves the inputs as they are and deals the residuals out anew, large
# ones to small responses too. ``"cases"`` draws rows, each of which keeps its own
# residual. Each of the 2 x 2000 samples is fitted, from the estimate on, all in one
# program.

drawn = {
    how: est.bootstrap(X, y, resample=how, n_resamples=2000, random_state=0)
    for how in ("residuals", "cases")
}
robust = OptaxEstimator(response, start, cov_type="HC3").fit(X, y)
errors = pd.DataFrame(
    {
        "standard error": est.stderr_,
        "residuals": drawn["residuals"].std(),
        "HC3": robust.stderr_,
        "cases": drawn["cases"].std(),
    }
)
print(errors.to_string(float_format="{:.3e}".format))

# %%
# Two answers, each found twice. Who supposes equal noise gets the first two columns;
# who does not, the last two, with an error of ``b2`` that is more than a third larger:
# ``1 / b2`` is the height of the curve at distance 0, where the noise is largest.
# Resampled residuals cannot see that, though they suppose no normal distribution.
#
# The distributions
# -----------------
# The curves are normal distributions with the two standard errors. The estimates of
# resamples keep to them: with 214 rows the model is nearly linear where it matters, and
# what counts is the noise.

figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
looks = {"residuals": ("C0", "standard error", "--"), "cases": ("C1", "HC3", "-")}
for ax, name in zip(axes, start, strict=True):
    for how, (color, column, dashes) in looks.items():
        values = drawn[how][name]
        ax.hist(values, 40, density=True, color=color, alpha=0.35, label=how)
        grid = np.linspace(values.min(), values.max(), 200)
        law = norm(est.params_[name], errors.loc[name, column])
        ax.plot(grid, law.pdf(grid), color=color, linestyle=dashes, label=column)
    ax.set(xlabel=name, yticks=[])
    ax.locator_params(axis="x", nbins=4)
axes[0].legend(fontsize="small")

# %%
# Intervals
# ---------
# ``confidence_intervals`` has all of them. The bootstrap's are BCa: corrected for the
# bias and the skewness of the estimates. A profile follows the bend of the model, and
# supposes equal noise as the standard error does.

intervals = {
    "standard error": est.confidence_intervals(),
    "profile": est.confidence_intervals(X, y, method="profile"),
    "HC3": robust.confidence_intervals(),
    "cases": est.confidence_intervals(X, y, method="bootstrap", random_state=0),
}
table = pd.concat(intervals).xs("b2", level="parameter")
print(table.to_string(float_format="{:.6f}".format))

# %%
# With noise that grows, the last two are to be reported.
