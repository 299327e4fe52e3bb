"""What is to be minimised, packed: what the programs of a run are made of.

A task knows nothing of steps. The loop is one program of it; others run beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from ._diagnose import checked_loss, depends_on_parameters, explained
from ._epochs import Fed, Feed, Pace
from ._evaluation import Evaluator
from ._fingerprint import Walk
from ._packing import pack
from ._parameter import is_parameter
from ._program import Code, Program, sums_are_short
from ._programs import PROGRAMS, described_shapes
from ._structure import FREE_NUMBERS, Numbers, Structure, joined, separate
from ._transfer import to_device
from ._typing import Block, PyTree
from ._unpacking import build_state, internal_start, user_values

Make = Callable[..., Block[Any, Any]]


class Task:
    """
    A loss, an optimiser and a packed state.

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
    owner : str
        Named in errors about the state.
    role : str
        Named in errors about the loss, as the subject of a sentence.
    content : object, optional
        What the loss is keyed by, if not by itself.
    walk : Walk, optional
        What has been visited of the loss for a content key.
    feed : Feed, optional
        How the loop takes the data, if not all of them at each step.
    fed : Fed, optional
        Its data.

    Attributes
    ----------
    state : pytree
        Where to start.
    structure : Structure
        What the trace knows of it.
    numbers : dict
        What the programs get of it.
    leaves : list
        Its leaves, in JAX's order.
    """

    state: PyTree
    structure: Structure
    numbers: Numbers
    leaves: list[Any]
    feed: Feed | None
    _data: tuple[Any, ...]
    _fed: Fed | None

    def __init__(
        self,
        loss: Any,
        optimizer: Any,
        state: PyTree,
        data: tuple[Any, ...] = (),
        *,
        mode: str,
        has_aux: bool,
        owner: str = "OptaxOptimizer",
        role: str = "The loss",
        content: Any = None,
        walk: Walk | None = None,
        feed: Feed | None = None,
        fed: Fed | None = None,
    ) -> None:
        #: What the loss is keyed by.
        self.content = loss if content is None else content
        self._walk = walk
        self._warns = True
        self._loss = loss
        self.optimizer = optimizer
        self.mode = mode
        self.has_aux = has_aux
        self._owner = owner
        self.role = role
        self._beside: dict[str, Program] = {}
        self._types: dict[int, Any] | None = None
        self.take_data(data, feed, fed)
        self.put(state)

    def put(self, state: PyTree) -> None:
        """Pack a state in place of the one before."""
        self._beside.clear()
        self.state = state
        structure, numbers = pack(state, self._owner)
        values = numbers["values"].items()
        found = {i: jax.dtypes.canonicalize_dtype(x.dtype) for i, x in values}
        # A run goes on in the types that it has begun with; a list of numbers begins
        # in double precision, and is taken as JAX takes it.
        self._types = types = self._types or found
        for key in FREE_NUMBERS:
            numbers[key] = {
                i: part if part.dtype == types[i] else part.astype(types[i])
                for i, part in numbers[key].items()
            }
        if self.optimizer.is_entrywise:
            structure, numbers = joined(structure, numbers)
        self.structure = structure
        self.numbers = jax.tree.map(to_device, numbers)
        self.leaves = jax.tree.leaves(state, is_leaf=is_parameter)

    def take_data(
        self, data: tuple[Any, ...], feed: Feed | None, fed: Fed | None
    ) -> None:
        """Put other data, and how the loop takes them, in place of those before."""
        self._beside.clear()
        self._data = jax.tree.map(to_device, data)
        self.feed = feed
        if fed is not None:
            # The rows are on the device once.
            others = jax.tree.map(to_device, fed._replace(training=()))
            fed = others._replace(training=self._data)
        self._fed = fed

    def start_from(self, values: Any) -> None:
        """Put other values into the state, as the packed numbers hold them."""
        self.numbers = self.numbers | {"values": values}

    @property
    def start(self) -> PyTree:
        """The free parameters' values at the start, as `Structure.join` has them."""
        return separate(self.structure, self.numbers)["values"]

    @property
    def size(self) -> int:
        """How many bytes the data have."""
        return sum(getattr(x, "nbytes", 0) for x in jax.tree.leaves(self._data))

    def inputs(self) -> tuple[Any, ...]:
        """Return packed numbers and data."""
        return self.numbers, self._data

    def loop_inputs(self, share: float = 1.0) -> tuple[Any, ...]:
        """
        Return what a loop gets: hyperparameters too, and data bit by bit maybe.

        Parameters
        ----------
        share : float, default=1.0
            How long the steps are to be, where the learning rate says it.

        Returns
        -------
        tuple
            Packed numbers, data and hyperparameters.
        """
        data = self._data if self._fed is None else self._fed
        hyper = self.optimizer.numbers
        if share != 1.0 and self.optimizer.steps_by_rate:
            hyper = hyper | {"learning_rate": share * hyper["learning_rate"]}
        return self.numbers, data, hyper

    @property
    def _called(self) -> Any:
        """The function of the user's that is called while the loss is traced."""
        # That of an estimator's objective, or the loss itself.
        return getattr(getattr(self._loss, "call", None), "model", self._loss)

    @property
    def domain(self) -> str:
        """Where predictions must be for the loss to be finite; empty if not known."""
        # Of an estimator's objective, or of a `SampleLoss`.
        loss = getattr(self._loss, "loss", getattr(self._loss, "sample_loss", None))
        domain = getattr(loss, "_domain", "")
        return f"With the {loss.name!r} loss {domain}" if loss and domain else ""

    def named_data(self) -> dict[str, Any]:
        """Return what the loss gets besides the state, by names for messages."""
        names = getattr(self._loss, "data_names", ())
        found = {
            names[i] if i < len(names) else f"argument {i + 1} after the state": part
            for i, part in enumerate(self._data)
        }
        if self._fed is not None and self._fed.held_out is not None:
            found["held-out rows"] = self._fed.held_out
        return found

    def adopt(self, numbers: Numbers) -> None:
        """
        Put the numbers of another task of the same structure in place of these.

        Parameters
        ----------
        numbers : dict
            As NumPy arrays. What a callback has put in place of fixed values and arrays
            is among them.
        """
        for i, value in numbers["static"].items():
            if value is self.numbers["static"][i]:
                continue
            leaf = self.leaves[i]
            fixed = is_parameter(leaf)
            self.leaves[i] = leaf.with_fields(value=value) if fixed else value
        self.numbers = jax.tree.map(to_device, numbers)

    @property
    def pace(self) -> Pace | None:
        """The numbers of the feed, if there is one."""
        return None if self._fed is None else self._fed.pace

    def find_loop(self, inputs: tuple[Any, ...], make: Make, *more: Any) -> Program:
        """
        Find the program of a loop, of which the optimiser is a part.

        Parameters
        ----------
        inputs : tuple
            As `loop_inputs` returns them.
        make : callable
            Takes what `make_block` takes.
        *more : object
            What the key must hold besides.

        Returns
        -------
        Program
            Its ``about`` is what the block's ``blank`` returns.
        """
        optimizer = self.optimizer
        return self.find_program(
            inputs, partial(make, optimizer=optimizer), optimizer.content(), *more
        )

    def find_program(self, inputs: tuple[Any, ...], make: Make, *more: Any) -> Program:
        """
        Find the program of a block, which ``make`` makes, in the cache.

        Parameters
        ----------
        inputs : tuple
            Packed numbers, data and what else it takes.
        make : callable
            Takes an `Evaluator`, of the loss.
        *more : object
            What the key must hold besides.

        Returns
        -------
        Program
            Its ``about`` is what the block's ``blank`` returns.
        """
        looks = self.optimizer.looks
        content = (
            self.content,
            self.structure.content(),
            self.mode,
            self.has_aux,
            looks,
            *more,
        )
        # The cache keeps the block for the life of the process: it holds on to the
        # loss and the structure, not to the state or the data.
        block = make(
            Evaluator(
                checked_loss(self._loss, self.has_aux, self.role),
                self.structure,
                self.mode,
                self.has_aux,
                self._loss if hasattr(self._loss, "losses_at") else None,
            )
        )

        def blank() -> Any:
            with explained(self.role):
                return block.blank(*inputs)

        walk, self._walk = self._walk, None
        # A step of the others is judged by what rounding may change.
        is_short = not self.optimizer.descends and sums_are_short(inputs[1])
        code = Code(
            own_kernels=looks or block.for_loss_alone,
            vectorised=block.shuffles,
            short_sums=is_short or block.side_by_side,
            wide=block.side_by_side or not self.optimizer.descends,
        )
        program = PROGRAMS.get(
            content, inputs, block.run, blank, walk, code, self._warns, self._called
        )
        # Of one loss, once is enough.
        self._warns &= program.is_shared
        return program

    def call(self, make: Make, arguments: tuple[Any, ...], *more: Any) -> Any:
        """
        Run a program beside the loop.

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
        # Of a loss without a key, a program would be compiled with each call.
        key = repr((more, shapes))
        program = self._beside.get(key)
        if program is None:
            program = self.find_program(self.inputs(), make, *more, shapes)
            self._beside[key] = program
        with explained(self.role):
            return program(*self.inputs(), *arguments)

    def has_influence(self, program: Program) -> bool:
        """
        Tell whether the loss depends on any free parameter.

        Parameters
        ----------
        program : Program
            Of this task; the loss is traced as for it.

        Returns
        -------
        bool
            As `depends_on_parameters` has it.
        """
        structure, numbers = self.structure, self.numbers

        def objective(internal: Any) -> Any:
            values = user_values(structure, numbers, internal)
            result = self._loss(build_state(structure, numbers, values), *self._data)
            return result[0] if self.has_aux else result

        # By shapes alone: an eager operation would compile a program of its own.
        start = jax.eval_shape(lambda n: internal_start(structure, n), numbers)
        with program.tracing():
            return depends_on_parameters(objective, start)
