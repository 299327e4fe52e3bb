"""
Three optimisers, one start
===========================

Adam, L-BFGS and Levenberg-Marquardt fit NIST's Chwirut1 from the same start values. How
the loss falls and where the parameters go says most of what there is to say about
choosing between them.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone

from skoptax import OptaxEstimator
from skoptax.plots import LossCurveDisplay, ParameterTraceDisplay

try:
    HERE = Path(__file__).parent
except NameError:  # in a gallery
    HERE = Path.cwd()
nist = json.loads((HERE / "data" / "chwirut1.json").read_text())
X, y = np.c_[nist["x"]], np.array(nist["y"])


def response(distance, b1, b2, b3):
    """Return the ultrasonic response at a distance in metal."""
    return jnp.exp(-b1 * distance) / (b2 + b3 * distance)


# %%
# The fits
# --------
# Adam needs a learning rate, and has no tolerance by default: it takes all the steps it
# is given. These are about as long as the learning rate, whatever the gradient is, so
# that 0.001 suits the smallest parameters, which are some thousandths.

plain = OptaxEstimator(response, {"b1": 0.1, "b2": 0.01, "b3": 0.02}, max_steps=2000)
choices = {
    "adam": {"optimizer": "adam", "learning_rate": 0.001},
    "lbfgs": {"optimizer": "lbfgs"},
    "lm": {"optimizer": "lm"},
}
fits = {name: clone(plain).set_params(**set_) for name, set_ in choices.items()}
for name, fit in fits.items():
    fit.fit(X, y)
    found = np.array(list(fit.params_.values()))
    digits = -np.log10(np.abs(found / nist["certified"] - 1.0).max())
    print(
        f"{name:<6} {fit.n_iter_:>5} steps  {fit.status_:<10}"
        f" {digits:.1f} digits of the certified values"
    )

# %%
# The paths
# ---------
# Levenberg-Marquardt sees the residuals one by one, and L-BFGS learns the curvature
# from gradients, with several evaluations to a step. Adam knows only how large
# gradients have been: it is down in the valley at once, and then follows it at the pace
# that the learning rate sets. With both Adam and L-BFGS the loss looks flat while
# ``b1`` has hardly moved, which is why a tolerance is about gradients.

figure, axes = plt.subplots(4, 3, figsize=(10, 8), layout="constrained")
for column, (name, fit) in zip(axes.T, fits.items(), strict=True):
    LossCurveDisplay.from_estimator(fit, ax=column[0])
    ParameterTraceDisplay.from_estimator(fit, ax=column[1:])
    column[0].set_title(name)

# %%
# Which to take
# -------------
# For up to some hundred parameters and a loss of residuals, Levenberg-Marquardt, which
# is what ``optimizer="auto"`` takes. For more of them, or for losses that it does not
# know, L-BFGS. For batches of rows, and for networks, Adam and its relatives; there the
# learning rate belongs into a search.
