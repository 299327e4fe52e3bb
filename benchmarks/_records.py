"""What a row has found, and the file it is kept in."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._timing import Spread

FILE = "results.json"
# Raised when an older file could not be read as a newer one.
SCHEMA = 1


class Unavailable(Exception):
    """A peer that is not there, with the reason as its message."""


@dataclass
class Row:
    """One row of the table, filled by its module.

    Parameters
    ----------
    name : str
        What the command line calls it.
    number : str
        Its number in the list of goals; may be empty.
    title : str
        Its heading.
    work : str
        What is measured, in a sentence or two.
    smoke : bool
        Whether everything was tiny, and no figure means anything.
    """

    name: str
    number: str
    title: str
    work: str
    smoke: bool
    figures: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    series: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def figure(
        self,
        what: str,
        value: Spread | float,
        unit: str,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        peer: str | None = None,
        note: str = "",
    ) -> None:
        """Add a figure.

        Parameters
        ----------
        what : str
            What it is, for the table.
        value : Spread or float
            The figure, with its spread if it has one.
        unit : str
            ``"x"`` for ratios.
        at_most, at_least : float, default=None
            The bar, if there is one.
        peer : str, default=None
            Whom it compares skoptax with: then it is how many times as fast
            skoptax is, and below 1 the peer wins.
        note : str, default=""
            What a reader must know.
        """
        if isinstance(value, Spread):
            spread = {"low": value.low, "high": value.high, "rounds": value.count}
            value = value.value
        else:
            spread = {}
        bar: dict[str, Any] = {}
        if at_most is not None:
            bar = {"bar": at_most, "side": "at most", "met": value <= at_most}
        elif at_least is not None:
            bar = {"bar": at_least, "side": "at least", "met": value >= at_least}
        self.figures.append(
            {"what": what, "value": float(value), "unit": unit}
            | spread
            | {key: bool(v) if key == "met" else v for key, v in bar.items()}
            | ({"peer": peer} if peer else {})
            | ({"note": note} if note else {})
        )

    def check(self, what: str, found: float, limit: float) -> None:
        """Note whether two sides agree.

        Parameters
        ----------
        what : str
            What was compared.
        found : float
            By how much they differ. NaN is not agreement.
        limit : float
            By how much they may.
        """
        passed = bool(found <= limit)
        shown = float(found) if math.isfinite(found) else str(found)
        self.checks.append(
            {"what": what, "found": shown, "limit": limit, "passed": passed}
        )

    def skip(self, what: str, reason: object) -> None:
        """Note what was not measured.

        Parameters
        ----------
        what : str
            The peer.
        reason : object
            Printed.
        """
        self.skipped.append({"what": what, "reason": str(reason)})

    @property
    def agrees(self) -> bool:
        """Whether all sides found the same answer."""
        return all(check["passed"] for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Return what is kept.

        Returns
        -------
        dict
            Plain values.
        """
        return {
            key: getattr(self, key)
            for key in (
                "name",
                "number",
                "title",
                "work",
                "smoke",
                "figures",
                "checks",
                "skipped",
                "series",
            )
        } | {"seconds": round(self.seconds, 1)}


def load_results(folder: Path) -> dict[str, Any]:
    """Return the results kept in a folder.

    Parameters
    ----------
    folder : Path
        Need not exist.

    Returns
    -------
    dict
        With ``rows``, by name; empty if there are none.
    """
    file = folder / FILE
    if file.exists():
        results = json.loads(file.read_text(encoding="utf-8"))
        if results.get("schema") == SCHEMA:
            return results
    return {"schema": SCHEMA, "rows": {}}


def merge_row(results: dict[str, Any], row: dict[str, Any]) -> None:
    """Put a row in the place of an older one of its name.

    Parameters
    ----------
    results : dict
        Changed in place; all other rows stay.
    row : dict
        As `Row.as_json` returns it.
    """
    results["rows"][row["name"]] = row


def save_results(results: dict[str, Any], folder: Path) -> None:
    """Write the results.

    Parameters
    ----------
    results : dict
        All of them.
    folder : Path
        Made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, allow_nan=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")
