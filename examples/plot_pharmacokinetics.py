"""
Pharmacokinetics of one dose
============================

A subject swallowed theophylline, and its concentration in the serum was measured for a
day. The drug is absorbed and eliminated at rates in proportion to what is left: a
compartment model with three parameters. What the clinic asks for is derived from them,
with its errors: the half-life, the time of the highest concentration, the exposure.
"""

from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skoptax import OptaxEstimator, Parameter
from skoptax.plots import FitDisplay, ProfileDisplay

try:
    HERE = Path(__file__).parent
except NameError:  # in a gallery
    HERE = Path.cwd()
data = pd.read_csv(HERE / "data" / "theophylline.csv", comment="#")
X, y = data[["time"]], data["concentration"]
DOSE = 4.02  # mg per kg of body weight

# %%
# The model
# ---------
# ``absorption`` and ``elimination`` are rates per hour, ``clearance`` is the volume of
# serum that is cleared in an hour, in litres per kg of body weight. All are positive,
# and known to within a factor rather than a difference: the optimiser steps in their
# logarithms.
#
# The same curve belongs to both rates exchanged. The start values decide which of the
# two is found: here that absorption is the faster one, as it is with tablets of
# theophylline.


def serum(params, time):
    """Return the concentration after an oral dose at time 0."""
    ka, ke = params["absorption"], params["elimination"]
    height = DOSE * ka * ke / (params["clearance"] * (ka - ke))
    return height * (jnp.exp(-ke * time) - jnp.exp(-ka * time))


start = {
    "absorption": Parameter(value=1.0, transform="log"),
    "elimination": Parameter(value=0.1, transform="log"),
    "clearance": Parameter(value=0.05, transform="log"),
}

# %%
# Derived quantities
# ------------------
# A tied parameter is a function of others. A model whose argument is called ``params``
# gets all parameters and need not use each, so that ties do for what is only to be
# reported. Their standard errors are those of the delta method, correlations included.


def half_life(elimination):
    """Return the hours in which half of the drug is eliminated."""
    return jnp.log(2.0) / elimination


def time_of_peak(absorption, elimination):
    """Return when the concentration is highest."""
    return jnp.log(absorption / elimination) / (absorption - elimination)


def exposure(clearance):
    """Return the area under the curve, to infinity."""
    return DOSE / clearance


derived = {
    "half_life": Parameter(tie=half_life),
    "time_of_peak": Parameter(tie=time_of_peak),
    "exposure": Parameter(tie=exposure),
}
subject = OptaxEstimator(serum, start | derived).fit(X, y)
table = subject.summary()[["value", "stderr", "ci_lower", "ci_upper"]]
print(table.to_string(float_format="{:.6f}".format))

# %%
# The half-life is known to a sixth of itself only: five of the eleven samples are of
# the hours after the fourth, in which the drug disappears, and one is of the night.
#
# How far these intervals can be trusted
# --------------------------------------
# They are symmetric, which the objective is not. Profiles follow it: one parameter is
# held and the others are fitted anew. The interval of a function of a single parameter
# is that function of its ends, the half-life's too.

intervals = subject.confidence_intervals(X, y, method="profile")
print(intervals.to_string(float_format="{:.6f}".format))
ends = half_life(intervals.loc["elimination"].to_numpy())
print("half-life from {1:.1f} to {0:.1f} hours".format(*ends))

# %%
# Where the solid line leaves the parabola of the standard error, the interval from the
# latter is wrong: the rates may be higher than it says, and are hardly as low.

ProfileDisplay.from_estimator(subject, X, y, names=["absorption", "elimination"])

# %%
# The curve
# ---------
# The inner band is for the mean, the outer one for a new sample. The first sample, at
# time 0, was not 0: the subject had some of the drug in the blood already, which this
# model has no place for. All samples count as equally precise, and the prediction band
# shows what that means at low concentrations.

fit = FitDisplay.from_estimator(subject, X, y, grid=np.linspace(0.0, 25.0, 301))
peak, error = subject.params_["time_of_peak"], subject.stderr_["time_of_peak"]
fit.ax_[0].axvspan(peak - error, peak + error, color="0.85", zorder=0)
fit.ax_[1].set_xlabel("hours since the dose")
fit.ax_[0].set_ylabel("theophylline (mg/l)")
plt.show()
