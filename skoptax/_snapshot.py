"""Snapshots of a run, and runs that go on from one.

A snapshot says in words which fit it is of, so that another one can be told from it by
what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ._archive import (
    FORMAT,
    FORMAT_KEY,
    Snapshot,
    another_fit,
    differences,
    no_checkpoint,
)
from ._assessment import (
    CONVERGED,
    NO_IMPROVEMENT,
    RUNNING,
    STALLED,
    Control,
    Counts,
)
from ._driver import Run
from ._fingerprint import LastingWalk, NotWalkable
from ._legacy import Legacy
from ._loop import Carry
from ._recovery import Anchor, Recovery, Setback
from ._structure import treedef_content
from ._task import Task
from ._typing import PyTree
from ._version import __version__
from .callbacks._base import flat_members
from .exceptions import CheckpointError

# What is written out in a description: so few entries, in so many characters.
_FEW, _LONGEST = 8, 60
_CARRY, _NUMBERS, _ANCHOR = "carry", "numbers", "anchor"


def take_snapshot(run: Run, about_fit: dict[str, str]) -> Snapshot:
    """
    Return all that a run needs to go on.

    Parameters
    ----------
    run : Run
        Between two steps.
    about_fit : dict of str to str
        As `describe` returns it.

    Returns
    -------
    Snapshot
        A copy.
    """
    # The history has its rows without the empty ones of the block.
    carry = run.carry._replace(history={})
    arrays = _named(_CARRY, carry) | _named(_NUMBERS, run.task.numbers)
    legacy = run.legacy
    about = {
        "fit": about_fit,
        "legacy": None if legacy is None else [legacy.steps, legacy.epochs],
        "seed": run.seed,
        "rules": _rules(run),
        "recovery": None,
    }
    if run.recovery.most > 0:
        about["recovery"], carry = _recovery_of(run.recovery)
        arrays |= _named(_ANCHOR, carry)
    return Snapshot(run.step, about, arrays, run.recorded())


def go_on(run: Run, snapshot: Snapshot) -> None:
    """
    Put a run where another one was.

    Parameters
    ----------
    run : Run
        Of the same fit, at its start.
    snapshot : Snapshot
        Of the other run.
    """
    arrays = snapshot.arrays
    blank: Carry = run.blank
    carry = _filled(_CARRY, blank._replace(history={}), arrays)
    numbers = _filled(_NUMBERS, run.task.numbers, arrays)
    recorded = snapshot.history.rows()
    rows = {
        dtype: _as_rows(block, recorded.get(dtype), dtype, snapshot.step + 1)
        for dtype, block in blank.history.items()
    }
    legacy = None
    if snapshot.about["legacy"] is not None:
        steps, epochs = snapshot.about["legacy"]
        legacy = Legacy(carry.opt_state, carry.start, steps, epochs)
    if snapshot.about["rules"] != _rules(run):
        # What ended by another rule has not ended.
        counts = Counts(*carry.counts)
        if counts.status in (CONVERGED, NO_IMPROVEMENT, STALLED):
            counts = counts._replace(status=RUNNING)
            carry = carry._replace(counts=np.array(counts, carry.counts.dtype))
    run.task.adopt(numbers)
    if run.recovery.most > 0:
        kept = _filled(_ANCHOR, blank._replace(history={}), arrays)
        kept = kept._replace(history=blank.history)
        _put_recovery(run.recovery, snapshot.about["recovery"], kept)
    run.resume(carry._replace(history=blank.history), rows, legacy)


def _recovery_of(recovery: Recovery) -> tuple[dict[str, Any], Carry]:
    """Return what a run knows of steps that were not finite, and its anchor's carry."""
    anchor = recovery.anchor
    assert anchor is not None
    integers, tol = anchor.control.packed()
    about = {
        "shrinks": recovery.shrinks,
        "undone": recovery.undone,
        "origin": recovery.origin,
        "hopeless": recovery.hopeless,
        "setbacks": [list(setback) for setback in recovery.setbacks],
        "control": [*integers.tolist(), tol],
        "anchor": [anchor.step, anchor.shrinks, anchor.undone],
    }
    return about, anchor.carry._replace(history={})


def _put_recovery(recovery: Recovery, about: dict[str, Any], carry: Carry) -> None:
    """Undo `_recovery_of`."""
    recovery.shrinks, recovery.undone = about["shrinks"], about["undone"]
    recovery.hopeless, recovery.origin = about["hopeless"], about["origin"]
    recovery.setbacks = [Setback(*pair) for pair in about["setbacks"]]
    recovery.anchor = Anchor(carry, Control(*about["control"]), *about["anchor"])


