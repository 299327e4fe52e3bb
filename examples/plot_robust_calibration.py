"""
A calibration with an outlier
=============================

James Forbes carried a thermometer and a barometer into the mountains: if the boiling
point of water gives the pressure of the air, travellers can leave the fragile barometer
at home. One of his seventeen measurements is a gross error. Least squares gives in to
it; losses that grow more slowly do not.
"""

from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skoptax import OptaxEstimator
from skoptax.losses import Cauchy, Huber
from skoptax.plots import FitDisplay, ParameterEstimatesDisplay, ResidualsDisplay

try:
    HERE = Path(__file__).parent
except NameError:  # in a gallery
    HERE = Path.cwd()
data = pd.read_csv(HERE / "data" / "forbes.csv", comment="#")
X = data[["boiling_point"]]
y = 100.0 * np.log10(data["pressure"]).rename("100 log10 pressure")

# %%
# The calibration line
# --------------------
# Over so few degrees the logarithm of the pressure is a straight line. The level is
# that at 200 degrees Fahrenheit, amid the data, so that it hardly depends on the
# slope.


def line(boiling_point, level, slope):
    """Return a hundred times the decimal logarithm of the pressure."""
    return level + slope * (boiling_point - 200.0)


def fitted(loss):
    """Fit the line by a loss."""
    return OptaxEstimator(line, {"level": 130.0, "slope": 1.0}, loss=loss).fit(X, y)


squares = fitted("squared_error")
print(squares.summary()[["value", "stderr"]].to_string(float_format="{:.4f}".format))
ResidualsDisplay.from_estimator(squares, X, y, kinds=["predicted", "quantiles"])

# %%
# One point stands out, and has pulled the line so far up that most of the others are
# below it. Nearly all of the standard errors comes from its residual.
#
# Losses for outliers
# -------------------
# Their scale is **in units of y**, and none is estimated: what is an outlier depends
# on how large residuals usually are. The median of their sizes tells, times 1.4826 for
# normal noise. Huber's loss is fitted at that scale, and the scale taken again, until
# both agree. All these fits are one compiled program.


def usual_size(estimator):
    """Return the normalised median of the residuals' sizes."""
    return 1.4826 * np.median(np.abs(y - estimator.predict(X)))


huber = fitted(Huber(delta=1.345 * usual_size(squares)))
for _ in range(30):
    huber.set_params(loss__delta=1.345 * usual_size(huber)).fit(X, y)
scale = float(usual_size(huber))
print(f"residuals are usually of size {scale:.4f}")

# %%
# Cauchy's loss lets go of far outliers altogether. A loss of one's own is a function,
# here the smooth relative of Huber's that SciPy calls soft L1.


def soft_l1(y_true, y_pred):
    """Return twice the scale's square times the root's excess over 1."""
    return scale**2 * (jnp.sqrt(1.0 + ((y_pred - y_true) / scale) ** 2) - 1.0)


fits = {
    "squared error": squares,
    "Huber": huber,
    "soft L1": fitted(soft_l1),
    "Cauchy": fitted(Cauchy(scale=2.385 * scale)),
}
columns = {}
for name, fit in fits.items():
    columns[name] = [*fit.params_.values(), *fit.stderr_.values()]
index = ["level", "slope", "level stderr", "slope stderr"]
table = pd.DataFrame(columns, index=index)
print(table.to_string(float_format="{:.6f}".format))

# %%
# The three agree with each other, and their standard errors are about a third of those
# of least squares.

display = ParameterEstimatesDisplay.from_estimators(fits, names=["slope"])
display.ax_.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

# %%
# Beside the robust line the outlier is no matter of taste: it is eleven times as far
# off as residuals usually are, and nothing else is twice as far. The band is for the
# line; one for new measurements would suppose the outlier's share of gross errors to
# go on, spread over all of them.

residual = (y - huber.predict(X)) / scale
print(residual.abs().nlargest(3).to_string(float_format="{:.1f}".format))
FitDisplay.from_estimator(huber, X, y, bands="confidence")
plt.show()
