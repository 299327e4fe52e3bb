"""One optimisation in progress: the host's side of the loop.

`Run` packs the state, finds the compiled program, enters it again and again
until a step is reached, and reads what the user sees off its results.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from ._assessment import NON_FINITE, OFF, RUNNING, Best, Control, Counts
from ._convergence import Progress
from ._diagnose import checked_loss, depends_on_parameters, explained
from ._entries import Entries, entry_names, read_entries
from ._evaluation import Values
from ._fingerprint import Walk
from ._loop import Carry, make_block, usual_rows
from ._packing import pack
from ._parameter import Parameter, is_parameter
from ._programs import PROGRAMS, Program, described_shapes
from ._state import is_free
from ._structure import Numbers, Structure, joined, separate
from ._transforms import Logit
from ._typing import PyTree
from ._unpacking import build_state, internal_start, user_values
from ._validation import shorten
from .exceptions import InvalidParameterError, ModelError, NonFiniteError

# Columns of the history that a parameter's name must not take.
RESERVED_COLUMNS = frozenset(
    {"loss", "grad_norm", "learning_rate", "val_loss", "step", "epoch", "time"}
)
# Larger inputs go to the device once, not with every block.
_SMALL = 10_000


class Run:
    """An optimisation between its start and its end.

    Parameters
    ----------
    loss : callable
        ``loss(state, *data) -> scalar`` or ``(scalar, aux)``.
    optimizer : OptimizerSpec or FinishedOptimizer
        What makes the steps.
    state : pytree
        Where to start.
    data : tuple, default=()
        Further arguments of the loss; arrays.
    mode : {"rev", "fwd"}
        The differentiation mode.
    has_aux : bool
        Whether the loss returns auxiliary data.
    tol : float, default=0.0
        Ends the run when the scaled gradient is this small; 0 is off.
    patience : int, default=0
        Ends the run after so many steps without a new best loss; 0 is off.
    stalled_after : int, default=0
        The same for an optimiser that descends at every step, so that rounding
        error must keep it from doing so; 0 is off.
    owner : str
        Named in errors about the state.
    role : str
        Named in errors about the loss, as the subject of a sentence.
    content : object, optional
        What the loss is keyed by, if not by itself.
    walk : Walk, optional
        What has been visited of the loss for a content key.
    """

    def __init__(
        self,
        loss: Any,
        optimizer: Any,
        state: PyTree,
        data: tuple[Any, ...] = (),
        *,
        mode: str,
        has_aux: bool,
        tol: float = 0.0,
        patience: int = 0,
        stalled_after: int = 0,
        owner: str = "OptaxOptimizer",
        role: str = "The loss",
        content: Any = None,
        walk: Walk | None = None,
    ) -> None:
        self._content = loss if content is None else content
        self._walk = walk
        self._loss = loss
        self._optimizer = optimizer
        self._data = jax.tree.map(_to_device, data)
        self._mode = mode
        self.has_aux = has_aux
        self.tol = tol
        self.patience = patience
        self.stalled_after = stalled_after
        self._owner = owner
        self.role = role
        self._carry: Any = None
        self._replaced = True
        self._rows: list[tuple[int, Any]] = []
        self._first_row = 0
        self.step = 0
        self.status = RUNNING
        self._bind(state)
        # JAX sorts a dict's keys; the history has the user's order.
        self._order = reading_order(state)

    # Finding the program.

    def _bind(self, state: PyTree) -> None:
        """Pack a state and find the program of its structure."""
        self._state = state
        structure, numbers = pack(state, self._owner)
        if self._optimizer.is_entrywise:
            structure, numbers = joined(structure, numbers)
        self._structure = structure
        self._numbers: Numbers = jax.tree.map(_to_device, numbers)
        self._leaves = jax.tree.leaves(state, is_leaf=is_parameter)
        self._rows_of_block = usual_rows(self._optimizer)
        make = partial(make_block, history_rows=self._rows_of_block)
        self._program = self.find_program(self.inputs(), make)

    def find_program(self, inputs: tuple[Any, ...], make: Any, *more: Any) -> Program:
        """Find the program of a block, which ``make`` makes, in the cache.

        Parameters
        ----------
        inputs : tuple
            Packed numbers, data and hyperparameters.
        make : callable
            Takes what `make_block` takes.
        *more : object
            What the key must hold besides.

        Returns
        -------
        Program
            Its ``about`` is what the block's ``blank`` returns.
        """
        content = (
            self._content,
            self._structure.content(),
            self._optimizer.content(),
            self._mode,
            self.has_aux,
            *more,
        )
        # The cache keeps the block for the life of the process: it holds on to the
        # loss and the structure, not to the state or the data.
        block = make(
            checked_loss(self._loss, self.has_aux, self.role),
            self._structure,
            self._optimizer,
            self._mode,
            self.has_aux,
            self._loss if hasattr(self._loss, "losses_at") else None,
        )

        def blank() -> Any:
            with explained(self.role):
                return block.blank(*inputs)

        walk, self._walk = self._walk, None
        return PROGRAMS.get(
            content, inputs, block.run, blank, walk, self._optimizer.looks
        )

    def inputs(self) -> tuple[Any, ...]:
        """Return packed numbers, data and hyperparameters."""
        return self._numbers, self._data, self._optimizer.numbers

    # Going on.

    def advance_to(self, stop_at: int) -> None:
        """Run until step ``stop_at``, or until the loop ends by itself.

        Parameters
        ----------
        stop_at : int
            A number of steps, counted from the start of the run.

        Raises
        ------
        NonFiniteError
            If the loss or its gradient is not finite at the start.
        ModelError
            If no parameter has any influence on the loss.
        """
        while self._replaced or (self.status == RUNNING and self.step < stop_at):
            last_row = self._first_row + self._rows_of_block - 1
            limit = min(stop_at, self.step + self._program.steps_per_block(), last_row)
            is_start = self._carry is None
            control = self.control(is_start, self._replaced, limit, self._first_row)
            carry = self._program.about[0] if is_start else self._carry
            began, before = time.perf_counter(), self.step
            with explained(self.role):
                self._carry = self._program(*self.inputs(), control.packed(), carry)
            self._counts = Counts(*np.asarray(self._carry.counts).tolist())
            self.step, self.status = self._counts.step, self._counts.status
            self._program.record_speed(time.perf_counter() - began, self.step - before)
            self._replaced = False
            if is_start:
                self._check_start()
            if self.step >= last_row:
                self._collect_rows()
                self._first_row = self.step + 1

    def control(
        self, is_start: bool, is_replaced: bool, stop_at: int, first_row: int
    ) -> Control:
        """Return what the loop is told for a block of steps."""
        return Control(
            is_start=is_start,
            is_replaced=is_replaced,
            stop_at=stop_at,
            first_row=first_row,
            patience=self.patience or OFF,
            stalled_after=self.stalled_after or OFF,
            tol=self.tol,
        )

    def adopt(self, values: Any, blocks: Sequence[tuple[int, Carry]]) -> None:
        """Go on as if this run had begun elsewhere, and been there.

        Parameters
        ----------
        values : pytree
            The start values, as the packed numbers hold them.
        blocks : sequence of (int, Carry)
            For each block of steps, the first step that its history has a row for, and
            what the loop has left, as NumPy arrays.
        """
        self._numbers = self._numbers | {"values": values}
        self._replaced = False
        for place, (first, carry) in enumerate(blocks):
            self._carry, self._first_row = carry, first
            self._counts = Counts(*np.asarray(carry.counts).tolist())
            self.step, self.status = self._counts.step, self._counts.status
            if place < len(blocks) - 1:
                self._collect_rows()
        self._check_start()

    def replace(self, state: PyTree) -> None:
        """Put other values into the run; they are evaluated before the next step.

        Parameters
        ----------
        state : pytree
            Of the same structure.
        """
        if _skeleton(state) != _skeleton(self._state):
            raise InvalidParameterError(
                "A callback must return states of the structure it received: the same "
                "pytrees, with the same parameters free, of the same shapes."
            )
        self._bind(state)
        # Its shape may follow that of the data; it is evaluated before it is used.
        self._carry = self._carry._replace(aux=self._program.about[0].aux)
        self._replaced = True
        self._first_row = min(self._first_row, self.step)

    def _check_start(self) -> None:
        loss, norm = self._start.value, self._start.norm
        if self.status == NON_FINITE and self.step == 0:
            what = "loss" if not np.isfinite(loss) else "gradient of the loss"
            number = loss if not np.isfinite(loss) else norm
            values = self._structure.split(
                separate(self._structure, self._numbers)["values"]
            )
            starts = ", ".join(
                f"{self._structure.leaves[i].name}={shorten(np.asarray(x).tolist())}"
                for i, x in values.items()
            )
            raise NonFiniteError(
                f"The {what} is {number} at the start values {starts}. "
                "Choose a start where the model and its derivatives are finite, for "
                "every row of the data."
            )
        if norm == 0 and not self._has_influence():
            names = [x.name for x in self._structure.leaves if x.kind == "free"]
            raise ModelError(
                f"{self.role} has no gradient with respect to any free parameter "
                f"({', '.join(map(repr, names))}): it does not use them, or only "
                "through integers, comparisons, rounding or jax.lax.stop_gradient."
            )

    def _has_influence(self) -> bool:
        structure, numbers = self._structure, self._numbers

        def objective(internal: Any) -> Any:
            values = user_values(structure, numbers, internal)
            result = self._loss(build_state(structure, numbers, values), *self._data)
            return result[0] if self.has_aux else result

        # By shapes alone: an eager operation would compile a program of its own.
        start = jax.eval_shape(lambda n: internal_start(structure, n), numbers)
        with self._program.tracing():
            return depends_on_parameters(objective, start)

    # Reading results.

    @property
    def value(self) -> Any:
        """The loss at the current state, in its own precision."""
        return np.asarray(self._carry.now)[0]

    @property
    def aux(self) -> PyTree:
        """The auxiliary data at the current state; ``None`` if there are none."""
        return self._carry.aux if self.has_aux else None

    def gradient(self) -> PyTree:
        """Return the gradient, in the structure of the free part of the state."""
        return self._with_values(self._split(self._carry.gradient), "free")

    def split_state(self) -> tuple[PyTree, PyTree]:
        """Return the free and the static part of the current state."""
        values = self._values(self._carry.values)
        static = {
            i: leaf
            for i, leaf in enumerate(self._leaves)
            if self._structure.leaves[i].kind != "free"
        }
        static |= self._replaced_leaves(values, "tied")
        return self._with_values(values, "free"), self._structure.tree(static)

    def selected_state(self, on_host: bool = False) -> PyTree:
        """Return the state that the run ends with: the last finite one.

        Parameters
        ----------
        on_host : bool, default=False
            Whether its values are NumPy arrays.

        Returns
        -------
        pytree
            Free and tied parameters are new; all else are the given objects.
        """
        selected = self._carry.selected
        values = self._values(
            jax.tree.map(np.asarray, selected) if on_host else selected
        )
        leaves = dict(enumerate(self._leaves))
        return self._structure.tree(
            leaves | self._replaced_leaves(values, "free", "tied")
        )

    @property
    def selected_step(self) -> int:
        """The step of the selected state."""
        return self._counts.selected_step

    @property
    def selected_value(self) -> float:
        """The loss of the selected state."""
        return Best(*np.asarray(self._carry.best).tolist()).selected

    @property
    def start_value(self) -> float:
        """The loss at the start."""
        return self._start.value

    @property
    def start_optimality(self) -> float:
        """The scaled gradient at the start."""
        return self._start.optimality

    @property
    def looks(self) -> bool:
        """Whether the optimiser has linearised the model."""
        return self._carry.linearisation is not None

    @property
    def optimality(self) -> float:
        """What the rule of convergence compares with the tolerance, here.

        The scaled gradient, parameters counting as 1 at least; or, of an optimiser
        that looks at each prediction, what is left of the gradient's terms.
        """
        if self.looks:
            return max(self.left)
        return self._now.optimality

    @property
    def left(self) -> tuple[float, float]:
        """What is left of the gradient's terms, and what a step is to gain still."""
        share, *_, gain = np.asarray(self._carry.linearisation.sizes).tolist()
        return share, gain

    @property
    def sensitivity(self) -> float:
        """The scaled gradient at the current state, parameters as small as they are."""
        return self._now.sensitivity

    @property
    def _now(self) -> Progress:
        return Progress(*np.asarray(self._carry.now).tolist())

    @property
    def _start(self) -> Progress:
        return Progress(*np.asarray(self._carry.start).tolist())

    def local_model(self) -> tuple[Any, ...]:
        """Return the arguments of `find_undetermined`."""
        root, sizes = (np.asarray(part) for part in self._carry.linearisation)
        entries = self.entries(self._carry.values.free)
        internal = jax.tree.leaves(jax.tree.map(np.asarray, self._carry.internal))
        return (
            root,
            float(sizes[2]),
            float(self.value),
            np.concatenate([part.ravel() for part in internal]),
            entries.values,
            entries.start,
            ~entries.fixed & ~entries.at_bound,
        )

    def linearised(self) -> tuple[list[str], np.ndarray] | None:
        """Return the names of the free entries and the root of their curvature."""
        if not self.looks:
            return None
        return self.entry_names(), np.asarray(self._carry.linearisation.root)

    @property
    def structure(self) -> Structure:
        """What the trace knows of the state."""
        return self._structure

    def count_entries(self) -> int:
        """Return how many entries the free parameters have."""
        values = separate(self._structure, self._numbers)["values"]
        return sum(map(np.size, jax.tree.leaves(values)))

    def known_curvature(self) -> np.ndarray | None:
        """Return the root of the objective's curvature at the selected state.

        Returns
        -------
        ndarray of shape (p, p) or None
            ``None`` where that, or the entries' slopes in the user's units, would take
            a program.
        """
        if not self.looks or self.selected_step != self.step:
            return None
        if not self._structure.is_plain or self._structure.indices("tied"):
            return None
        return np.asarray(self._carry.linearisation.root)

    def scales(self) -> np.ndarray:
        """Return the slopes of the entries in the user's units, without transforms.

        Returns
        -------
        ndarray of shape (p, p)
            Diagonal.
        """
        scales = jax.tree.map(
            lambda scale, x: np.broadcast_to(scale, np.shape(x)),
            separate(self._structure, self._numbers)["scale"],
            self._carry.internal,
        )
        flat = np.concatenate([np.ravel(s) for s in jax.tree.leaves(scales)])
        return np.diag(flat.astype(float))

    def start_values(self) -> Any:
        """Return the free values at the start, as programs take them."""
        return self._numbers["values"]

    def at_selected(self, make: Any, *more: Any) -> Any:
        """Run a program of its own at the selected state.

        Parameters
        ----------
        make : callable
            As for `find_program`; the program takes `inputs`, and the free
            parameters' values.
        *more : object
            What its key must hold besides.

        Returns
        -------
        pytree
            What it returns.
        """
        values = self._carry.selected.free
        if self._structure.shapes is None:
            values = self._structure.split(values)
        return self.call(make, (values,), *more)

    def call(self, make: Any, arguments: tuple[Any, ...], *more: Any) -> Any:
        """Run a program of its own.

        Parameters
        ----------
        make : callable
            As for `find_program`; the program takes `inputs`, and the arguments.
        arguments : tuple
            Arrays.
        *more : object
            What its key must hold besides.

        Returns
        -------
        pytree
            What it returns.
        """
        shapes = described_shapes(arguments)
        program = self.find_program(self.inputs(), make, *more, shapes)
        with explained(self.role):
            return program(*self.inputs(), *arguments)

    def entry_names(self) -> list[str]:
        """Return the names of the free parameters' entries."""
        return entry_names(self._structure, self._carry.selected.free)

    def entries(self, values: PyTree | None = None) -> Entries:
        """Return the free parameters' numbers, by default at the start.

        Parameters
        ----------
        values : pytree, optional
            Values in the user's units, as the loop has them.

        Returns
        -------
        Entries
            Flat.
        """
        if values is None:
            values = separate(self._structure, self._numbers)["values"]
        free = jax.tree.map(np.asarray, values)
        return read_entries(self._structure, self._numbers, free)

    def start_box(self) -> Entries:
        """Return the start, and within which bounds others may be drawn."""
        entries = self.entries()
        values = self._structure.split(
            separate(self._structure, self._numbers)["values"]
        )
        is_share = np.concatenate(
            [
                np.full(
                    np.size(x), isinstance(self._structure.leaves[i].transform, Logit)
                )
                for i, x in values.items()
            ]
        )
        # Not at the very ends, which the transform takes to infinity.
        edge = np.finfo(entries.values.dtype).eps
        return entries._replace(
            lower=np.where(is_share, np.maximum(entries.lower, edge), entries.lower),
            upper=np.where(
                is_share, np.minimum(entries.upper, 1 - edge), entries.upper
            ),
        )

    def stacked(self, rows: np.ndarray) -> Any:
        """Return many states' free values as the packed numbers hold those of one.

        Parameters
        ----------
        rows : ndarray of shape (k, p)
            The entries of each, in the user's units.

        Returns
        -------
        array or dict of int to array
            With an axis of length k in front.
        """
        if self._structure.shapes is not None:
            return rows
        found, start = {}, 0
        for i, value in self._numbers["values"].items():
            size = int(np.size(value))
            found[i] = rows[:, start : start + size].reshape(-1, *np.shape(value))
            start += size
        return found

    def _values(self, values: Values) -> dict[int, Any]:
        return self._split(values.free) | values.tied

    def _split(self, joined: PyTree) -> dict[int, Any]:
        if self._structure.shapes is None or isinstance(joined, np.ndarray):
            return self._structure.split(joined)
        # By way of the host: each slice on the device would be a program of its own.
        where = joined.sharding if joined.committed else None
        return jax.device_put(self._structure.split(np.asarray(joined)), where)

    def _replaced_leaves(self, values: dict[int, Any], *kinds: str) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for i in self._structure.indices(*kinds):
            original: Parameter = self._leaves[i]
            found[i] = original.with_fields(value=values[i])
        return found

    def _with_values(self, values: dict[int, Any], *kinds: str) -> PyTree:
        return self._structure.tree(self._replaced_leaves(values, *kinds))

    # The history.

    def _collect_rows(self) -> None:
        count = self.step - self._first_row + 1
        if count > 0:
            # A copy: a view would keep the whole block alive.
            rows = {
                dtype: np.asarray(block)[:count].copy()
                for dtype, block in self._carry.history.items()
            }
            self._rows.append((self._first_row, rows))

    def history(self) -> dict[str, Any]:
        """Return the columns of the history: one entry per step, from the start on."""
        self._collect_rows()
        blocks, self._rows = self._rows, []
        if len(blocks) == 1 and blocks[0][0] == 0:
            rows = blocks[0][1]
        else:
            rows = {
                dtype: np.empty((self.step + 1, array.shape[1]), array.dtype)
                for dtype, array in blocks[-1][1].items()
            }
            for first, block in blocks:
                for dtype, array in block.items():
                    rows[dtype][first : first + len(array)] = array
        found = {c.key: rows[c.dtype][:, c.place] for c in self._program.about[1]}
        order = ("loss", "grad_norm", "learning_rate")
        columns = {name: found.pop(name) for name in order if name in found}
        if "learning_rate" in columns:
            columns["learning_rate"][0] = np.nan  # no update led to the start
        return columns | self._parameter_columns(found)

    def _parameter_columns(self, values: dict[int, Any]) -> dict[str, Any]:
        columns = {}
        for i in self._order:
            leaf = self._structure.leaves[i]
            name = (
                f"params__{leaf.name}" if leaf.name in RESERVED_COLUMNS else leaf.name
            )
            if i in values:
                columns[name] = values[i]
            elif leaf.kind == "fixed" and np.ndim(self._numbers["static"][i]) == 0:
                columns[name] = float(self._numbers["static"][i])
        return columns


def reading_order(state: PyTree) -> list[int]:
    """Return the positions of a state's leaves in the order the user wrote them.

    Parameters
    ----------
    state : pytree
        Dicts in it are read in their own order.

    Returns
    -------
    list of int
        A permutation of the positions in JAX's flattened order.
    """
    leaves, treedef = jax.tree.flatten(state, is_leaf=is_parameter)

    def visit(part: PyTree, positions: PyTree) -> list[int]:
        if type(part) is dict:
            return [i for key in part for i in visit(part[key], positions[key])]
        return jax.tree.leaves(positions)

    return visit(state, jax.tree.unflatten(treedef, range(len(leaves))))


def _skeleton(state: PyTree) -> tuple[Any, ...]:
    """Return what a replaced state must have in common with the one before."""
    leaves, treedef = jax.tree.flatten(state, is_leaf=is_parameter)
    shapes = [leaf.shape if is_free(leaf) else is_parameter(leaf) for leaf in leaves]
    return treedef, shapes


def _to_device(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray) and leaf.size > _SMALL:
        return jax.device_put(leaf)
    return leaf
