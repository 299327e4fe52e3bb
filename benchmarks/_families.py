"""Nonlinear regressions of any number of parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from skoptax import OptaxEstimator
from skoptax.penalties import L2

# What responses are off by; predictions are of the order of 1.
_NOISE = 0.05


@dataclass(frozen=True)
class Regression:
    """Data, a model of them, and where to start.

    Parameters
    ----------
    model : callable
        ``model(X, params)``, with arrays as parameters.
    start : dict of str to ndarray
        The parameters' start values.
    X : ndarray of shape (rows, columns)
        The inputs.
    y : ndarray of shape (rows,)
        The responses.
    penalty : Penalty, default=None
        Added to half of the mean squared error.
    """

    model: Callable[..., Any]
    start: dict[str, np.ndarray]
    X: np.ndarray
    y: np.ndarray
    penalty: Any = None

    @property
    def parameters(self) -> int:
        """How many parameters there are, entry by entry."""
        return sum(value.size for value in self.start.values())

    def fit(self, optimizer: str, max_steps: int) -> OptaxEstimator:
        """Return an estimator fitted to the data.

        Parameters
        ----------
        optimizer : str
            Its name.
        max_steps : int
            The most it may take.

        Returns
        -------
        OptaxEstimator
            Fitted.
        """
        estimator = OptaxEstimator(
            self.model,
            self.start,
            optimizer=optimizer,
            max_steps=max_steps,
            penalty=self.penalty,
        )
        return estimator.fit(self.X, self.y)


def _regression(
    model: Callable[..., Any],
    truth: dict[str, np.ndarray],
    start: dict[str, np.ndarray],
    X: np.ndarray,
    penalty: Any = None,
) -> Regression:
    noise = np.random.default_rng(1).normal(size=len(X))
    y = np.asarray(model(X, truth), dtype=float) + _NOISE * noise
    return Regression(model, start, X, y, penalty)


def _peaks(X: Any, params: Any) -> Any:
    apart = (X - params["centre"]) / params["width"]
    powers = (X / params["centre"].size) ** np.arange(params["background"].size)
    return jnp.exp(-(apart**2)) @ params["height"] + powers @ params["background"]


def peaks(parameters: int, rows: int) -> Regression:
    """Return a row of Gaussian peaks: each parameter acts on a part of the rows.

    Parameters
    ----------
    parameters : int
        At least 4. One peak has three of them, the background what is left.
    rows : int
        How many.

    Returns
    -------
    Regression
        Starting close to the truth: a peak that starts on another one's place stays.
    """
    count = (parameters - 1) // 3
    rng = np.random.default_rng(0)
    truth = {
        "centre": np.arange(count) + 0.5 + 0.1 * rng.uniform(-1, 1, count),
        "width": rng.uniform(0.25, 0.35, count),
        "height": rng.uniform(0.7, 1.3, count),
        "background": np.full(parameters - 3 * count, 0.1),
    }
    start = {
        "centre": np.arange(count) + 0.5,
        "width": np.full(count, 0.3),
        "height": np.full(count, 1.0),
        "background": np.zeros(parameters - 3 * count),
    }
    X = np.linspace(0.0, count, rows)[:, None]
    return _regression(_peaks, truth, start, X)


def _network(X: Any, params: Any) -> Any:
    columns = X.shape[1]
    units = params["weights"].reshape(-1, columns + 2)
    hidden = jnp.tanh(X @ units[:, :columns].T + units[:, columns])
    return hidden @ units[:, -1]


def network(parameters: int, rows: int) -> Regression:
    """Return a network of one hidden layer, with a small penalty on its weights.

    Parameters
    ----------
    parameters : int
        Rounded to a multiple of the 5 that a hidden unit has.
    rows : int
        How many.

    Returns
    -------
    Regression
        Starting near the weights that made the data, so that both methods go to the
        same one of its many optima.
    """
    columns = 3
    units = max(round(parameters / (columns + 2)), 1)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(units, columns + 2))
    weights[:, -1] /= np.sqrt(units)
    truth = {"weights": weights.ravel()}
    start = {"weights": truth["weights"] + 0.1 * rng.normal(size=weights.size)}
    X = rng.normal(size=(rows, columns))
    return _regression(_network, truth, start, X, L2(alpha=1e-3))


def _exponential(X: Any, params: Any) -> Any:
    return jnp.exp(X @ params["coef"])


def exponential(parameters: int, rows: int) -> Regression:
    """Return an exponential of a linear predictor: each parameter acts on all rows.

    Parameters
    ----------
    parameters : int
        How many.
    rows : int
        How many.

    Returns
    -------
    Regression
        Starting at zero.
    """
    rng = np.random.default_rng(0)
    truth = {"coef": rng.normal(size=parameters)}
    X = rng.normal(size=(rows, parameters)) / np.sqrt(parameters)
    return _regression(_exponential, truth, {"coef": np.zeros(parameters)}, X)


FAMILIES: dict[str, Callable[[int, int], Regression]] = {
    "peaks": peaks,
    "network": network,
    "exponential": exponential,
}
