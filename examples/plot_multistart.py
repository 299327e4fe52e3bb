"""
Many starts
===========

BoxBOD, of NIST's reference problems, is six measurements and two parameters, and is
rated as difficult: from many a start value the fit runs off to where the curve is
flat, and stays there. ``n_starts`` fits from many at once, in one program, and keeps
the best.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from skoptax import OptaxEstimator, Parameter
from skoptax.plots import StartsDisplay

try:
    HERE = Path(__file__).parent
except NameError:  # in a gallery
    HERE = Path.cwd()
nist = json.loads((HERE / "data" / "boxbod.json").read_text())
X, y = np.c_[nist["x"]], np.array(nist["y"])


def demand(days, b1, b2):
    """Return the oxygen demand: it approaches b1 at the rate b2."""
    return b1 * (1.0 - jnp.exp(-b2 * days))


# %%
# From 64 starts
# --------------
# The first one is NIST's own, 1 and 1. The others are spread from a tenth to ten times
# of it, evenly over the logarithm, as nothing else is known about the parameters.

est = OptaxEstimator(demand, {"b1": 1.0, "b2": 1.0}, n_starts=64, random_state=0)
est.fit(X, y)
for (name, value), certified in zip(
    est.params_.items(), nist["certified"], strict=True
):
    print(f"{name}  estimate {value:.8f}  certified {certified:.8f}")

# %%
# ``starts_`` has a row for each. They have come to two ends only, and the status tells
# which is none: on a ``plateau`` the predictions no longer depend on a parameter.

ends = est.starts_.assign(residual_squares=2 * len(y) * est.starts_["loss"])
ends = ends.groupby(["status", ends["residual_squares"].round(4)])
table = ends.agg(starts=("b1", "size"), b1=("b1", "median"), b2=("b2", "median"))
print(table.to_string(float_format="{:.4g}".format))
print(f"certified sum of squares: {nist['rss']:.4f}")

# %%
# Which starts end where
# ----------------------
# On the left, the starts on a map of the objective, which is the darker the larger it
# is. With a rate above about 2 per day even the first measurement is on the flat part
# of the curve, where nothing says that a lower rate would be better. How far off
# ``b1`` begins hardly matters. On the right, the losses in their order: the broad step
# at the bottom says that the lowest optimum has been found many times, and is no
# accident.

rate = np.geomspace(0.05, 20.0, 121)
height = np.geomspace(0.1, 1000.0, 121)
heights, rates = np.meshgrid(height, rate, indexing="ij")
curves = heights[..., None] * (1.0 - np.exp(-rates[..., None] * X[:, 0]))
objective = np.mean((curves - y) ** 2, axis=-1) / 2
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4), layout="constrained")
left.contourf(rate, height, np.log10(objective), levels=20, cmap="Greys", alpha=0.8)
for status, color, shape in (("converged", "C0", "o"), ("plateau", "C1", "^")):
    rows = est.starts_.query("status == @status")
    left.plot(rows["start__b2"], rows["start__b1"], shape, color=color, label=status)
left.plot(*nist["certified"][::-1], "*", color="C3", markersize=14, label="certified")
left.set(xscale="log", yscale="log", xlabel="b2 (per day)", ylabel="b1 (mg/l)")
left.legend()
StartsDisplay.from_estimator(est, ax=right)

# %%
# What one knows helps more
# -------------------------
# With bounds, starts are spread over these. That a demand of some 200 mg/l does not end
# above 1000, and that days and not minutes matter, is known before any fit; then no
# start is lost, and eight would have been enough.

bounds = {
    "b1": Parameter(value=1.0, lower=0.0, upper=1000.0),
    "b2": Parameter(value=1.0, lower=0.0, upper=5.0),
}
bounded = OptaxEstimator(demand, bounds, n_starts=64, random_state=0).fit(X, y)
print(bounded.starts_["status"].value_counts().to_string())
