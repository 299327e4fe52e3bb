"""What is wrong with a loss, in the user's words.

JAX's errors speak of tracers; these functions turn them into what to change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from .exceptions import DifferentiationError, ModelError, SkoptaxError

_REVERSE_MODE = "Reverse-mode differentiation does not work"
# What older versions of JAX come to instead, where such a loop has a second derivative.
_REVERSE_MODE_ONCE = "for +: 'NoneType' and 'tuple'"
_FORWARD_MODE = "(jvp) to a custom_vjp"
_FLOAT_INDEX = "Indexer must have integer or boolean type"
_NUMPY_FUNCTION = "__array_ufunc__=None"
# What math.exp and its like say to an array, traced or not.
_MATH_FUNCTION = "can be converted to Python scalars"


@contextmanager
def explained(role: str) -> Iterator[None]:
    """
    Turn JAX's tracing errors into errors about the user's function.

    Parameters
    ----------
    role : str
        What the function is to the user, as the subject of a sentence: "The
        model", "The loss".

    Yields
    ------
    None

    Raises
    ------
    ModelError
        If the function leaves JAX.
    DifferentiationError
        If it cannot be differentiated in the mode that was asked for.
    """
    try:
        yield
    except SkoptaxError:
        raise
    except jax.errors.TracerArrayConversionError as error:
        raise _outside_of_jax(role) from error
    except jax.errors.ConcretizationTypeError as error:
        raise ModelError(
            f"{role} needs the number behind a parameter or an input: it calls "
            "float(), int(), bool() or .item() on it, or uses it in 'if', 'while' or "
            "'range'. JAX traces the function without numbers. Drop the conversion; "
            "use jnp.where or jax.lax.cond in place of 'if', jax.lax.fori_loop or "
            "jax.lax.while_loop in place of a loop. What must be a plain number "
            "belongs into a default argument or an int."
        ) from error
    except (jax.errors.NonConcreteBooleanIndexError, IndexError) as error:
        if not isinstance(error, jax.errors.JAXIndexError):
            raise
        raise ModelError(
            f"{role} selects entries by a condition on traced values, so the result's "
            "shape would depend on numbers. Use jnp.where(condition, x, 0) instead."
        ) from error
    except (ValueError, TypeError) as error:
        text = str(error)
        if _REVERSE_MODE in text or _REVERSE_MODE_ONCE in text:
            raise DifferentiationError(
                f"{role} holds a loop of unknown length (jax.lax.while_loop, or "
                "fori_loop with traced ends), which reverse-mode differentiation "
                'cannot go through. Use mode="fwd".'
            ) from error
        if _FORWARD_MODE in text:
            raise DifferentiationError(
                f"{role} holds a jax.custom_vjp function, which has a reverse rule "
                'only. Use mode="rev"; a solve of diffrax has a forward rule with '
                "adjoint=diffrax.ForwardMode()."
            ) from error
        if _FLOAT_INDEX in text:
            raise ModelError(
                f"{role} takes entries of an array by numbers that are not integers. "
                "All columns of X are floating-point numbers: index by "
                "batch.astype(int), if batch is the input."
            ) from error
        if _NUMPY_FUNCTION in text or _MATH_FUNCTION in text:
            raise _outside_of_jax(role) from error
        raise


def _outside_of_jax(role: str) -> ModelError:
    return ModelError(
        f"{role} gives a parameter or an input to code outside of JAX, such as a "
        "function of NumPy, SciPy or math, which would see a tracer instead of an "
        "array. Use the function's twin in jax.numpy or jax.scipy."
    )


def checked_loss(
    loss: Callable[..., Any], has_aux: bool, role: str
) -> Callable[..., Any]:
    """
    Return a loss that refuses to return anything but one real number.

    Parameters
    ----------
    loss : callable
        The user's.
    has_aux : bool
        Whether it returns ``(scalar, aux)``.
    role : str
        What the function is to the user.

    Returns
    -------
    callable
        It raises `ModelError` where the loss returns an array, an integer, a
        complex number, something else altogether, or aux where there should be
        none and the reverse.
    """

    def checked(*arguments: Any) -> Any:
        result = loss(*arguments)
        if not has_aux:
            return _scalar(result, role)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise ModelError(
                f"{role} must return (scalar, aux) with has_aux=True. Got "
                f"{type(result).__name__} instead."
            )
        value, aux = result
        return _scalar(value, role), aux

    return checked


def _scalar(value: Any, role: str) -> Any:
    aux = (
        " A loss that returns (scalar, aux) needs has_aux=True."
        if isinstance(value, tuple)
        else ""
    )
    try:
        # A tuple is no array here, even where it could be made one.
        array = None if isinstance(value, (tuple, list)) else jnp.asarray(value)
    except (TypeError, ValueError):
        array = None
    if array is None:
        raise ModelError(
            f"{role} must return a scalar. Got {type(value).__name__} instead.{aux}"
        )
    if array.shape != ():
        raise ModelError(
            f"{role} must return a scalar. Got an array of shape {array.shape} "
            "instead. Reduce it with jnp.mean or jnp.sum."
        )
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ModelError(
            f"{role} must return a real floating-point number. Got {array.dtype} "
            "instead."
        )
    return array


def depends_on_parameters(objective: Callable[[Any], Any], internal: Any) -> bool:
    """
    Tell whether any derivative of ``objective`` is more than a structural zero.

    Parameters
    ----------
    objective : callable
        From free values to a scalar.
    internal : pytree
        Free values.

    Returns
    -------
    bool
        False if no tangent of an input reaches the output's tangent: the
        parameters are not used, or only through integers, `stop_gradient` or
        rounding. True where that cannot be told.
    """

    def tangent(x: Any, dx: Any) -> Any:
        return jax.jvp(objective, (x,), (dx,))[1]

    try:
        jaxpr = jax.make_jaxpr(tangent)(internal, internal).jaxpr
    except TypeError:  # a custom_vjp function has no forward rule
        return True
    needed = {v for v in jaxpr.outvars if not hasattr(v, "val")}
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(v for v in equation.invars if not hasattr(v, "val"))
    half = len(jaxpr.invars) // 2
    return bool(needed.intersection(jaxpr.invars[half:]))
