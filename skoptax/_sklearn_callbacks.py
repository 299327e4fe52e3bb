"""scikit-learn's callbacks: a fit as a task that they follow, and may stop.

Those are set by ``estimator.set_callbacks(...)``, from scikit-learn 1.9 on, and follow
fits of any estimator. The argument `callbacks` of ours is another thing: it is called
with the optimiser's state.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Self, TypeVar


class _NoCallbacks:
    """Takes the place of scikit-learn's mixin where there is none."""


def _find_support() -> tuple[Any, Callable[[Any], Any]]:
    """Return scikit-learn's mixin and its decorator, or what does nothing."""
    try:
        from sklearn.callback import CallbackSupportMixin, with_callbacks
    except ImportError:
        return _NoCallbacks, lambda method: method
    return CallbackSupportMixin, with_callbacks


if TYPE_CHECKING:
    # A base class must not depend on what is installed, nor a method's type on an
    # untyped decorator.
    Method = TypeVar("Method", bound=Callable[..., Any])

    class CallbackSupport:
        """Takes scikit-learn's callbacks."""

        def set_callbacks(self, *callbacks: Any) -> Self:
            """Follow fits by these callbacks; from scikit-learn 1.9 on."""

    def with_callbacks(method: Method) -> Method:
        """Hand the end of a method on to callbacks."""
else:
    CallbackSupport, with_callbacks = _find_support()


class FitTask:
    """
    A fit as scikit-learn's callbacks see it: a task, its subtasks blocks of steps.

    Parameters
    ----------
    estimator : OptaxEstimator
        Has callbacks; its method is decorated by `with_callbacks`.
    X, y, sample_weight : array-like
        What the user gave, since a scorer hands them on to `predict`.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> None:
        self._estimator = estimator
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._given = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._task: Any = None
        self._subtask: Any = None
        self._max_steps = self._size = 0
        self._end = inf  # the step that ends the next subtask

    def begin(self, max_steps: int, size: int) -> None:
        """
        Tell that the fit begins.

        Parameters
        ----------
        max_steps : int
            The largest number of steps.
        size : int
            Steps of a subtask; 0 is none, if only start and end can be told.
        """
        count = -(-max_steps // size) if size else 0
        self._task = self._estimator._init_callback_context(max_subtasks=count)
        self._task.call_on_fit_task_begin(**self._given)
        self._max_steps, self._size = max_steps, size
        if count:
            self._end = min(size, max_steps)
            self._open()

    def advance(
        self, step: int, goes_on: bool, attributes: Callable[[], dict[str, Any]]
    ) -> bool:
        """
        Tell how far the fit is.

        Parameters
        ----------
        step : int
            How many steps are made. At the end of each subtask this must be told.
        goes_on : bool
            Whether there will be more, if it is not stopped.
        attributes : callable
            Returns what makes a fitted estimator of the current state. Called if a
            callback asks for it.

        Returns
        -------
        bool
            Whether to stop.
        """
        if step < self._end:
            return False
        # One that ended by itself may go on from values that were put in its place.
        subtask = self._subtask or self._open()
        self._subtask = None
        stop = subtask.call_on_fit_task_end(
            **self._given, reconstruction_attributes=attributes
        )
        # (A fit that goes on from a checkpoint does not begin at 0.)
        following = (step // self._size + 1) * self._size
        is_last = step >= self._max_steps
        self._end = inf if is_last else min(following, self._max_steps)
        if goes_on and not stop:
            self._open()
        return goes_on and bool(stop)

    def end(self) -> None:
        """Tell that the estimator is fitted."""
        for task in (self._subtask, self._task):
            if task is not None:
                task.call_on_fit_task_end(**self._given, reconstruction_attributes={})

    def _open(self) -> Any:
        self._subtask = self._task.subcontext(task_name="steps")
        self._subtask.call_on_fit_task_begin(**self._given)
        return self._subtask


def follow(estimator: Any, X: Any, y: Any, sample_weight: Any) -> FitTask | None:
    """Return the task that an estimator's callbacks follow; ``None`` without any."""
    if not getattr(estimator, "_skl_callbacks", None):
        return None
    return FitTask(estimator, X, y, sample_weight)
