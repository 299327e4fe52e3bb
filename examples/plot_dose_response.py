"""
A dose-response curve with a prior
==================================

Ferulic acid stunts the roots of ryegrass. Had the trial ended at a medium dose, the
lower plateau of its four-parameter logistic would be anybody's guess, and the median
effective dose with it. A prior for the plateau makes such a fit useful; the doses
above, which are held back here, tell whether it was right.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone

from skoptax import OptaxEstimator, Parameter
from skoptax.plots import FitDisplay
from skoptax.priors import Normal

try:
    HERE = Path(__file__).parent
except NameError:  # in a gallery
    HERE = Path.cwd()
data = pd.read_csv(HERE / "data" / "ryegrass.csv", comment="#")

# %%
# The whole trial
# ---------------
# ``ec50`` is the dose half-way between the plateaus, ``slope`` how steep the curve is
# there on a logarithmic axis.


def root_length(concentration, upper, lower, ec50, slope):
    """Return the four-parameter log-logistic curve."""
    return lower + (upper - lower) / (1.0 + (concentration / ec50) ** slope)


params = {
    "upper": 8.0,
    "lower": Parameter(value=0.5),
    "ec50": Parameter(value=3.0, lower=0.0),
    "slope": Parameter(value=2.0, lower=0.0),
}


def show(fit):
    """Print the estimates of a fit."""
    columns = ["value", "stderr", "ci_lower", "ci_upper"]
    print(fit.summary()[columns].to_string(float_format="{:.4f}".format))


X, y = data[["concentration"]], data["root_length"]
whole = OptaxEstimator(root_length, params).fit(X, y)
show(whole)

# %%
# A trial that ends too early
# ---------------------------
# With nothing above 3.75 mM, no dose is on the lower plateau. A prior is weighed
# against the likelihood, which needs to know how precise the responses are. Repeated
# doses tell, without any model: weights are one over that variance, and
# ``absolute_sigma=True`` says that it is known.

early = data["concentration"] <= 3.75
replicates = data[early].groupby("concentration")["root_length"]
variance = replicates.var() @ (replicates.size() - 1) / (early.sum() - len(replicates))
X_early, y_early = X[early], y[early]
weight = np.full(early.sum(), 1.0 / variance)

without = OptaxEstimator(root_length, params, absolute_sigma=True)
without.fit(X_early, y_early, weight)
show(without)

# %%
# The fit has converged, and says next to nothing about three of its parameters. Why is
# what ``identifiability`` answers:

print(without.identifiability().worst)

# %%
# With what is known beforehand
# -----------------------------
# A seed that germinates and then stops growing has a root of some millimetres: half a
# centimetre, give or take as much. That is a normal prior for the lower plateau; the
# other parameters have none.

prior = Normal(mean=0.5, sd=0.5)
stabilised = clone(without).set_params(params__lower__prior=prior)
stabilised.fit(X_early, y_early, weight)
show(stabilised)

# %%
# The plateau is what the prior says, for these data say nothing about it. But given
# that, they do determine the median effective dose, and it agrees with the whole
# trial's. Errors and intervals are now those of the posterior, near its mode.
#
# A result that leans on a prior has to be shown with other ones. Their numbers are
# arguments of the compiled program, as all numbers are, so that this costs next to
# nothing:

for sd in (0.1, 0.25, 0.5, 1.0, 2.0):
    stabilised.set_params(params__lower__prior__sd=sd).fit(X_early, y_early, weight)
    value, error = stabilised.params_["ec50"], stabilised.stderr_["ec50"]
    print(f"sd of the prior {sd:<4}  ec50 {value:.2f} +- {error:.2f}")

# %%
# The dose hardly moves; how certain it is depends on how certain the plateau is.
#
# Both curves with their bands for the mean, and in open circles the responses that
# neither has seen:

stabilised.set_params(params__lower__prior=prior).fit(X_early, y_early, weight)
figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
for ax, fit, title in zip(
    axes, (without, stabilised), ("without a prior", "with a prior"), strict=True
):
    FitDisplay.from_estimator(
        fit,
        X_early,
        y_early,
        grid=np.linspace(0.0, 30.0, 601),
        bands="confidence",
        with_residuals=False,
        ax=ax,
    )
    ax.plot(X[~early], y[~early], "o", color="0.3", mfc="none", label="held back")
    ax.set_xscale("symlog", linthresh=1.0)
    ax.set(title=title, xlabel="ferulic acid (mM)", ylim=(-8.0, 12.0))
axes[0].set_ylabel("root length (cm)")
axes[1].set_ylabel("")
axes[1].legend()
plt.show()
