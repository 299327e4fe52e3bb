"""
Counts with an exposure
=======================

Cases of breast cancer in 301 counties, of 445 to 88,456 people: a Poisson
regression with a logarithmic link and an exposure. The digits are those of statsmodels'
generalised linear model. The textbook's standard errors turn out to be too small, and a
robust covariance mends them.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import statsmodels.api as sm

from skoptax import OptaxEstimator, Parameter
from skoptax.plots import FitDisplay

data = sm.datasets.cancer.load_pandas().data
X, y = data[["population"]], data["cancer"]
print(data.describe().loc[["count", "min", "50%", "max"]].to_string())

# %%
# The model
# ---------
# ``loss="poisson"`` wants the mean of the counts, not its logarithm: the link is the
# ``exp`` that the model ends with, and the exposure is a factor before it. (An offset
# would be a term inside.) The question is whether the risk of a person depends on the
# size of the county.


def cases(population, log_risk, slope):
    """Return the expected number of cases."""
    return population * jnp.exp(log_risk + slope * jnp.log(population / 10_000.0))


start = {"log_risk": -5.0, "slope": 0.0}
fit = OptaxEstimator(cases, start, loss="poisson").fit(X, y)

# %%
# Beside statsmodels
# ------------------

design = sm.add_constant(np.log(X / 10_000.0))
glm = sm.GLM(y, design, family=sm.families.Poisson(), exposure=X["population"])
theirs = glm.fit()
found = fit.summary()
table = pd.DataFrame(
    {
        "skoptax": found["value"],
        "statsmodels": theirs.params.to_numpy(),
        "skoptax stderr": found["stderr"],
        "statsmodels stderr": theirs.bse.to_numpy(),
    }
)
print(table.to_string(float_format="{:.8f}".format))

# %%
# More scatter than Poisson's
# ---------------------------
# Of a Poisson law Pearson's statistic would be near its degrees of freedom, and
# nineteen counties of twenty within their prediction intervals.

mean = fit.predict(X)
pearson = np.sum((y - mean) ** 2 / mean) / (len(y) - 2)
low, high = fit.predict_interval(X, kind="prediction").T
inside = np.mean((y >= low) & (y <= high))
print(f"Pearson's chi-square per degree of freedom: {pearson:.2f}")
print(f"counties within their 95 % prediction interval: {100 * inside:.0f} %")

# %%
FitDisplay.from_estimator(fit, X, y)

# %%
# They scatter more than that: counties differ in what the model does not know, such as
# the age of their people. The estimates are still good; their errors are not.
# ``cov_type="HC0"`` takes the scatter as it is, and statsmodels has it by the same
# name.

robust = OptaxEstimator(cases, start, loss="poisson", cov_type="HC0").fit(X, y)
found = robust.summary()
table = pd.DataFrame(
    {
        "stderr": fit.summary()["stderr"],
        "robust stderr": found["stderr"],
        "statsmodels HC0": glm.fit(cov_type="HC0").bse.to_numpy(),
    }
)
print(table.to_string(float_format="{:.8f}".format))
print(f"p value of the slope: {found.loc['slope', 'p_value']:.2f}")

# %%
# The errors are up to twice as large. There is no sign that the risk depends on the
# size of the county, and what is left to say is how large it is:

alone = {"log_risk": -5.0, "slope": Parameter(value=0.0, free=False)}
constant = OptaxEstimator(cases, alone, loss="poisson", cov_type="HC0").fit(X, y)
ends = np.exp(constant.confidence_intervals().loc["log_risk"])
risk = np.exp(constant.params_["log_risk"])
print("cases per 1000: {:.3f} ({:.3f} to {:.3f})".format(*1e3 * np.r_[risk, ends]))
plt.show()
