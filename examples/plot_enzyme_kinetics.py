"""
Enzyme kinetics, two experiments in one fit
===========================================

Puromycin changes an enzyme. Does it change how fast the enzyme is when it is saturated,
how well it binds its substrate, or both? Michaelis and Menten's law is fitted to cells
with and without the antibiotic at once, first with parameters of their own, then with
one that both share.
"""

from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skoptax import OptaxEstimator, Parameter
from skoptax.inference import compare
from skoptax.plots import FitDisplay, ParameterEstimatesDisplay

try:
    HERE = Path(__file__).parent
except NameError:  # in a gallery
    HERE = Path.cwd()
data = pd.read_csv(HERE / "data" / "puromycin.csv", comment="#")
X, y = data[["concentration", "treated"]], data["rate"]
print(data.groupby("treated")["rate"].describe()[["count", "min", "max"]])

# %%
# A global fit
# ------------
# Both experiments are rows of one table, and the column ``treated`` says which one a
# row is of. Each has its own largest rate, reached with substrate in excess, and its
# own Michaelis constant, the concentration at which the rate is half of that.


def rate(
    concentration, treated, vmax_treated, vmax_untreated, km_treated, km_untreated
):
    """Return the initial rate."""
    vmax = jnp.where(treated == 1, vmax_treated, vmax_untreated)
    km = jnp.where(treated == 1, km_treated, km_untreated)
    return vmax * concentration / (km + concentration)


params = {
    "vmax_treated": Parameter(value=200.0, lower=0.0),
    "vmax_untreated": Parameter(value=150.0, lower=0.0),
    "km_treated": Parameter(value=0.1, lower=0.0),
    "km_untreated": Parameter(value=0.1, lower=0.0),
}
separate = OptaxEstimator(rate, params).fit(X, y)
columns = ["value", "stderr", "ci_lower", "ci_upper"]
print(separate.summary()[columns].to_string(float_format="{:.5f}".format))

# %%
# The estimates are those of two fits of one experiment each. What the global fit adds
# is one variance for both, from 19 degrees of freedom, and the means to compare them.
#
# One constant for both
# ---------------------
# A tie makes one parameter a function of others, here the constant of the untreated
# cells that of the treated ones. The model stays as it is.


def same(km_treated):
    """Return the other constant."""
    return km_treated


tied = params | {"km_untreated": Parameter(tie=same)}
shared = OptaxEstimator(rate, tied).fit(X, y)
print(shared.summary()[columns].to_string(float_format="{:.5f}".format))

# %%
# Which of them do the data ask for? The smaller model is a special case of the larger
# one, so that the F test applies. It stands in the row of the smaller model.

table = compare(separate, shared)
table.index = ["separate constants", "shared constant"]
print(table[["n_params", "aicc", "f_value", "f_p_value"]].to_string())

# %%
# A second constant is not called for: p is 0.21, and the corrected information
# criterion is lower without it. The largest rates differ by far more than their
# errors. So puromycin makes the enzyme faster, and there is no sign that it binds its
# substrate in another way; but the intervals of the two constants are wide, and this
# is no proof.

ParameterEstimatesDisplay.from_estimators(
    {"separate": separate, "shared": shared}, scale="relative"
)

# %%
# The curves of the shared constant, with a band for the mean rate and one for new
# measurements:

figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
for ax, treated in zip(axes, (0, 1), strict=True):
    rows = data["treated"] == treated
    FitDisplay.from_estimator(
        shared,
        X[rows],
        y[rows],
        feature="concentration",
        held={"treated": treated},
        grid=np.linspace(0.0, 1.15, 231),
        with_residuals=False,
        scatter_kwargs={"label": "data"},
        ax=ax,
    )
