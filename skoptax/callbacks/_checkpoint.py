"""Callbacks that let a fit outlive its process."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from .._archive import (
    Snapshot,
    Writer,
    differences,
    read_about,
    read_latest,
    read_snapshot,
)
from .._files import require_library
from .._validation import check_integer, invalid
from ..exceptions import CheckpointError
from ._base import Callback


class Checkpoint(Callback):
    """
    Write to a folder all that a run needs to go on.

    For long fits, in processes that may be killed: started again with `Resume`, they
    lose no more than what came after the newest checkpoint. Writing one waits for the
    device, and takes the longer the larger the state is.

    Parameters
    ----------
    path : str or path-like
        The folder: of one fit alone. It is made if it is not there.
    keep : int, default=2
        How many of the newest checkpoints to keep, at least 1.
    every : int or None, default=1000
        Write after the steps 0, ``every``, 2 * ``every``, ..., at least 1, or with None
        at every call; and at the end of the run, also if Ctrl-C ends it, but not if an
        error does.

    Raises
    ------
    CheckpointError
        If the folder has checkpoints of another fit, or the fit cannot be told from
        others, because its model holds a lock, say.

    See Also
    --------
    Resume : Goes on from what is there.

    Notes
    -----
    A checkpoint is a file ``step-*.safetensors``, of the format `safetensors`
    (``pip install 'skoptax[checkpoints]'``): the state of the optimiser, what seeds
    random numbers, and a description of the fit. It holds digests of model and data,
    not these themselves, and nothing in it is ever executed.

    The history is beside it, in files ``rows-*.safetensors`` that checkpoints share:
    each writes the rows that are new since the last one, so that it costs no more the
    longer a run has become, and names the files that have the others. From time to time
    sixteen of them become one, and what no checkpoint names is removed. So a checkpoint
    is copied or moved with its whole folder.

    A file gets its name once it is complete and on the disk, with all that it needs, so
    that a process that is killed leaves no checkpoint that cannot be read. All have
    digests of what they hold: one that is damaged or missing is refused by its name.

    Where a fit goes back from steps that are not finite, the checkpoint also holds what
    leads to the best state: with large networks it is twice as large.

    What other callbacks have collected, or count, is not in it, and whether they are
    the same when a run goes on is not known.

    A fit with ``warm_start``, and each call of ``partial_fit``, is a fit of its own,
    from other start values, and needs a folder of its own.

    Examples
    --------
    >>> import tempfile
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import Checkpoint, Resume
    >>> def loss(state):
    ...     return (state["x"] - 3.0) ** 2
    >>> folder = tempfile.mkdtemp()
    >>> callbacks = [Checkpoint(folder, every=10), Resume(folder)]
    >>> optimizer = OptaxOptimizer(loss, optax.adam(0.1), callback=callbacks)
    >>> start = {"x": Parameter(value=1.0)}
    >>> state, data = optimizer.run(start, max_steps=25)  # and after it was killed:
    >>> state, data = optimizer.run(start, max_steps=100)
    >>> len(data["history"])
    101
    >>> callbacks[0].wants_snapshot
    False
    """

    def __init__(
        self, path: str | os.PathLike[str], *, keep: int = 2, every: int | None = 1000
    ) -> None:
        super().__init__(every=every)
        self.path = path
        self.keep = keep

    #: Whether the run is to hand over a snapshot.
    wants_snapshot: bool = False
    _written: int | None = None
    _writer: Writer | None = None

    def on_run_start(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_start(fitting_data)
        # Now, not when much has been fitted.
        require_library()
        _folder(self)
        check_integer("keep", type(self).__name__, self.keep, 1)
        self.wants_snapshot = False
        self._written = self._writer = None

    def on_step(
        self,
        step: int,
        diff_state: Any,
        static_state: Any,
        fitting_data: dict[str, Any],
        aux_data: Any,
        loss_value: Any,
        grads: Any,
    ) -> None:
        del step, diff_state, static_state, fitting_data, aux_data, loss_value, grads
        self.wants_snapshot = True

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """
        Write a snapshot, unless it is written already.

        The optimiser calls it between two steps, where `on_step` has asked for it, and
        at the end of a run. Of the history it writes the rows that no file has yet. A
        full disk is a warning, but an error at the first checkpoint of a run.

        Parameters
        ----------
        snapshot : Snapshot
            Of the run: what JSON can hold, as ``about``, arrays, and the history.

        Raises
        ------
        CheckpointError
            If the folder has checkpoints of another fit.

        See Also
        --------
        Resume.find_snapshot : Reads what it has written.

        Examples
        --------
        >>> import tempfile
        >>> import optax
        >>> from skoptax import OptaxOptimizer, Parameter
        >>> from skoptax.callbacks import Checkpoint, Resume
        >>> first, second = tempfile.mkdtemp(), tempfile.mkdtemp()
        >>> def loss(state):
        ...     return state["x"] ** 2
        >>> optimizer = OptaxOptimizer(loss, optax.sgd(0.1), Checkpoint(first))
        >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=5)
        >>> path, snapshot = Resume(first).find_snapshot()
        >>> callback = Checkpoint(second)
        >>> callback.on_run_start({})
        >>> callback.keep_snapshot(snapshot)
        >>> path, copy = Resume(second).find_snapshot()
        >>> copy.step
        5
        """
        self.wants_snapshot = False
        if snapshot.step == self._written:
            return
        folder = _folder(self)
        if self._written is None:
            latest = read_latest(folder, read_about)
            there = snapshot.about if latest is None else latest[1]["about"]
            said = there.get("fit")
            differs = differences(
                said if isinstance(said, dict) else {}, snapshot.about["fit"]
            )
            if differs:
                raise CheckpointError(
                    f"{folder} has checkpoints of another fit. What differs:{differs}\n"
                    "Give each fit a folder of its own, or empty this one."
                )
        if self._writer is None:
            self._writer = Writer(folder, self.keep)
        try:
            self._writer.write(snapshot)
        except OSError as error:
            if self._written is None:
                raise
            # A disk that is full is no reason to lose what has been fitted.
            warnings.warn(
                f"The checkpoint of step {snapshot.step} could not be written: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            self._written = snapshot.step


class Resume(Callback):
    """
    Go on from the newest checkpoint in a folder, if there is one.

    The same script then starts a fit and continues it: in an empty folder the run
    begins at the start values.

    Parameters
    ----------
    path : str or path-like
        The folder that :class:`Checkpoint` writes to.

    Raises
    ------
    CheckpointError
        If the checkpoint is of another fit: another model, spec, optimiser, other data,
        or another version of skoptax. The error says what differs. ``tol`` and
        ``n_iter_no_change`` may be others, and ``max_steps``, unless the checkpoint is
        beyond it. Also if one of its files is damaged, or not there: the error names
        it. Once the checkpoint's own file, ``step-*.safetensors``, is removed, the fit
        goes on from the one before.

    See Also
    --------
    Checkpoint : Writes them.

    Notes
    -----
    The steps that follow are those that the run would have made, and so are the
    parameters and the history, from step 0 on, to the last bit on the same machine with
    the same versions of JAX and Optax. A run that has ended by a rule of its own goes
    on if the rule has changed; one that a callback has stopped goes on in any case. A
    fit that draws random numbers without an integer as its ``random_state`` goes on
    with the seed of the checkpoint.

    Examples
    --------
    >>> import tempfile
    >>> import optax
    >>> from skoptax import OptaxOptimizer, Parameter
    >>> from skoptax.callbacks import Checkpoint, Resume
    >>> def loss(state):
    ...     return (state["x"] - 3.0) ** 2
    >>> folder = tempfile.mkdtemp()
    >>> callbacks = [Checkpoint(folder, every=10), Resume(folder)]
    >>> callbacks[1].find_about() is None
    True
    >>> optimizer = OptaxOptimizer(loss, optax.adam(0.1), callback=callbacks)
    >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=25)
    >>> path, snapshot = callbacks[1].find_snapshot()
    >>> snapshot.step
    25
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path = path

    def on_run_start(self, fitting_data: dict[str, Any]) -> None:
        super().on_run_start(fitting_data)
        require_library()
        _folder(self)

    def find_about(self) -> dict[str, Any] | None:
        """
        Return what the newest checkpoint says of its run.

        What the fit that is to go on is compared with: digests of model and data, and
        settings. It reads the head of the file alone, not its arrays.

        Returns
        -------
        dict or None
            ``None`` if there is no checkpoint.

        See Also
        --------
        Resume.find_snapshot : The whole checkpoint.

        Examples
        --------
        >>> import tempfile
        >>> from skoptax.callbacks import Resume
        >>> print(Resume(tempfile.mkdtemp()).find_about())
        None
        """
        found = read_latest(_folder(self), read_about)
        return None if found is None else found[1]["about"]

    def find_snapshot(self) -> tuple[Path, Snapshot] | None:
        """
        Return the newest checkpoint.

        The optimiser calls it as a run begins; by hand it tells how far a run has come,
        while that goes on in another process.

        Returns
        -------
        tuple of (Path, Snapshot) or None
            ``None`` if there is none.

        See Also
        --------
        Checkpoint.keep_snapshot : Writes it.

        Examples
        --------
        >>> import tempfile
        >>> import optax
        >>> from skoptax import OptaxOptimizer, Parameter
        >>> from skoptax.callbacks import Checkpoint, Resume
        >>> folder = tempfile.mkdtemp()
        >>> optimizer = OptaxOptimizer(
        ...     lambda state: state["x"] ** 2, optax.sgd(0.1), Checkpoint(folder)
        ... )
        >>> state, data = optimizer.run({"x": Parameter(value=1.0)}, max_steps=5)
        >>> path, snapshot = Resume(folder).find_snapshot()
        >>> snapshot.step
        5
        """
        return read_latest(_folder(self), read_snapshot)


def _folder(callback: Checkpoint | Resume) -> Path:
    path = callback.path
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise invalid("path", type(callback).__name__, "the path of a folder", path)
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise invalid("path", type(callback).__name__, "a folder, not a file", path)
    return folder
