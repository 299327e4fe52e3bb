"""What losses, penalties and priors have in common.

A component is a small object with hyperparameters that follows scikit-learn's
conventions, so that ``clone``, ``get_params``, ``set_params`` and pickle work on
it and a grid search reaches into it (``loss__delta``, ``penalty__alpha``).
:func:`split_numbers` and :func:`join_numbers` take its numbers out and put them
back, so that a compiled program receives them as arguments and is shared by all
values of a search.
"""

from __future__ import annotations

import copy
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ._scikit_learn import BaseEstimator
from ._validation import invalid, is_number

C = TypeVar("C", bound="Component")


class Component(BaseEstimator):
    """
    Base of the losses, the penalties and the priors.

    A subclass stores the arguments of its ``__init__`` untouched, under their own
    names, and checks them in :meth:`validate`, which the fit calls. It holds
    nothing else.

    Examples
    --------
    >>> from sklearn.base import clone
    >>> from skoptax._component import Component
    >>> class Scaled(Component):
    ...     def __init__(self, factor=1.0):
    ...         self.factor = factor
    >>> clone(Scaled(factor=2.0)).set_params(factor=3.0)
    Scaled(factor=3.0)
    """

    def __copy__(self) -> Self:
        # Without this it would be written and read as for pickle: ten times the work,
        # and each fit copies its loss.
        new = object.__new__(type(self))
        vars(new).update(vars(self))
        return new

    def validate(self) -> None:
        """
        Check the hyperparameters.

        The fit calls it, not ``__init__``, so that ``set_params`` may pass through
        states that are not valid yet. The base class has nothing to check.

        Raises
        ------
        InvalidParameterError
            If a hyperparameter is not usable.

        See Also
        --------
        skoptax.losses.resolve_loss : Validates a loss.
        skoptax.penalties.resolve_penalty : Validates a penalty.
        skoptax.priors.resolve_prior : Validates a prior.

        Examples
        --------
        >>> from skoptax.losses import Huber
        >>> Huber(delta=-1.0).validate()
        Traceback (most recent call last):
        ...
        skoptax.exceptions.InvalidParameterError: ...
        """


def is_numeric_array(value: object) -> bool:
    """Tell whether ``value`` is a NumPy or JAX array of real numbers."""
    return isinstance(value, (np.ndarray, jax.Array)) and (
        jnp.issubdtype(value.dtype, jnp.floating)
        or jnp.issubdtype(value.dtype, jnp.integer)
    )


def split_numbers(component: C) -> tuple[dict[str, Any], C]:
    """
    Take the numeric hyperparameters out of a component.

    Parameters
    ----------
    component : Component
        Left as it is.

    Returns
    -------
    numbers : dict of str to float or array
        The constructor parameters that are real numbers (booleans are not) or
        arrays of them, by name. Integers come out as floats, so that 1 and 1.0
        share a program.
    skeleton : Component
        A shallow copy with ``None`` in their place.

    See Also
    --------
    join_numbers : The inverse.

    Examples
    --------
    >>> from skoptax._component import join_numbers, split_numbers
    >>> from skoptax.penalties import L2
    >>> numbers, skeleton = split_numbers(L2(alpha=2, params=("slope",)))
    >>> numbers
    {'alpha': 2.0}
    >>> skeleton
    L2(alpha=None, params=('slope',))
    >>> join_numbers(skeleton, {"alpha": 3.0})
    L2(alpha=3.0, params=('slope',))
    """
    numbers: dict[str, Any] = {}
    skeleton = copy.copy(component)
    for name, value in component.get_params(deep=False).items():
        if is_number(value):
            numbers[name] = float(value)
        elif is_numeric_array(value):
            floating = jnp.issubdtype(value.dtype, jnp.floating)
            numbers[name] = value if floating else value.astype(float)
        else:
            continue
        setattr(skeleton, name, None)
    return numbers, skeleton


def join_numbers(skeleton: C, numbers: dict[str, Any]) -> C:
    """
    Put numeric hyperparameters back into a component.

    Parameters
    ----------
    skeleton : Component
        The second result of :func:`split_numbers`. Left as it is.
    numbers : dict of str to float, array or JAX tracer
        Values by name, as :func:`split_numbers` returns them.

    Returns
    -------
    Component
        A shallow copy of ``skeleton`` that holds ``numbers``.

    See Also
    --------
    split_numbers : The inverse, with an example.
    """
    component = copy.copy(skeleton)
    for name, value in numbers.items():
        setattr(component, name, value)
    return component


def as_floats(*values: ArrayLike) -> tuple[jax.Array, ...]:
    """
    Return the values as JAX arrays of their common floating dtype.

    Integers, unsigned ones and booleans (counts, labels) become floats first: the
    difference of two unsigned integers would wrap around.
    """
    arrays = [jnp.asarray(value) for value in values]
    dtype = jnp.result_type(float, *arrays)
    return tuple(array.astype(dtype) for array in arrays)


def number_like(number: ArrayLike, array: jax.Array) -> jax.Array:
    """
    Return a hyperparameter in the dtype of ``array``.

    Without it a hyperparameter that travels as a float64 argument would turn a
    float32 computation into a float64 one.
    """
    return jnp.asarray(number, dtype=array.dtype)


def absolute(array: jax.Array) -> jax.Array:
    """
    Return the absolute value, with a derivative of 0 at 0.

    That of ``jnp.abs`` is 1 there, which would drive a parameter off the very value
    to which a penalty draws it.
    """
    return array * jnp.sign(array)


def resolve_component(
    value: Any, base: type[Component], name: str, owner: str, must: str
) -> Any:
    """
    Return a valid component of type ``base`` or a function, else raise.

    Parameters
    ----------
    value : object
        What the user gave.
    base : type
        The type of component that the argument takes.
    name, owner, must : str
        For the error: the argument, the class it belongs to, what it must be.

    Returns
    -------
    Component or callable
        ``value`` itself.

    Raises
    ------
    InvalidParameterError
        If ``value`` is a class, a component of another type or no callable, or if
        one of its hyperparameters is not valid.
    """
    if isinstance(value, base):
        value.validate()
        return value
    if isinstance(value, type) and issubclass(value, base):
        remedy = f"It is a class: give an instance of it, {value.__name__}(...)."
        raise invalid(name, owner, must, value, remedy)
    # Losses and penalties are callable too: a penalty given as the loss would
    # otherwise pass for a user's function and fail far from its cause.
    if not callable(value) or isinstance(value, (Component, type)):
        raise invalid(name, owner, must, value)
    return value
