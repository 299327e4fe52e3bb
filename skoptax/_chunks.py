"""Data that come in chunks: read one after another, ahead of what is done with them.

`Ahead` makes items in a thread, as many as it is allowed to; `parts_of` is what it
makes them of, the passes over a user's chunks. Nothing here knows of JAX.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from queue import Empty, SimpleQueue
from types import GeneratorType
from typing import Any, Generic, Self, TypeVar

from ._validation import invalid, shorten
from .exceptions import InvalidParameterError, ModelError

Item = TypeVar("Item")

# On Windows a thread that waits without end does not see Ctrl-C.
_SECONDS = 0.2
# Of other iterators it shows only in the second epoch.
_ONCE = (GeneratorType, map, zip, filter, islice)
# Errors of checks, which are made of their message alone.
_PLAIN = (ValueError, TypeError, InvalidParameterError, ModelError)
_A_CHUNK = "(X, y) or (X, y, sample_weight)"
REMEDY = (
    "Give a list, an object that can be iterated again, or a function without "
    "arguments that returns a new iterator"
)


@dataclass(frozen=True)
class Part:
    """
    A chunk as the user gave it.

    Parameters
    ----------
    rows : tuple
        Inputs, responses, and weights or ``None``.
    epoch, number : int
        Of the pass, and within it, from 0.
    """

    rows: tuple[Any, Any, Any]
    epoch: int
    number: int

    def __str__(self) -> str:
        return place_of(self.epoch, self.number)


def place_of(epoch: int, number: int) -> str:
    """Return where a chunk stands, in words for messages."""
    return f"chunk {number + 1} of epoch {epoch + 1}"


def open_chunks(chunks: Any, owner: str, max_epochs: int | None) -> Callable[[], Any]:
    """
    Return a function that begins a pass over chunks.

    Parameters
    ----------
    chunks : iterable or callable
        What the user gave.
    owner : str
        Named in errors.
    max_epochs : int or None
        How many passes there may be.

    Returns
    -------
    callable
        Returns an iterator.

    Raises
    ------
    InvalidParameterError
        If it is neither an iterable nor a function, or an iterator that has no second
        pass, such as a generator, and there is to be one.
    """
    if isinstance(chunks, _ONCE) and max_epochs is not None and max_epochs > 1:
        raise InvalidParameterError(
            f"The 'chunks' parameter of {owner}, of type {type(chunks).__name__}, can "
            f"be iterated once, and max_epochs={max_epochs} asks for more. "
            f"{REMEDY} (of a generator, the function itself in place of its result), "
            "or max_epochs=1."
        )
    is_iterable = isinstance(chunks, Iterable) or hasattr(chunks, "__getitem__")
    if not is_iterable and not callable(chunks):
        raise _no_iterable(chunks, owner)

    def begin() -> Iterator[Any]:
        found = chunks if is_iterable else chunks()
        try:
            return iter(found)
        except TypeError:
            raise _no_iterable(found, owner) from None

    return begin


def _no_iterable(found: Any, owner: str) -> InvalidParameterError:
    return invalid(
        "chunks",
        owner,
        f"an iterable of tuples {_A_CHUNK}, or a function without arguments that "
        "returns one",
        found,
    )


def parts_of(
    chunks: Any, begin: Callable[[], Iterator[Any]], max_epochs: int | None
) -> Iterator[Part]:
    """
    Yield all chunks, pass after pass.

    Parameters
    ----------
    chunks : object
        What the user gave. If it is an iterator itself, it is not ours to close, and
        passes end where it is empty.
    begin : callable
        As of `open_chunks`.
    max_epochs : int or None
        How many passes there are at most; ``None`` is without end.

    Yields
    ------
    Part
        A chunk, with its place.

    Raises
    ------
    InvalidParameterError
        If one is no tuple of two or three, or a pass has none, though it has an
        iterator of its own.
    """
    epoch = count = 0
    while max_epochs is None or epoch < max(max_epochs, 1):
        before, number, iterator = count, 0, None
        try:
            while True:
                try:
                    iterator = begin() if iterator is None else iterator
                    # Not by name: it is not to be held while the next one is read.
                    given = [next(iterator)]
                except StopIteration:
                    break
                except Exception as error:
                    place = place_of(epoch, number)
                    error.add_note(f"Raised by chunks, at {place}.")
                    raise
                yield Part(_read_tuple(given.pop(), epoch, number), epoch, number)
                number, count = number + 1, count + 1
        finally:
            close = getattr(iterator, "close", None)
            if iterator is not chunks and close is not None:
                close()
        if count == 0:
            raise InvalidParameterError(
                f"chunks has given none. It must give at least one tuple {_A_CHUNK}."
            )
        if count == before and iterator is chunks:
            return
        if count == before:
            raise InvalidParameterError(
                f"chunks has given {count} in epoch 1, and none in epoch {epoch + 1}: "
                f"it can be iterated only once. {REMEDY}, or max_epochs=1."
            )
        epoch += 1


def _read_tuple(given: Any, epoch: int, number: int) -> tuple[Any, Any, Any]:
    # (Loaders of other libraries make lists.)
    if isinstance(given, (tuple, list)) and len(given) in (2, 3):
        X, y, *weights = given
        return X, y, weights[0] if weights else None
    what = (
        f"a {type(given).__name__} of {len(given)}"
        if isinstance(given, (tuple, list))
        else shorten(given)
    )
    raise InvalidParameterError(
        f"A chunk must be a tuple {_A_CHUNK}. Got {what} instead, at "
        f"{place_of(epoch, number)}."
    )


def at_place(error: Exception, part: Part) -> Exception:
    """
    Return the error of a check with the place of the chunk that it is about.

    Parameters
    ----------
    error : Exception
        What was raised.
    part : Part
        The chunk.

    Returns
    -------
    Exception
        Of the same type. To be raised from the error, unless it is that.
    """
    place = str(part)
    if type(error) in _PLAIN:
        return type(error)(f"{place[:1].upper()}{place[1:]}: {error}")
    error.add_note(f"Raised at {place}.")
    return error


class Ahead(Generic[Item]):
    """
    Make items in a thread of their own, ahead of their use.

    Parameters
    ----------
    parts : iterator
        What they are made of. It runs in the thread, and is closed there.
    make : callable
        Makes an item of a part; in the thread, too.
    context : callable, default=nullcontext
        Returns a context, which the thread is in for all of its work. (Context
        variables are those of the caller anyway.)

    Attributes
    ----------
    interruption : KeyboardInterrupt or None
        What has come while the end of the thread was waited for.
    failure : BaseException or None
        What closing the parts has raised, once the context is left.

    Notes
    -----
    At first it may make one. Each `allow` lets it make one more: who allows one after
    having let go of another never has more than a fixed number of them. As a context it
    ends its thread when it is left, once the part is read that is being read. Ctrl-C
    ends the waiting for that, not the thread, which then ends by itself.
    """

    def __init__(
        self,
        parts: Iterator[Part],
        make: Callable[[Part], Item],
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.interruption: KeyboardInterrupt | None = None
        self.failure: BaseException | None = None
        self._parts = parts
        self._make = make
        self._context = context
        self._room = threading.Semaphore(1)
        self._made: SimpleQueue[tuple[list[Item], BaseException | None]] = SimpleQueue()
        self._is_closed = False
        # One that never gets its next part is not to keep the process from ending.
        self._thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._work,),
            name="skoptax-chunks",
            daemon=True,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            self._close()
            while self._thread.is_alive():
                self._thread.join(_SECONDS)
        except KeyboardInterrupt as interruption:
            self._close()  # it may have come before that
            if error is not None:
                raise
            self.interruption = interruption
        if error is not None and self.failure not in (None, error):
            error.add_note(f"Then closing chunks raised {self.failure!r}.")

    def allow(self, count: int = 1) -> None:
        """Let it make so many more."""
        self._room.release(count)

    def take(self) -> Item | None:
        """
        Return the next item, once it is made.

        Returns
        -------
        object or None
            ``None`` if there are no more.

        Raises
        ------
        BaseException
            What making it has raised, with the traceback of that.
        """
        while True:
            try:
                found, error = self._made.get(timeout=_SECONDS)
            except Empty:
                continue
            if error is not None:
                raise error
            return found.pop() if found else None

    def _close(self) -> None:
        self._is_closed = True
        self._room.release()

    def _work(self) -> None:
        try:
            with self._context():
                try:
                    self._make_all()
                except BaseException as error:  # raised where the item is taken
                    self._made.put(([], error))
                close = getattr(self._parts, "close", None)
                if close is not None:
                    close()
        except BaseException as error:
            self.failure = error
            # Nobody waits for it, unless it comes from entering the context.
            self._made.put(([], error))

    def _make_all(self) -> None:
        is_last = False
        while not is_last:
            self._room.acquire()
            # Held by no name: an item is not to outlive its use.
            parts = [] if self._is_closed else [*islice(self._parts, 1)]
            if self._is_closed:
                parts.clear()
            items = [self._make(parts.pop())] if parts else []
            is_last = not items
            self._made.put((items, None))
            del items
