"""Models, data, the loop one would write by hand, an estimator that does nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold

from skoptax import OptaxEstimator, cache_info

from ._compiles import compiles

START = {"amplitude": 1.0, "rate": 0.5, "offset": 0.0}


def decay(t: Any, amplitude: Any, rate: Any, offset: Any) -> Any:
    """Return the model of most rows: an exponential decay to an offset."""
    return amplitude * jnp.exp(-rate * t) + offset


def decay_data(rows: int = 503, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return data for `decay`.

    Parameters
    ----------
    rows : int, default=503
        How many; 503 makes folds of two sizes.
    seed : int, default=0
        Of the noise.

    Returns
    -------
    X : ndarray of shape (rows, 1)
        Times.
    y : ndarray of shape (rows,)
        Responses with a little noise.
    """
    rng = np.random.default_rng(seed)
    t = np.linspace(0.0, 4.0, rows)
    y = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.05 * rng.normal(size=rows)
    return t[:, None], y


class HandWritten:
    """What one writes without a library: Adam in a jitted loop, and no more.

    It returns the parameters and their loss, keeps no history, checks nothing and
    handles no bounds.

    Parameters
    ----------
    model : callable
        ``model(inputs, **params)``.
    steps : int
        How many.
    """

    def __init__(self, model: Callable[..., Any], steps: int) -> None:
        def loop(params: Any, learning_rate: Any, inputs: Any, y: Any) -> Any:
            optimizer = optax.adam(learning_rate)

            def loss(params: Any) -> Any:
                return 0.5 * jnp.mean((model(inputs, **params) - y) ** 2)

            def step(_: Any, carry: Any) -> Any:
                params, state, _ = carry
                value, gradient = jax.value_and_grad(loss)(params)
                updates, state = optimizer.update(gradient, state)
                return optax.apply_updates(params, updates), state, value

            start = (params, optimizer.init(params), 0.0 * learning_rate)
            return jax.lax.fori_loop(0, steps, step, start)[::2]

        def predict(params: Any, inputs: Any) -> Any:
            return model(inputs, **params)

        self._loop = jax.jit(loop)
        self._predict = jax.jit(predict)

    def fit(
        self,
        params: Mapping[str, Any],
        learning_rate: float,
        inputs: np.ndarray,
        y: np.ndarray,
    ) -> dict[str, Any]:
        """Return the fitted parameters as NumPy values, in double precision."""
        with jax.enable_x64(True):
            start = {k: np.asarray(v, dtype=float) for k, v in params.items()}
            return jax.device_get(
                self._loop(start, np.float64(learning_rate), inputs, y)
            )[0]

    def predict(self, params: Mapping[str, Any], inputs: np.ndarray) -> np.ndarray:
        """Return predictions."""
        with jax.enable_x64(True):
            return np.asarray(self._predict(dict(params), inputs))


class NothingEstimator(RegressorMixin, BaseEstimator):
    """An estimator that does nothing: what is left is the search's own time.

    Parameters
    ----------
    learning_rate : float, default=None
        Not used.
    """

    def __init__(self, learning_rate: float | None = None) -> None:
        self.learning_rate = learning_rate

    def fit(self, X: np.ndarray, y: np.ndarray) -> NothingEstimator:
        """Do nothing."""
        self.fitted_ = True
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return zeros."""
        return np.zeros(len(X))


class CountingEstimator(OptaxEstimator):
    """An estimator that notes what each fit compiles and how far it goes."""

    # Shared by all clones: a search makes many.
    fits: ClassVar[list[tuple[int, int]]] = []

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CountingEstimator:
        """Fit, and note the programs compiled and the steps made."""
        before = compiles()
        super().fit(X, y, sample_weight)
        self.fits.append((compiles() - before, self.n_iter_))
        return self


class Recorder:
    """A scorer that notes, per process, how many programs were compiled so far.

    Parameters
    ----------
    folder : str
        Where each process writes a file of its own.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, estimator: Any, X: np.ndarray, y: np.ndarray) -> float:
        """Return the coefficient of determination."""
        score = r2_score(y, estimator.predict(X))
        counts = {"jax": compiles(), "skoptax": cache_info().compilations}
        file = Path(self.folder, f"{os.getpid()}.json")
        file.write_text(json.dumps(counts), encoding="ascii")
        return score

    def per_process(self) -> list[dict[str, int]]:
        """Return what each process has written last."""
        files = sorted(Path(self.folder).glob("*.json"))
        return [json.loads(file.read_text(encoding="ascii")) for file in files]


class DecaySearch:
    """The search of the first row, in one place for all rows that run it.

    Parameters
    ----------
    smoke : bool
        Whether it is tiny.
    """

    def __init__(self, smoke: bool) -> None:
        self.smoke = smoke
        self.steps = 50 if smoke else 1000
        self.rates = np.logspace(-3, -1, 2 if smoke else 30).tolist()
        self.folds = KFold(2 if smoke else 5, shuffle=True, random_state=0)
        # The odd number makes folds of two sizes, which a smoke run has no time for.
        self.X, self.y = decay_data(500 if smoke else 503)

    def estimator(self, kind: Any = OptaxEstimator, model: Any = decay) -> Any:
        """Return the estimator to search over."""
        return kind(model, START, optimizer="adam", max_steps=self.steps)

    def run(
        self,
        estimator: Any,
        grid: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> GridSearchCV:
        """Search over the learning rate, or another grid."""
        grid = {"learning_rate": self.rates} if grid is None else grid
        arguments.setdefault("cv", self.folds)
        # The refit of a smoke run would be a compilation for a shape of its own.
        arguments.setdefault("refit", not self.smoke)
        return GridSearchCV(estimator, grid, **arguments).fit(self.X, self.y)

    def scores(self, search: GridSearchCV) -> np.ndarray:
        """Return the score of each candidate on each fold."""
        keys = [f"split{i}_test_score" for i in range(self.folds.n_splits)]
        return np.stack([search.cv_results_[key] for key in keys], axis=1)

    def by_hand(self, loop: HandWritten) -> list[Callable[[], float]]:
        """Return the same fits by hand, the refit last; each returns its score."""
        inputs, y = self.X[:, 0], self.y

        def run(rate: float, train: np.ndarray, test: np.ndarray) -> float:
            params = loop.fit(START, rate, inputs[train], y[train])
            # NumPy, so that no second program takes part in the timing.
            fitted = params["amplitude"] * np.exp(-params["rate"] * inputs[test])
            return r2_score(y[test], fitted + params["offset"])

        splits = list(self.folds.split(self.X))
        everything = np.arange(len(y))
        splits_and_rates = [(rate, *split) for rate in self.rates for split in splits]
        splits_and_rates.append((self.rates[0], everything, everything))
        return [
            lambda rate=rate, train=train, test=test: run(rate, train, test)
            for rate, train, test in splits_and_rates
        ]
