"""The table: results as Markdown, and as lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import _plots
from .rows import ROWS

FILE = "README.md"

_HEAD = """\
# Performance

Made by `python -m benchmarks` from [results.json](results.json); do not edit it.
The extra `bench` brings the libraries that skoptax is compared with.

A ratio is one of medians of rounds in which the sides take turns; in brackets are
the quartiles of the rounds. "Faster than" and "as fast as" say how many times as fast
skoptax is: below 1, the other one wins. All in double precision, on a CPU. Each
comparison has checked that the sides agree.
"""


def write_report(results: dict[str, Any], folder: Path) -> None:
    """Write the table and the plots.

    Parameters
    ----------
    results : dict
        As kept in the file of results.
    folder : Path
        Where they go.
    """
    by_name = {name: results["rows"][name] for name in ROWS if name in results["rows"]}
    rows = list(by_name.values())
    try:
        plots = _plots.write_plots(by_name, folder)
    except ImportError as error:
        print(f"No plots: {error.name} is not installed.")
        plots = {}
    text = "\n".join(_document(rows, plots))
    (folder / FILE).write_text(text.rstrip() + "\n", encoding="utf-8")


def row_lines(row: dict[str, Any]) -> Iterator[str]:
    """Yield what the terminal shows of a row.

    Parameters
    ----------
    row : dict
        As kept.

    Yields
    ------
    str
        A figure, a check, or what was skipped and why.
    """
    for figure in row["figures"]:
        bar = f"   bar: {_bar(figure)}, {_verdict(figure)}" if "bar" in figure else ""
        mark = f"   {figure['peer']} wins" if _lost(figure) else ""
        yield f"  {figure['what']}: {_figure(figure)}{bar}{mark}"
    for check in row["checks"]:
        word = "agree" if check["passed"] else "THEY DIFFER"
        yield f"  {word}: {check['what']}: {_check(check)}"
    for skip in row["skipped"]:
        yield f"  skipped: {skip['what']}: {skip['reason']}"
    yield f"  {row['seconds']:.0f} s"


def _document(rows: list[dict[str, Any]], plots: dict[str, str]) -> Iterator[str]:
    yield _HEAD
    if any(row["smoke"] for row in rows):
        yield "**From a smoke run: these figures mean nothing.**\n"
    yield from _environments(rows)
    yield "## The bars\n"
    yield (
        "A bar is what the project has set itself as a goal, before anything was "
        "measured. Those that are missed stay in the table.\n"
    )
    if "bars" in plots:
        yield f"![Each figure relative to its bar]({plots['bars']})\n"
    yield "| # | what | bar | figure | met |"
    yield "|---|---|---|---|---|"
    for row in rows:
        for figure in row["figures"]:
            if "bar" in figure:
                what = f"[{row['title']}](#{_anchor(row['title'])}): {figure['what']}"
                yield (
                    f"| {row['number']} | {what} | {_bar(figure)} | "
                    f"{_figure(figure)} | {_verdict(figure, bold=True)} |"
                )
    yield ""
    lost = [
        f"- {row['title']}: {figure['what']}: {_figure(figure)}"
        for row in rows
        for figure in row["figures"]
        if _lost(figure)
    ]
    if lost:
        yield "## Where another library is faster\n"
        yield from lost
        yield ""
    for row in rows:
        yield from _section(row, plots)


def _environments(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what the rows were measured with; rows may be of different runs."""
    groups: list[tuple[dict[str, Any], list[str]]] = []
    for row in rows:
        for environment, titles in groups:
            if environment == row["environment"]:
                titles.append(row["title"])
                break
        else:
            groups.append((row["environment"], [row["title"]]))
    for environment, titles in groups:
        whose = "" if len(groups) == 1 else f" ({'; '.join(titles)})"
        versions = ", ".join(f"{k} {v}" for k, v in environment["versions"].items())
        yield (
            f"Measured with {environment['cpus']} processors, {environment['system']}, "
            f"Python {environment['python']}{whose}: {versions}.\n"
        )


def _section(row: dict[str, Any], plots: dict[str, str]) -> Iterator[str]:
    yield f"## {row['title']}\n"
    yield f"{row['work']}\n"
    if row["name"] in plots:
        yield f"![{row['title']}]({plots[row['name']]})\n"
    yield "| what | figure | bar |"
    yield "|---|---|---|"
    notes: list[str] = []
    for figure in row["figures"]:
        bar = (
            f"{_bar(figure)}: {_verdict(figure, bold=True)}" if "bar" in figure else ""
        )
        if _lost(figure):
            bar = f"{bar} **{figure['peer']} wins**".strip()
        what = figure["what"]
        if "note" in figure:
            if figure["note"] not in notes:
                notes.append(figure["note"])
            what += f" ({notes.index(figure['note']) + 1})"
        yield f"| {what} | {_figure(figure)} | {bar} |"
    yield ""
    for number, note in enumerate(notes, 1):
        yield f"({number}) {note}\n"
    for check in row["checks"]:
        word = "Agreement" if check["passed"] else "**THE ANSWERS DIFFER**"
        yield f"- {word}: {check['what']}: {_check(check)}."
    for skip in row["skipped"]:
        yield f"- Not measured: {skip['what']}, because {skip['reason']}."
    yield ""


def _figure(figure: dict[str, Any]) -> str:
    text = _number(figure["value"], figure["unit"])
    if figure.get("rounds", 1) > 1:
        low, high = (_number(figure[end], figure["unit"]) for end in ("low", "high"))
        text += f" ({low} to {high})"
    return f"{text} {figure['unit']}"


def _number(value: float, unit: str) -> str:
    if unit in ("programs", "processes"):
        return f"{value:.0f}"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _bar(figure: dict[str, Any]) -> str:
    return f"{figure['side']} {figure['bar']:g} {figure['unit']}"


def _verdict(figure: dict[str, Any], bold: bool = False) -> str:
    if figure["met"]:
        return "met"
    return "**missed**" if bold else "MISSED"


def _lost(figure: dict[str, Any]) -> bool:
    return "peer" in figure and figure["value"] < 1


def _check(check: dict[str, Any]) -> str:
    found = check["found"]
    shown = found if isinstance(found, str) else f"{found:.2g}"
    return f"{shown}, at most {check['limit']:g}"


def _anchor(title: str) -> str:
    kept = (c for c in title.lower() if c.isalnum() or c in " -")
    return "".join(kept).replace(" ", "-")
