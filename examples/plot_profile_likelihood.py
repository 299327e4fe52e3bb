"""
Profile likelihood
==================

A standard error supposes that the objective is a parabola about the estimate. With six
measurements and a curve that bends it is not: NIST's BoxBOD shows by how much, in
intervals for one parameter and in regions for two.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skoptax import OptaxEstimator
from skoptax.plots import ProfileDisplay

try:
    HERE = Path(__file__).parent
except NameError:  # in a gallery
    HERE = Path.cwd()
nist = json.loads((HERE / "data" / "boxbod.json").read_text())
X, y = np.c_[nist["x"]], np.array(nist["y"])


def demand(days, b1, b2):
    """Return the oxygen demand: it approaches b1 at the rate b2."""
    return b1 * (1.0 - jnp.exp(-b2 * days))


est = OptaxEstimator(demand, {"b1": 100.0, "b2": 0.75}).fit(X, y)
for name, certified in zip(est.stderr_, nist["certified_sd"], strict=True):
    print(f"{name}  standard error {est.stderr_[name]:.7f}  certified {certified:.7f}")

# %%
# Two kinds of intervals
# ----------------------
# Wald's, of 90 %, is the estimate plus and minus 2.13 standard errors (the t
# distribution with four degrees of freedom). The profile's ends are where a fit with
# that parameter held there, the other one fitted anew, is worse by what an F test at
# 10 % allows.

wald = est.confidence_intervals(level=0.9)
profile = est.confidence_intervals(X, y, method="profile", level=0.9)
table = pd.concat({"by standard error": wald, "by profile": profile}, axis=1)
print(table.to_string(float_format="{:.4f}".format))

# %%
# The lower ends move up, and the upper ends move out: a rate of 0.85 per day, which
# Wald's interval rules out, is within the other. The picture has the reason. Towards
# small rates the objective rises faster than the parabola, towards large ones more
# slowly, since a faster curve changes little more.

display = ProfileDisplay.from_estimator(est, X, y, levels=[0.5, 0.9])
display.figure_.suptitle("Rise of the objective, in squared t statistics")

# %%
# As a straight line
# ------------------
# By ``kind="tau"`` a profile is a t statistic with its sign, and the parabola a
# straight line: whether standard errors will do is seen at a glance. It is also a
# matter of what is called the parameter. With the logarithm of the rate the model is
# the same, and so is the fit, but the profile is straighter.


def by_logarithm(days, b1, log_b2):
    """Return the same curve, by the logarithm of its rate."""
    return b1 * (1.0 - jnp.exp(-jnp.exp(log_b2) * days))


other = OptaxEstimator(by_logarithm, {"b1": 100.0, "log_b2": 0.0}).fit(X, y)
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.5), layout="constrained")
for fit, name, ax in ((est, "b2", axes[0]), (other, "log_b2", axes[1])):
    ProfileDisplay.from_estimator(
        fit, X, y, names=name, levels=[0.9], kind="tau", ax=ax
    )
wald = np.exp(other.confidence_intervals(level=0.9).loc["log_b2"])
profile = other.confidence_intervals(X, y, method="profile", level=0.9)
profile = np.exp(profile.loc["log_b2"])
print("rate, by the standard error of its logarithm: {:.4f} to {:.4f}".format(*wald))
print("rate, by the profile of its logarithm:        {:.4f} to {:.4f}".format(*profile))

# %%
# The interval by the standard error has moved towards the other one. The profile's is
# what it was: it does not care how the model is written.
#
# Two at once
# -----------
# The region for both parameters is bent like a banana, where standard errors and the
# correlation make an ellipse: it takes in pairs that do not fit, and leaves out others
# that do.

figure, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
ProfileDisplay.from_estimator(est, X, y, names=[("b1", "b2")], levels=[0.5, 0.8], ax=ax)