def _as_rows(
    block: Any, found: np.ndarray | None, dtype_name: str, count: int
) -> np.ndarray:
    """Return a history's rows of one data type, one for each step and the start."""
    shape, dtype = (count, block.shape[1]), block.dtype
    if found is None or found.shape != shape or found.dtype != dtype:
        raise _other_arrays(f"the history of {dtype_name}", shape, dtype, found)
    return found


def _rules(run: Run) -> list[float]:
    return [float(run.tol), int(run.patience), int(run.stalled_after)]


def resume(run: Run, callback: Any, about_fit: dict[str, str], max_steps: int) -> None:
    """
    Let a run go on from the snapshot that one of its callbacks finds, if any does.

    Parameters
    ----------
    run : Run
        At its start.
    callback : callable or None
        Its callbacks.
    about_fit : dict of str to str
        As `describe` returns it.
    max_steps : int
        Where the run ends at the latest.

    Raises
    ------
    CheckpointError
        If the snapshot is of another fit, or of a later step.
    """
    for member in _with_method(callback, "find_snapshot"):
        found = member.find_snapshot()
        if found is None:
            continue
        path, snapshot = found
        _check_head(path, snapshot.about)
        differs = differences(snapshot.about["fit"], about_fit)
        if differs:
            raise another_fit(path, differs)
        if snapshot.step > max_steps:
            raise CheckpointError(
                f"{path} is a checkpoint of step {snapshot.step}, and the fit is to "
                f"make {max_steps} steps. Let it make more, or give it another folder."
            )
        go_on(run, snapshot)
        return


def _check_head(path: Any, about: dict[str, Any]) -> None:
    """Raise an error unless a snapshot says all that `go_on` asks it."""
    legacy = about.get("legacy", ())
    if not (
        isinstance(about.get("fit"), dict)
        and isinstance(about.get("seed", ""), (int, type(None)))
        and (legacy is None or (isinstance(legacy, list) and len(legacy) == 2))
        and isinstance(about.get("rules"), list)
        and _is_recovery(about.get("recovery", ()))
    ):
        raise no_checkpoint(path, "its head is of another form")


def _is_recovery(about: Any) -> bool:
    if about is None:
        return True
    lists = {"setbacks": None, "control": len(Control._fields), "anchor": 3}
    numbers = ("shrinks", "undone", "hopeless", "origin")
    return isinstance(about, dict) and (
        all(isinstance(about.get(name), int) for name in numbers)
        and all(
            isinstance(about.get(name), list) and count in (None, len(about[name]))
            for name, count in lists.items()
        )
        and all(isinstance(p, list) and len(p) == 2 for p in about["setbacks"])
    )


def keep_snapshot(
    run: Run, callback: Any, about_fit: dict[str, str], at_end: bool
) -> None:
    """
    Hand a snapshot to those callbacks that want one.

    Parameters
    ----------
    run : Run
        Between two steps.
    callback : callable or None
        Its callbacks.
    about_fit : dict of str to str
        As `describe` returns it.
    at_end : bool
        Whether all of them want one.
    """
    members = _with_method(callback, "keep_snapshot")
    wanting = [m for m in members if at_end or m.wants_snapshot]
    if wanting:
        # A state that a callback has replaced is evaluated first.
        run.advance_to(run.step)
        snapshot = take_snapshot(run, about_fit)
        for member in wanting:
            member.keep_snapshot(snapshot)


def seed_of(callback: Any) -> int | None:
    """Return the seed of the fit that a callback lets go on, if any does."""
    for member in _with_method(callback, "find_about"):
        about = member.find_about()
        if about is not None:
            seed: int | None = about.get("seed")
            return seed
    return None


def uses_snapshots(callback: Any) -> bool:
    """Tell whether any of the callbacks keeps snapshots, or finds one."""
    return any(_with_method(callback, name) for name in ("keep_snapshot", "find_about"))


