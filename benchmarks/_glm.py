"""One search over a Poisson regression, as each library writes it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.linear_model import PoissonRegressor
from sklearn.model_selection import GridSearchCV, KFold

SIDES = ("skoptax", "nemos", "nemos, L-BFGS", "scikit-learn")
# All minimise the mean of half the deviance plus half of the strength times
# the squares of the coefficients, without the intercept.
STRENGTHS = (0.01, 0.1, 1.0)


class GLMSearch:
    """The search of one library.

    Parameters
    ----------
    side : str
        One of `SIDES`.
    smoke : bool
        Whether it is tiny.
    """

    def __init__(self, side: str, smoke: bool) -> None:
        self.side = side
        rng = np.random.default_rng(0)
        self.X = rng.normal(size=(100, 2))
        rate = np.exp(self.X @ np.array([0.6, -0.4]) + 0.5)
        self.y = rng.poisson(rate).astype(float)
        strengths = STRENGTHS[:1] if smoke else STRENGTHS
        estimator, name = _estimator(side)
        self._search = GridSearchCV(
            estimator,
            {name: list(strengths)},
            cv=KFold(2 if smoke else 5),
            scoring="neg_mean_poisson_deviance",
        )

    def run(self) -> None:
        """Search."""
        with warnings.catch_warnings():
            # A peer's own warnings about its defaults are not of interest here.
            if self.side != "skoptax":
                warnings.simplefilter("ignore")
            self._search.fit(self.X, self.y)

    def coefficients(self) -> list[float]:
        """Return the coefficients of the refit, the intercept last."""
        best: Any = self._search.best_estimator_
        if self.side == "skoptax":
            return [*best.params_["coef"].tolist(), best.params_["intercept"]]
        intercept = np.ravel(best.intercept_)[0]
        return [*np.ravel(best.coef_).tolist(), float(intercept)]


def _estimator(side: str) -> tuple[Any, str]:
    """Return the estimator and what it calls the penalty's strength."""
    if side == "scikit-learn":
        return PoissonRegressor(), "alpha"
    if side.startswith("nemos"):
        import nemos

        model = nemos.glm.GLM(
            observation_model="Poisson",
            regularizer="Ridge",
            # Its default for this penalty is gradient descent.
            solver_name="LBFGS" if "L-BFGS" in side else None,
        )
        return model, "regularizer_strength"
    import jax.numpy as jnp

    from skoptax import OptaxEstimator
    from skoptax.penalties import L2

    def poisson(X: Any, coef: Any, intercept: Any) -> Any:
        return jnp.exp(X @ coef + intercept)

    start = {"coef": np.zeros(2), "intercept": 0.0}
    penalty = L2(alpha=1.0, params=("coef",))
    model = OptaxEstimator(poisson, start, loss="poisson", penalty=penalty)
    return model, "penalty__alpha"
