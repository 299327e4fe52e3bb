"""NIST's problems of nonlinear regression, with models for JAX and for NumPy.

The data and the certified values are those of the tests; ``tests/reference`` says
where they come from.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).resolve().parent.parent / "tests/reference/nist_strd.json"
STARTS = ("start1", "start2")
# The certified values have no more digits than this.
MOST_DIGITS = 11.0
# Added to predictions it changes none of them.
_NEXT_TO_NOTHING = 1e-200

Model = Callable[..., Any]


def _chwirut(xp: Any) -> Model:
    return lambda x, b1, b2, b3: xp.exp(-b1 * x) / (b2 + b3 * x)


def _dan_wood(xp: Any) -> Model:
    return lambda x, b1, b2: b1 * x**b2


def _enso(xp: Any) -> Model:
    def wave(x: Any, period: Any, cosine: Any, sine: Any) -> Any:
        angle = 2 * xp.pi * x / period
        return cosine * xp.cos(angle) + sine * xp.sin(angle)

    return lambda x, b1, b2, b3, b4, b5, b6, b7, b8, b9: (
        b1 + wave(x, 12.0, b2, b3) + wave(x, b4, b5, b6) + wave(x, b7, b8, b9)
    )


def _gauss(xp: Any) -> Model:
    def peak(x: Any, height: Any, centre: Any, width: Any) -> Any:
        return height * xp.exp(-(((x - centre) / width) ** 2))

    return lambda x, b1, b2, b3, b4, b5, b6, b7, b8: (
        b1 * xp.exp(-b2 * x) + peak(x, b3, b4, b5) + peak(x, b6, b7, b8)
    )


def _kirby(xp: Any) -> Model:
    return lambda x, b1, b2, b3, b4, b5: (
        (b1 + b2 * x + b3 * x**2) / (1 + b4 * x + b5 * x**2)
    )


def _lanczos(xp: Any) -> Model:
    return lambda x, b1, b2, b3, b4, b5, b6: (
        b1 * xp.exp(-b2 * x) + b3 * xp.exp(-b4 * x) + b5 * xp.exp(-b6 * x)
    )


def _mgh09(xp: Any) -> Model:
    return lambda x, b1, b2, b3, b4: b1 * (x**2 + x * b2) / (x**2 + x * b3 + b4)


def _mgh17(xp: Any) -> Model:
    return lambda x, b1, b2, b3, b4, b5: (
        b1 + b2 * xp.exp(-x * b4) + b3 * xp.exp(-x * b5)
    )


def _misra1a(xp: Any) -> Model:
    return lambda x, b1, b2: b1 * (1 - xp.exp(-b2 * x))


def _misra1c(xp: Any) -> Model:
    return lambda x, b1, b2: b1 * (1 - (1 + 2 * b2 * x) ** -0.5)


def _nelson(xp: Any) -> Model:
    return lambda time, temperature, b1, b2, b3: (
        b1 - b2 * time * xp.exp(-b3 * temperature)
    )


def _rat42(xp: Any) -> Model:
    return lambda x, b1, b2, b3: b1 / (1 + xp.exp(b2 - b3 * x))


def _roszman1(xp: Any) -> Model:
    return lambda x, b1, b2, b3, b4: b1 - b2 * x - xp.arctan(b3 / (x - b4)) / xp.pi


def _thurber(xp: Any) -> Model:
    return lambda x, b1, b2, b3, b4, b5, b6, b7: (
        (b1 + b2 * x + b3 * x**2 + b4 * x**3) / (1 + b5 * x + b6 * x**2 + b7 * x**3)
    )


# Each takes the namespace to compute with, `numpy` or `jax.numpy`.
MODELS: dict[str, Callable[[Any], Model]] = {
    "BoxBOD": _misra1a,
    "Chwirut1": _chwirut,
    "Chwirut2": _chwirut,
    "DanWood": _dan_wood,
    "ENSO": _enso,
    "Gauss1": _gauss,
    "Kirby2": _kirby,
    "Lanczos3": _lanczos,
    "MGH09": _mgh09,
    "MGH17": _mgh17,
    "Misra1a": _misra1a,
    "Misra1c": _misra1c,
    "Nelson": _nelson,
    "Rat42": _rat42,
    "Roszman1": _roszman1,
    "Thurber": _thurber,
}


@dataclass(frozen=True)
class CertifiedFit:
    """One problem from one of its starts.

    Parameters
    ----------
    name : str
        The problem's.
    which : str
        One of `STARTS`.
    X : ndarray of shape (rows, inputs)
        The inputs.
    y : ndarray of shape (rows,)
        The responses; Nelson's are the logarithms.
    start : dict of str to float
        The parameters' start values, in the order of the model's arguments.
    certified : ndarray of shape (parameters,)
        Their certified values.
    """

    name: str
    which: str
    X: np.ndarray
    y: np.ndarray
    start: dict[str, float]
    certified: np.ndarray

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the model calls the columns of `X`."""
        return ("time", "temperature") if self.name == "Nelson" else ("x",)

    def model(self, xp: Any) -> Model:
        """Return the model.

        Parameters
        ----------
        xp : module
            `numpy` or `jax.numpy`.

        Returns
        -------
        callable
            ``model(*inputs, *parameters)``.
        """
        return MODELS[self.name](xp)

    def new_model(self, xp: Any, number: int) -> Model:
        """Return a model that differs from all others by a constant in its closure.

        Parameters
        ----------
        xp : module
            `numpy` or `jax.numpy`.
        number : int
            Positive; tells it from the others.

        Returns
        -------
        callable
            With the same predictions.
        """
        formula = self.model(xp)
        addend = number * _NEXT_TO_NOTHING

        @functools.wraps(formula)
        def model(*inputs: Any, **parameters: Any) -> Any:
            return formula(*inputs, **parameters) + addend

        return model

    def digits(self, estimates: Any) -> float:
        """Return how many digits of the certified values an estimate has.

        Parameters
        ----------
        estimates : array-like of shape (parameters,)
            In the order of `start`.

        Returns
        -------
        float
            The logarithmic relative error of the worst parameter, from 0 to
            `MOST_DIGITS`; 0 if one is not a number.
        """
        error = np.max(np.abs(estimates - self.certified) / np.abs(self.certified))
        if np.isnan(error):
            return 0.0
        with np.errstate(divide="ignore"):
            return float(np.clip(-np.log10(error), 0.0, MOST_DIGITS))


def certified_fits() -> list[CertifiedFit]:
    """Return all problems, each from both starts.

    Returns
    -------
    list of CertifiedFit
        In the order of the problems' names.
    """
    fits = []
    for name, problem in sorted(json.loads(DATA.read_text(encoding="utf-8")).items()):
        y = np.asarray(problem["y"], dtype=float)
        for which in STARTS:
            fits.append(
                CertifiedFit(
                    name=name,
                    which=which,
                    X=np.asarray(problem["x"], dtype=float).reshape(len(y), -1),
                    y=y,
                    start={f"b{i}": b for i, b in enumerate(problem[which], 1)},
                    certified=np.asarray(problem["certified"]),
                )
            )
    return fits
