"""`Parameter`: what is known about one quantity of a model, as a pytree node.

A state is any pytree. Its `Parameter` leaves carry a value in the user's units
and the spec that goes with it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import clone

from ._misreadings import refuse_fields
from ._transforms import Pair
from ._typing import ArrayLike
from ._validation import invalid, is_number
from .exceptions import InvalidParameterError

__all__ = ["Parameter"]

FIELDS = (
    "name",
    "value",
    "free",
    "lower",
    "upper",
    "scale",
    "transform",
    "tie",
    "prior",
    "shape",
)
# Those that are attributes of the same name.
_STORED = frozenset(FIELDS) - {"shape"}
_Init = TypeVar("_Init", bound=Callable[..., None])


def _with_known_fields(init: _Init) -> _Init:
    """Refuse arguments of other libraries by an error that names ours."""

    @functools.wraps(init)
    def checked(self: Parameter, *args: Any, **given: Any) -> None:
        refuse_fields(given, FIELDS)
        init(self, *args, **given)

    return checked  # type: ignore[return-value]


class Parameter:
    """
    One quantity of a model: its start value, and what is known about it.

    A `Parameter` is a pytree node whose only child is its value. It takes part in
    arithmetic and in the functions of `jax.numpy` as its value would;
    ``np.asarray(parameter)`` and ``float(parameter)`` are the value itself. Equality
    and hash are by identity.

    Parameters
    ----------
    name : str, default=None
        The parameter's name. In a dict of parameters the key is the name, and
        this one stays ``None``.
    value : float, array-like or callable, default=0.0
        The start value in the user's own units, or a function
        ``(X, y, rng) -> array`` that computes one from the data (in
        :class:`OptaxEstimator` only; ``rng`` is a `numpy.random.Generator`).
    free : bool or array-like of bool of the value's shape, default=True
        Whether the optimiser changes the value; an array frees the entries
        where it is true.
    lower, upper : float or array-like of the value's shape, default=None
        Bounds in the user's units; ``None`` or an infinity is no bound. They
        hold at every step, and an optimum on a bound is reached exactly.
    scale : float, array-like of the value's shape or "value", default=None
        The optimiser steps in units of it (positive; ``"value"`` is the
        absolute start value; with a transform, units of the transformed
        value). ``None`` is 1.
    transform : {"log", "logit"} or (callable, callable), default=None
        The optimiser steps in the logarithm, the log-odds, or the space of the
        pair ``(to_user, from_user)`` of JAX functions.
    tie : callable, default=None
        A function whose arguments are other parameters' names; the parameter
        always has the value it returns, and is never free itself. A parameter that is
        tied, or that a tie names, need not be an argument of the model: a derived
        quantity has a standard error so, and a gap keeps two others in order.
    prior : object of :mod:`skoptax.priors` or callable, default=None
        The prior density of the value in the user's units, or a function
        ``value -> log density``. Its support limits the bounds.
    shape : int or tuple, default=None
        The value's shape: a scalar value is spread over it. May hold the names
        ``"n_features"`` and ``"n_outputs"``, known once the data are.

    Attributes
    ----------
    dtype : numpy.dtype
        The value's data type.
    ndim : int
        The value's number of dimensions.

    Raises
    ------
    InvalidParameterError
        If ``name`` is neither a str nor ``None``, or there is no such argument. The
        other arguments are checked when an optimisation begins.

    See Also
    --------
    skoptax.OptaxOptimizer : Optimises the free parameters of any pytree.
    skoptax.OptaxEstimator : Takes a dict of parameters as its ``params``.

    Examples
    --------
    >>> from skoptax import Parameter
    >>> rate = Parameter("rate", 0.5, lower=0.0)
    >>> rate * 4
    2.0
    >>> print(f"{rate:.3f}")
    0.500
    >>> rate
    Parameter('rate', 0.5, lower=0.0)
    >>> slopes = Parameter("slopes", [1.0, 2.0])
    >>> slopes.shape, slopes.ndim, slopes.dtype
    ((2,), 1, dtype('float64'))
    """

    # NumPy must hand `array * parameter` over to __rmul__ instead of making an
    # object array of it.
    __array_ufunc__ = None

    @_with_known_fields
    def __init__(
        self,
        name: str | None = None,
        value: ArrayLike | Callable[..., Any] = 0.0,
        free: bool | ArrayLike = True,
        *,
        lower: ArrayLike | None = None,
        upper: ArrayLike | None = None,
        scale: ArrayLike | str | None = None,
        transform: str | tuple[Callable[..., Any], Callable[..., Any]] | None = None,
        tie: Callable[..., Any] | None = None,
        prior: Any = None,
        shape: int | str | tuple[int | str, ...] | None = None,
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise invalid(
                "name",
                "Parameter",
                "a str or None",
                name,
                "The value comes second: write Parameter(value=...).",
            )
        self.name = name
        self.value = value
        self.free = free
        self.lower = lower
        self.upper = upper
        self.scale = scale
        self.transform = transform
        self.tie = tie
        self.prior = prior
        self._shape = shape

    if TYPE_CHECKING:
        # `_add_operators` makes these; what they return is of the value's own type.
        def __add__(self, other: Any) -> Any: ...
        def __radd__(self, other: Any) -> Any: ...
        def __sub__(self, other: Any) -> Any: ...
        def __rsub__(self, other: Any) -> Any: ...
        def __mul__(self, other: Any) -> Any: ...
        def __rmul__(self, other: Any) -> Any: ...
        def __truediv__(self, other: Any) -> Any: ...
        def __rtruediv__(self, other: Any) -> Any: ...
        def __floordiv__(self, other: Any) -> Any: ...
        def __rfloordiv__(self, other: Any) -> Any: ...
        def __mod__(self, other: Any) -> Any: ...
        def __rmod__(self, other: Any) -> Any: ...
        def __pow__(self, other: Any) -> Any: ...
        def __rpow__(self, other: Any) -> Any: ...
        def __matmul__(self, other: Any) -> Any: ...
        def __rmatmul__(self, other: Any) -> Any: ...
        def __lt__(self, other: Any) -> Any: ...
        def __le__(self, other: Any) -> Any: ...
        def __gt__(self, other: Any) -> Any: ...
        def __ge__(self, other: Any) -> Any: ...
        def __neg__(self) -> Any: ...
        def __pos__(self) -> Any: ...
        def __abs__(self) -> Any: ...

    # The constructor's arguments, as scikit-learn asks for them.

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """
        Return the constructor's arguments as they were given.

        Nothing is worked out: a callable value, bounds of ``None`` and names in
        ``shape`` come back as they are.

        Parameters
        ----------
        deep : bool, default=True
            Whether a prior's own hyperparameters are listed too, as
            ``prior__sd``.

        Returns
        -------
        dict
            Argument name to value.

        See Also
        --------
        Parameter.set_params : Sets arguments by the same names.

        Examples
        --------
        >>> from skoptax import Parameter
        >>> Parameter("rate", 0.5, lower=0.0).get_params()["lower"]
        0.0
        """
        found = {k: self._shape if k == "shape" else getattr(self, k) for k in FIELDS}
        if deep and hasattr(self.prior, "get_params"):
            nested = self.prior.get_params(deep=True)
            found.update({f"prior__{k}": v for k, v in nested.items()})
        return found

    def set_params(self, **changes: Any) -> Parameter:
        """
        Set constructor arguments, by name, in place.

        Every estimator that holds the object sees the change; `with_fields` makes a
        copy instead. Values are checked when an optimisation begins, a prior's
        hyperparameters by names such as ``prior__sd`` among them.

        Parameters
        ----------
        **changes : dict
            Argument name to its new value.

        Returns
        -------
        Parameter
            This object.

        Raises
        ------
        InvalidParameterError
            If there is no argument of that name.

        See Also
        --------
        Parameter.with_fields : The same on a copy.

        Examples
        --------
        >>> from skoptax import Parameter
        >>> Parameter("rate", 0.5).set_params(lower=0.0, free=False)
        Parameter('rate', 0.5, free=False, lower=0.0)
        """
        nested = {}
        for key, value in changes.items():
            head, _, tail = key.partition("__")
            if head not in FIELDS or (tail and head != "prior"):
                refuse_fields([head if head not in FIELDS else key], FIELDS)
            if tail:
                nested[tail] = value
            else:
                setattr(self, "_shape" if head == "shape" else head, value)
        if nested:
            if not hasattr(self.prior, "set_params"):
                raise InvalidParameterError(
                    f"'prior__{next(iter(nested))}' needs a prior of skoptax.priors. "
                    f"Got {self.prior!r} instead."
                )
            self.prior.set_params(**nested)
        return self

    def with_fields(self, **changes: Any) -> Parameter:
        """
        Return a copy in which some constructor arguments differ.

        For a spec that others share. A prior is copied as well where ``prior__sd`` or
        its like is among the changes; all other fields are the same objects in both.

        Parameters
        ----------
        **changes : dict
            Argument name to its new value.

        Returns
        -------
        Parameter
            A new object; this one is unchanged.

        See Also
        --------
        Parameter.set_params : The same in place.

        Examples
        --------
        >>> from skoptax import Parameter
        >>> rate = Parameter("rate", 0.5)
        >>> rate.with_fields(value=2.0), rate
        (Parameter('rate', 2.0), Parameter('rate', 0.5))
        """
        copy = object.__new__(Parameter)
        copy.__dict__.update(self.__dict__)
        if changes.keys() <= _STORED:
            copy.__dict__.update(changes)
            return copy
        if any(key.startswith("prior__") for key in changes):
            copy.prior = clone(self.prior, safe=False)
        return copy.set_params(**changes)

    # The value, as an array.

    @property
    def shape(self) -> tuple[int, ...]:
        """
        The value's shape.

        That of `value` as it stands: the argument ``shape``, over which a scalar is
        spread, counts once an optimisation begins. A value that is computed from data
        has no shape before, and asking for it is an error.

        See Also
        --------
        Parameter.ndim : How many dimensions these are.

        Examples
        --------
        >>> from skoptax import Parameter
        >>> Parameter(value=[1.0, 2.0]).shape, Parameter(value=1.0, shape=3).shape
        ((2,), ())
        """
        return tuple(np.shape(self._array()))

    @property
    def ndim(self) -> int:
        """
        The value's number of dimensions.

        0 for a number. As for `shape`, a value that is computed from data has none
        before.

        See Also
        --------
        Parameter.shape : The length of each dimension.

        Examples
        --------
        >>> from skoptax import Parameter
        >>> Parameter(value=2.0).ndim, Parameter(value=[[1.0, 2.0]]).ndim
        (0, 2)
        """
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """
        The value's data type.

        A Python number counts as double precision. It does not say in which precision
        an estimator fits: that is its ``dtype``, or the data's.

        See Also
        --------
        Parameter.shape : The value's shape.

        Examples
        --------
        >>> import numpy as np
        >>> from skoptax import Parameter
        >>> Parameter(value=1).dtype, Parameter(value=np.float32(1)).dtype
        (dtype('float64'), dtype('float32'))
        """
        value = self._array()
        return np.dtype(value.dtype) if hasattr(value, "dtype") else np.dtype(float)

    def _array(self) -> Any:
        if callable(self.value):
            raise InvalidParameterError(
                f"Parameter {self.name!r} has no value yet: it is computed from the "
                "data when an OptaxEstimator is fitted."
            )
        if isinstance(self.value, (list, tuple)):
            return np.asarray(self.value)
        return self.value

    def __jax_array__(self) -> jax.Array:
        return jnp.asarray(self._array())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.asarray(self._array(), dtype=dtype)
        return array.copy() if copy else array

    def __float__(self) -> float:
        return float(self._array())

    def __int__(self) -> int:
        return int(self._array())

    def __bool__(self) -> bool:
        return bool(self._array())

    def __format__(self, spec: str) -> str:
        value = self._array()
        if is_number(value):
            return format(value, spec)
        array = np.asarray(value)
        return (
            format(array.item(), spec) if array.ndim == 0 else format(str(array), spec)
        )

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"Parameter {self.name!r} is a scalar and has no length.")
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        value = self._array()
        return value[index] if hasattr(value, "dtype") else np.asarray(value)[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        parts = [] if self.name is None else [repr(self.name)]
        shown = _shown(self.value)
        parts.append(shown if self.name is not None else f"value={shown}")
        if self.free is not True:
            parts.append(f"free={_shown(self.free)}")
        for field in FIELDS[3:]:
            given = self._shape if field == "shape" else getattr(self, field)
            if given is not None:
                parts.append(f"{field}={_shown(given)}")
        return f"Parameter({', '.join(parts)})"


def _shown(field: Any) -> str:
    """Return what is written for a field: an array as a list, a long one cut."""
    if hasattr(field, "shape") and not isinstance(field, jax.core.Tracer):
        field = np.asarray(field)
    if isinstance(field, (np.ndarray, list, tuple)):
        threshold = np.get_printoptions()["threshold"]
        array = _numeric(field)
        if array is not None and array.size > threshold:
            text = np.array2string(array, separator=", ", threshold=threshold)
            return " ".join(text.split()).replace("[ ", "[")
    if isinstance(field, np.ndarray):
        field = field.tolist()
    return " ".join(repr(field).split())


def _numeric(field: Any) -> np.ndarray | None:
    """Return an array of what can be one, without making objects of pairs."""
    try:
        array = np.asarray(field)
    except (TypeError, ValueError):  # ragged, or of objects that are no numbers
        return None
    return array if array.dtype.kind in "biufc" else None


def _unwrapped(other: Any) -> Any:
    return other._array() if isinstance(other, Parameter) else other


def _add_operators() -> None:
    """Give `Parameter` the operators of a number, each acting on its value."""

    def method(name: str, function: Callable[..., Any]) -> None:
        function.__name__ = name
        function.__qualname__ = f"Parameter.{name}"
        setattr(Parameter, name, function)

    def binary(operation: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
        def forward(self: Parameter, other: Any) -> Any:
            return operation(self._array(), _unwrapped(other))

        def reflected(self: Parameter, other: Any) -> Any:
            return operation(_unwrapped(other), self._array())

        return forward, reflected

    def unary(operation: Callable[[Any], Any]) -> Any:
        def apply(self: Parameter) -> Any:
            return operation(self._array())

        return apply

    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
        forward, reflected = binary(getattr(operator, name))
        method(f"__{name}__", forward)
        method(f"__r{name}__", reflected)
    # Python itself reflects `1 < parameter` to __gt__.
    for name in ("lt", "le", "gt", "ge"):
        method(f"__{name}__", binary(getattr(operator, name))[0])
    for name in ("neg", "pos", "abs"):
        method(f"__{name}__", unary(getattr(operator, name)))


_add_operators()


def _frozen(value: Any) -> Any:
    """Return a hashable stand-in for ``value``, equal for equal contents."""
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, *map(_frozen, value))
    if isinstance(value, (np.ndarray, jax.Array)):
        array = np.asarray(value)
        return ("array", array.shape, array.dtype.str, array.tobytes())
    if isinstance(value, Pair):
        return ("pair", value.forward, value.backward)
    if hasattr(value, "get_params"):
        items = sorted(value.get_params(deep=False).items())
        return (type(value), *((k, _frozen(v)) for k, v in items))
    return value


class _Spec:
    """
    All of a `Parameter` but its value, compared by content.

    Equal parameters are thus equal pytree structures.
    """

    __slots__ = ("_content", "fields")

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        self._content = tuple((k, _frozen(v)) for k, v in fields.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Spec) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    def __repr__(self) -> str:
        return repr({k: v for k, v in self.fields.items() if v is not None})


def _flatten(parameter: Parameter) -> tuple[tuple[tuple[Any, Any]], _Spec]:
    value = parameter.value
    if isinstance(value, (list, tuple)):
        value = np.asarray(value)
    fields = {k: v for k, v in parameter.__dict__.items() if k != "value"}
    return ((jax.tree_util.GetAttrKey("value"), value),), _Spec(fields)


def _unflatten(spec: _Spec, children: Iterable[Any]) -> Parameter:
    # JAX puts placeholders and tracers here: nothing may be checked.
    parameter = object.__new__(Parameter)
    parameter.__dict__.update(spec.fields, value=next(iter(children)))
    return parameter


jax.tree_util.register_pytree_with_keys(Parameter, _flatten, _unflatten)


def is_parameter(leaf: Any) -> bool:
    """Tell whether a pytree node is a `Parameter`; for ``is_leaf`` arguments."""
    return isinstance(leaf, Parameter)
