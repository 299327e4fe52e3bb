"""
Peaks on a background
=====================

Two lines of a spectrum overlap on a falling background. Bounds keep the peaks apart and
their widths positive; the result is held against the certified values of NIST, whose
problem Gauss3 this is.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
from sklearn.base import clone

from skoptax import OptaxEstimator, Parameter
from skoptax.inference import compare
from skoptax.plots import FitDisplay, ResidualsDisplay

try:
    HERE = Path(__file__).parent
except NameError:  # in a gallery
    HERE = Path.cwd()
nist = json.loads((HERE / "data" / "gauss3.json").read_text(encoding="utf-8"))
X, y = np.c_[nist["x"]], np.array(nist["y"])

# %%
# The model
# ---------
# The peaks' heights, centres and widths are arrays with an entry for each peak, so
# that one function does for any number of them. Bounds are arrays too, or numbers that
# hold for all entries.


def spectrum(channel, background, decay, height, center, width):
    """Return an exponential background and Gaussian peaks."""
    distance = (channel[:, None] - center) / width
    peaks = jnp.sum(height * jnp.exp(-(distance**2)), axis=1)
    return background * jnp.exp(-decay * channel) + peaks


two = OptaxEstimator(
    spectrum,
    {
        "background": Parameter(value=100.0, lower=0.0),
        "decay": Parameter(value=0.01, lower=0.0),
        "height": Parameter(value=np.array([80.0, 80.0]), lower=0.0),
        "center": Parameter(
            value=np.array([105.0, 155.0]),
            lower=np.array([80.0, 130.0]),
            upper=np.array([130.0, 180.0]),
        ),
        "width": Parameter(value=np.array([20.0, 20.0]), lower=5.0, upper=50.0),
    },
).fit(X, y)
print(two.status_, two.n_iter_)

# %%
# Beside the certified values
# ---------------------------
# NIST numbers the parameters peak by peak. What it calls standard deviations are
# standard errors of the estimates.

found = two.summary()
order = ["background", "decay"]
order += [f"{name}[{k}]" for k in (0, 1) for name in ("height", "center", "width")]
table = pd.DataFrame(
    {
        "value": found.loc[order, "value"],
        "certified": nist["certified"],
        "stderr": found.loc[order, "stderr"],
        "certified stderr": nist["certified_sd"],
    }
)
print(table.to_string(float_format="{:.10e}".format))
squares = np.sum((y - two.predict(X)) ** 2)
print(f"residual sum of squares: {squares:.7f}, certified: {nist['rss']:.7f}")

# %%
# How many peaks?
# ---------------
# The same function has one peak with shorter arrays, and three with longer ones.


def with_peaks(centers):
    """Return the estimator for peaks near these centres, unfitted."""
    centers = np.array(centers)
    return clone(two).set_params(
        params__height__value=np.full(len(centers), 50.0),
        params__center__value=centers,
        params__center__lower=centers - 25.0,
        params__center__upper=centers + 25.0,
        params__width__value=np.full(len(centers), 20.0),
    )


fits = {
    "one": with_peaks([120.0]).fit(X, y),
    "two": two,
    "three": with_peaks([105.0, 155.0, 205.0]).fit(X, y),
}
table = compare(*fits.values()).set_axis(list(fits))
print(table[["n_params", "aicc", "delta_aicc", "weight"]].round(2).to_string())

third = fits["three"].summary().loc[["height[2]", "width[2]"]]
print(third[["value", "stderr", "at_bound"]].to_string())

# %%
# Two it is. The third peak is as narrow as its bound lets it be, and its height is
# within two standard errors of nothing: it has found noise.

display = FitDisplay.from_estimator(two, X, y, bands="prediction")
background = two.params_["background"] * np.exp(-two.params_["decay"] * X[:, 0])
display.ax_[0].plot(X[:, 0], background, "k:", label="background")
display.ax_[0].set_ylabel("intensity")
display.ax_[0].legend()

# %%
# What is left has no pattern: it is even about zero, normal, and not correlated with
# its neighbours.

ResidualsDisplay.from_estimator(two, X, y)
