"""Which names a function's code looks up, and what it takes from a module.

Read off the bytecode. A module that is used as ``module.name`` alone lends just that
name; one that goes anywhere else, into a call or a variable, may lend anything.
"""

from __future__ import annotations

import dis
import functools
import types
from dataclasses import dataclass

Chain = tuple[str, ...]

_LOADS_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD")
_NO_OPERATION = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "NOT_TAKEN", "RESUME"})


@dataclass(frozen=True)
class Uses:
    """
    What a code object, with those nested in it, looks up by name.

    Parameters
    ----------
    variables : dict of str to frozenset of tuple of str, or None
        Global and enclosing variables, with the attributes that are taken of them at
        once, such as ``{("linalg", "norm")}``; ``None`` where the object itself is
        used.
    imports : frozenset of tuple
        ``(name, level)`` of the import statements.
    """

    variables: dict[str, frozenset[Chain] | None]
    imports: frozenset[tuple[str, int]]


@functools.lru_cache(maxsize=4096)
def names_used(code: types.CodeType) -> Uses:
    """
    Return what a code object looks up by name.

    Parameters
    ----------
    code : code
        Of a function.

    Returns
    -------
    Uses
        With that of the functions defined in it.
    """
    variables: dict[str, set[Chain] | None] = {}
    imports: set[tuple[str, int]] = set()
    for part in _with_nested(code):
        steps = [i for i in dis.get_instructions(part) if i.opname not in _NO_OPERATION]
        for at, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":
                imports.add((step.argval, _level(steps, at)))
            elif _loads_variable(step):
                chain = _attributes(steps[at + 1 :])
                known = variables.setdefault(step.argval, set())
                if not chain or known is None:
                    variables[step.argval] = None
                else:
                    known.add(chain)
    return Uses(
        {k: None if v is None else frozenset(v) for k, v in variables.items()},
        frozenset(imports),
    )


def _with_nested(code: types.CodeType) -> list[types.CodeType]:
    found = [code]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found += _with_nested(constant)
    return found


def _loads_variable(step: dis.Instruction) -> bool:
    is_load = step.opname.startswith("LOAD_") and not step.opname.startswith(
        ("LOAD_FAST", "LOAD_CONST", "LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER")
    )
    # (LOAD_CLOSURE hands an enclosing variable to a nested function, which uses it.)
    return is_load and isinstance(step.argval, str) and step.opname != "LOAD_CLOSURE"


def _attributes(steps: list[dis.Instruction]) -> Chain:
    chain: list[str] = []
    for step in steps:
        if step.opname not in _LOADS_ATTRIBUTE:
            break
        chain.append(step.argval)
    return tuple(chain)


def _level(steps: list[dis.Instruction], at: int) -> int:
    """Return how many packages up an import starts: the second constant before it."""
    before = [s.argval for s in steps[max(at - 2, 0) : at]]
    return next((x for x in before if type(x) is int), 0)