def describe(task: Task) -> dict[str, str]:
    """
    Say in words what a task is: equal for tasks whose runs are.

    Parameters
    ----------
    task : Task
        At its start.

    Returns
    -------
    dict of str to str
        What it says of what.

    Raises
    ------
    CheckpointError
        If something in it has no readable content.
    """
    walk = LastingWalk()

    def digest(*objects: Any) -> str:
        try:
            return walk.fingerprint(*objects).hex()[:16]
        except NotWalkable as reason:
            raise CheckpointError(
                f"A fit whose model, loss, state or optimiser cannot be told from "
                f"another one has no checkpoints: {reason}. Keep what has no content "
                "that can be read, such as locks and open files, out of them."
            ) from reason

    found = {"skoptax": __version__, FORMAT_KEY: str(FORMAT)}
    found["model and loss"] = f"content {digest(task.content)}"
    optimizer = task.optimizer
    name = getattr(getattr(optimizer, "factory", None), "__name__", "a finished one")
    hyper = ", ".join(f"{name}={value}" for name, value in optimizer.numbers.items())
    found["optimizer"] = f"{name}({hyper}), content {digest(optimizer.content())}"
    found["differentiation"] = f"mode={task.mode!r}, has_aux={task.has_aux}"
    structure, numbers = task.structure, task.numbers
    found["parameters"] = ", ".join(leaf.name for leaf in structure.leaves)
    # What a class keeps beside its leaves, such as an activation, is part of it.
    found["structure"] = f"content {digest(treedef_content(structure.treedef))}"
    values = numbers["static"] | structure.split(task.start)
    for i, leaf in enumerate(structure.leaves):
        parts: list[str] = [leaf.kind]
        if i in values:
            parts.append(_text(values[i], digest))
        for field in ("free", "lower", "upper", "scale"):
            given = getattr(task.leaves[i], field, None)
            if given is not None:
                parts.append(f"{field} {_text(given, digest)}")
        more = (leaf.transform, leaf.tie, leaf.prior, leaf.constant)
        hyper = jax.tree.leaves(numbers["priors"].get(i, ()))
        parts.append(f"content {digest(more, hyper)}")
        found[f"parameter {leaf.name!r}"] = ", ".join(parts)
    for name, part in task.named_data().items():
        found[name] = _text(part, digest)
    if task.feed is not None:
        found["batches"] = repr(task.feed)
    if task.pace is not None:
        seed, epoch = int(task.pace.seed), int(task.pace.first_epoch)
        found["order of the rows"] = f"seed {seed}, from epoch {epoch}"
    return found


def _text(part: Any, digest: Any) -> str:
    """Return what is said of a number, an array or a pytree of them."""
    leaves = [
        _plain(leaf) if isinstance(leaf, jax.Array) else leaf
        for leaf in jax.tree.leaves(part)
    ]
    if not leaves:
        return "none"
    if len(leaves) != 1:
        return f"content {digest(leaves)}"
    leaf = leaves[0]
    if isinstance(leaf, (np.ndarray, np.generic)):
        written = f"{leaf.tolist()!r} ({leaf.dtype})" if leaf.size <= _FEW else ""
        what = f"{' x '.join(map(str, leaf.shape))} ({leaf.dtype})"
    else:
        written, what = repr(leaf), type(leaf).__name__
    # Whatever is not written out in full has a digest.
    is_whole = 0 < len(written) <= _LONGEST and not callable(leaf)
    return written if is_whole else f"{what}, content {digest(leaf)}"


def _with_method(callback: Any, name: str) -> list[Any]:
    return [member for member in flat_members(callback) if hasattr(member, name)]


def _named(prefix: str, tree: PyTree) -> dict[str, np.ndarray]:
    """Return the leaves of a pytree as NumPy arrays, by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(prefix, path): _plain(leaf) for path, leaf in leaves}


def _filled(prefix: str, like: PyTree, arrays: dict[str, np.ndarray]) -> PyTree:
    """Return a pytree with the leaves that are named by their paths."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
    return jax.tree.unflatten(
        treedef, [_as(leaf, arrays, _name(prefix, path)) for path, leaf in leaves]
    )


def _name(prefix: str, path: Sequence[Any]) -> str:
    return prefix + jax.tree_util.keystr(tuple(path))


def _plain(leaf: Any) -> np.ndarray:
    if _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    return np.array(leaf)


def _as(like: Any, arrays: dict[str, np.ndarray], name: str) -> Any:
    """Return the array of a name, as the leaf it takes the place of."""
    found = arrays.get(name)
    shape, dtype = np.shape(_plain(like)), _plain(like).dtype
    if found is None or found.shape != shape or found.dtype != dtype:
        raise _other_arrays(name, shape, dtype, found)
    if _plain(like).tobytes() == found.tobytes():
        # The very object: what nobody has replaced is what the user gave.
        return like
    if _is_key(like):
        data: Any = found
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like))
    # Numbers that a program takes as Python's are not of the same type as an array.
    return type(like)(found) if isinstance(like, (bool, int, float)) else found


def _other_arrays(
    name: str, shape: tuple[int, ...], dtype: Any, found: np.ndarray | None
) -> CheckpointError:
    got = "none" if found is None else f"{found.dtype} of shape {found.shape}"
    return CheckpointError(
        f"The checkpoint is of a fit with other arrays, or damaged: for {name} {dtype} "
        f"of shape {shape} is needed, and it has {got}. Was Optax another version?"
    )


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )
