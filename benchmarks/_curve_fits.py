"""The fit of a decay as the other libraries write it.

Each maker takes data and start values and returns a function that fits anew and
returns the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ._peers import peer
from ._workloads import decay

Fit = Callable[[], dict[str, float]]


def _numpy_decay(t: Any, amplitude: float, rate: float, offset: float) -> Any:
    return amplitude * np.exp(-rate * t) + offset


def scipy_fit(X: np.ndarray, y: np.ndarray, start: Mapping[str, float]) -> Fit:
    """Return SciPy's Levenberg-Marquardt, with finite differences."""
    from scipy.optimize import curve_fit

    def fit() -> dict[str, float]:
        found, _ = curve_fit(_numpy_decay, X[:, 0], y, p0=list(start.values()))
        return dict(zip(start, found.tolist(), strict=True))

    return fit


def lmfit_fit(X: np.ndarray, y: np.ndarray, start: Mapping[str, float]) -> Fit:
    """Return lmfit's: SciPy's, with its parameters and its report."""
    model = peer("lmfit").Model(_numpy_decay)

    def fit() -> dict[str, float]:
        return model.fit(y, model.make_params(**start), t=X[:, 0]).best_values

    return fit


def optimistix_fit(X: np.ndarray, y: np.ndarray, start: Mapping[str, float]) -> Fit:
    """Return Optimistix's Levenberg-Marquardt, compiled, with JAX's derivatives."""
    optimistix = peer("optimistix")
    import jax

    solver = optimistix.LevenbergMarquardt(rtol=1e-8, atol=1e-8)

    def residuals(params: Any, data: Any) -> Any:
        t, y = data
        return decay(t, **params) - y

    def fit() -> dict[str, float]:
        with jax.enable_x64(True):
            begin = {k: jax.numpy.asarray(v, dtype=float) for k, v in start.items()}
            data = (jax.numpy.asarray(X[:, 0]), jax.numpy.asarray(y))
            found = optimistix.least_squares(residuals, solver, begin, data)
            return {name: float(value) for name, value in found.value.items()}

    return fit


def skorch_fit(
    X: np.ndarray, y: np.ndarray, start: Mapping[str, float], rate: float, steps: int
) -> Fit:
    """Return skorch's: Adam in PyTorch, one batch of all rows."""
    skorch = peer("skorch")
    torch = peer("torch")

    class Decay(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, value in start.items():
                number = torch.tensor(value, dtype=torch.float64)
                setattr(self, name, torch.nn.Parameter(number))

        def forward(self, X: Any) -> Any:
            return self.amplitude * torch.exp(-self.rate * X[:, 0]) + self.offset

    net = skorch.NeuralNetRegressor(
        Decay,
        optimizer=torch.optim.Adam,
        lr=rate,
        max_epochs=steps,
        batch_size=-1,
        train_split=None,
        verbose=0,
    )

    def fit() -> dict[str, float]:
        module = net.fit(X, y).module_
        return {name: getattr(module, name).item() for name in start}

    return fit


MAKERS = {
    "SciPy `curve_fit`": scipy_fit,
    "lmfit": lmfit_fit,
    "Optimistix, Levenberg-Marquardt": optimistix_fit,
}
