"""
A differential equation
=======================

The Hudson's Bay Company counted the pelts it bought: lynxes, and the hares that they
live on. Lotka and Volterra's equations, solved by diffrax, are fitted to twenty-one
years of them, with reverse- and with forward-mode differentiation.
"""

from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone

import skoptax
from skoptax import OptaxEstimator, Parameter

try:
    HERE = Path(__file__).parent
except NameError:  # in a gallery
    HERE = Path.cwd()
pelts = pd.read_csv(HERE / "data" / "lynx_hare.csv", comment="#")
print(pelts.head(3).to_string(index=False))

# %%
# The model
# ---------
# The solution at the years of the data. The numbers in the first year are parameters
# too, since they are counted no better than the others. Counts err in proportion, so
# model and data are logarithms.


def change(t, numbers, rates):
    """Return how fast the numbers of hares and lynxes change."""
    hares, lynxes = numbers
    birth, hunting, growth, death = rates
    return (
        birth * hares - hunting * hares * lynxes,
        growth * hares * lynxes - death * lynxes,
    )


def solve(adjoint, year, numbers, rates):
    """Return the logarithms of both numbers, a column each."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(change),
        diffrax.Tsit5(),
        t0=1900.0,
        t1=1920.0,
        dt0=0.1,
        y0=numbers,
        args=rates,
        saveat=diffrax.SaveAt(ts=year),
        stepsize_controller=diffrax.PIDController(rtol=1e-7, atol=1e-7),
        adjoint=adjoint,
    )
    return jnp.log(jnp.stack(solution.ys, axis=1))


# %%
# diffrax wants to know which derivatives are to come (its ``DirectAdjoint`` can do
# both, and is slower). Forward mode costs one more
# solution per parameter, and no memory; reverse mode, diffrax's default, pays where
# there are many parameters, as with a network in the equation.


def forward(year, hares, lynxes, birth, hunting, growth, death):
    """Return the solution, for ``mode="fwd"``."""
    rates = (birth, hunting, growth, death)
    return solve(diffrax.ForwardMode(), year, (hares, lynxes), rates)


def reverse(year, hares, lynxes, birth, hunting, growth, death):
    """Return the solution, for ``mode="rev"``."""
    rates = (birth, hunting, growth, death)
    adjoint = diffrax.RecursiveCheckpointAdjoint()
    return solve(adjoint, year, (hares, lynxes), rates)


# %%
# The fit
# -------
# The years are an array of doubles, and so the fit is in double precision, though JAX
# itself stays as it is. That is what the tolerance of the solver needs: with
# ``dtype="float32"`` it could be no smaller than about 1e-5.
#
# One solution runs through all the years, which have to stand in their order: the rows
# are no units of their own. ``row_independent=False`` says so, and saves the analysis
# that would find it out.

start = {
    "hares": Parameter(value=30.0, lower=0.0),
    "lynxes": Parameter(value=4.0, lower=0.0),
    "birth": Parameter(value=0.5, lower=0.0),
    "hunting": Parameter(value=0.025, lower=0.0),
    "growth": Parameter(value=0.025, lower=0.0),
    "death": Parameter(value=0.8, lower=0.0, upper=2.0),
}
X = pelts[["year"]].to_numpy(dtype=float)
y = np.log(pelts[["hare", "lynx"]].to_numpy())
by_forward = OptaxEstimator(forward, start, mode="fwd", row_independent=False)
by_forward.fit(X, y)
print(f"{by_forward.status_} after {by_forward.n_iter_} steps")
table = by_forward.summary()[["value", "stderr", "ci_lower", "ci_upper"]]
print(table.to_string(float_format="{:.6f}".format))
print(by_forward.covariance_.dtype, jax.config.jax_enable_x64)

# %%
# Reverse mode finds the same, and another fit, of a clone from another start, compiles
# nothing.

by_reverse = OptaxEstimator(reverse, start, row_independent=False).fit(X, y)
before = skoptax.cache_info().compilations
again = clone(by_reverse).set_params(params__birth__value=0.6).fit(X, y)
for other in (by_reverse, again):
    difference = max(
        abs(other.params_[name] / value - 1.0)
        for name, value in by_forward.params_.items()
    )
    errors = max(
        abs(other.stderr_[name] / value - 1.0)
        for name, value in by_forward.stderr_.items()
    )
    print(f"values agree within {difference:.0e}, standard errors within {errors:.0e}")
print(f"programs compiled again: {skoptax.cache_info().compilations - before}")

# %%
# The curves through the counts:

years = np.linspace(1900.0, 1920.0, 201)
curves = np.exp(by_forward.predict(years[:, None]))
figure, ax = plt.subplots(layout="constrained")
for k, name in enumerate(("hare", "lynx")):
    ax.plot(years, curves[:, k], color=f"C{k}", label=name)
    ax.plot(pelts["year"], pelts[name], "o", color=f"C{k}")
ax.set(xlabel="year", ylabel="pelts (thousands)")
ax.legend()
