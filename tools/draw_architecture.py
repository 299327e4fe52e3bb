"""Draw the architecture in one picture, ``docs/developers/architecture.svg``.

Usage: ``python tools/draw_architecture.py``

The modules are those in the layers of ``setup.cfg``; which of them make one box is said
here. A module of the layers that is in no box, or in two, is an error.
"""

from __future__ import annotations

import configparser
import re
import textwrap
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "developers" / "architecture.svg"


class Box(NamedTuple):
    """Modules that do one thing together."""

    title: str
    about: str
    modules: str


# Rows of boxes, the highest first. Imports lead from a row to those below it, never to
# the row itself: tests/test_architecture.py reads them.
ROWS = [
    [Box("Pictures", "Displays read a fitted estimator, and draw", "plots")],
    [
        Box(
            "The estimator",
            "OptaxEstimator, curve_fit: check, delegate, store",
            "_curve_fit _scipy_call _estimator _fitting _chunked _chunk_data _route"
            " _diagram",
        )
    ],
    [
        Box(
            "How certain it is",
            "standard errors, intervals, profiles, bootstrap, predictions",
            "_intervals _uncertainty _refit inference _prediction _information"
            " _resampled _constrained _searched _extrapolation _kinks _separation",
        )
    ],
    [
        Box(
            "The problem",
            "model, loss, priors, penalty and rows become one objective",
            "_training _settings _problem _nested _auto",
        )
    ],
    [
        Box(
            "The run",
            "OptaxOptimizer: blocks of steps, starts, callbacks; how it ended",
            "_multistart _optimizer _snapshot _ending _whole _results _curvature"
            " _driver _compiled_loop _at_end _legacy _recovery _ways_back _anchor"
            " _batch _task _history _reading callbacks",
        )
    ],
    [
        Box(
            "Programs",
            "found by a key of all that a trace can see, or compiled",
            "_programs _program _shared_traces _fingerprint _function_digests"
            " _object_digests _table_digests _bytecode _digests _named_arrays _origin",
        ),
        Box(
            "The loop",
            "compiled: loss, gradient, step, whether to end",
            "_loop _assessment _evaluation _epochs optimizers _convergence _shuffle",
        ),
    ],
    [
        Box(
            "The vocabulary",
            "parameters, models, losses, priors; a state as structure and numbers",
            "_objective _shares _unpacking _packing _spec _entries _structure _state"
            " _parameter _model losses penalties priors _rows _coupling _row_rules"
            " _transforms _component",
        )
    ],
    [
        Box(
            "Helpers",
            "know nothing of a fit: checks, errors, types, optional imports",
            "_diagnose _html _chunks _misreadings _data_checks _validation"
            " _tracing _reporting _archive _segments _files _recorded"
            " _sklearn_callbacks _persistence _deprecation _transfer _captured"
            " _optional exceptions _typing _version _scikit_learn",
        )
    ],
]
#: What the picture shows, in words, for those who do not see it.
TEXT = (
    "Boxes from top to bottom: pictures; the estimator; how certain it is; the "
    "problem; the run; programs, and beside them the loop; the vocabulary; helpers. "
    "Imports go down. A fit hands rows and settings down, from the estimator to the "
    "problem and the run. The run looks for a program by the structure of the problem, "
    "and gives the loop its numbers. Parameters, history and status come up again."
)

WIDTH, LEFT, GAP, PASSAGE = 800, 44, 12, 40
LINE, CHARACTER = 15, 6.35  # of the modules' names
# Opaque, so that its own colours are beneath the text on any page.
STYLE = """
  .paper { fill: #ffffff; }
  .box { fill: #eef3f8; stroke: #7c93aa; }
  .core { fill: #fdf1dc; stroke: #b58a3c; }
  text { fill: #1c2733; font-family: "Segoe UI", Helvetica, Arial, sans-serif; }
  .title { font-size: 17px; font-weight: 600; }
  .about { font-size: 14px; }
  .modules { font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; }
  .modules { font-size: 10.5px; fill: #4a5a6a; }
  .label { font-size: 13px; font-style: italic; }
  .arrow { stroke: #4a5a6a; stroke-width: 2; fill: none; marker-end: url(#head); }
  .head { fill: #4a5a6a; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #14181e; }
    .box { fill: #202a35; stroke: #6b8299; }
    .core { fill: #362c18; stroke: #a8843f; }
    text { fill: #e6ebf0; }
    .modules { fill: #aebccb; }
    .arrow { stroke: #aebccb; }
    .head { fill: #aebccb; }
  }
"""


def modules_of_layers() -> list[str]:
    """Return the modules in the layers of ``setup.cfg``, the highest first."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = settings["importlinter:contract:layers"]["layers"]
    # One in parentheses is still to come.
    return re.findall(r"\w+", re.sub(r"\(\w+\)", "", layers))


def row_of_modules() -> dict[str, tuple[int, str]]:
    """
    Return where each module is.

    Returns
    -------
    dict of str to (int, str)
        The number of the row, from the top, and the title of the box.

    Raises
    ------
    ValueError
        If the boxes do not have each module of the layers once.
    """
    known = modules_of_layers()
    found: dict[str, tuple[int, str]] = {}
    for row, boxes in enumerate(ROWS):
        for box in boxes:
            for name in box.modules.split():
                if name in found or name not in known:
                    raise ValueError(
                        f"{name} is in two boxes of tools/draw_architecture.py, or not "
                        "in the layers of setup.cfg. Take it out of one."
                    )
                found[name] = row, box.title
    if lacking := [name for name in known if name not in found]:
        raise ValueError(
            f"{', '.join(lacking)}: in the layers of setup.cfg, and in no box. Add "
            "each to the one in tools/draw_architecture.py whose work it does, and "
            "run that script."
        )
    return found


def drawn() -> str:
    """Return the picture, an SVG document."""
    row_of_modules()
    order = {name: at for at, name in enumerate(modules_of_layers())}
    parts: list[str] = []
    y, tops = 14.0, []
    for boxes in ROWS:
        width = (WIDTH - 2 * LEFT - GAP * (len(boxes) - 1)) / len(boxes)
        if len(boxes) > 1:
            y += PASSAGE - GAP
        heights = []
        for at, box in enumerate(boxes):
            x = LEFT + at * (width + GAP)
            names = " ".join(sorted(box.modules.split(), key=order.__getitem__))
            lines = textwrap.wrap(
                names, int((width - 28) / CHARACTER), break_on_hyphens=False
            )
            about = [box.about]
            if len(boxes) > 1:
                about = textwrap.wrap(box.about, int((width - 28) / 6.9))
            heights.append(30 + 18 * len(about) + LINE * len(lines) + 6)
            parts.append(_texts(x + 14, y, box.title, about, lines))
        height = max(heights)
        for at in range(len(boxes)):
            x = LEFT + at * (width + GAP)
            kind = "core" if len(boxes) > 1 else "box"
            parts.insert(
                0,
                f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" '
                f'height="{height}" rx="7"/>',
            )
        tops.append((y, y + height))
        y += height + GAP
    parts += _arrows(tops)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 2:g}" '
        f'width="{WIDTH}" height="{y + 2:g}" role="img" aria-labelledby="name text">'
    )
    return "\n".join(
        [
            head,
            '<title id="name">The architecture of skoptax</title>',
            f'<desc id="text">{escape(TEXT)}</desc>',
            f"<style>{STYLE}</style>",
            '<marker id="head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="5" '
            'markerHeight="5" orient="auto"><path class="head" d="M0 0L8 4L0 8z"/>'
            "</marker>",
            f'<rect class="paper" width="{WIDTH}" height="{y + 2:g}" rx="8"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _texts(x: float, y: float, title: str, about: list[str], names: list[str]) -> str:
    lines = [f'<text class="title" x="{x:g}" y="{y + 23:g}">{escape(title)}</text>']
    for at, line in enumerate(about):
        place = f'x="{x:g}" y="{y + 43 + 18 * at:g}"'
        lines.append(f'<text class="about" {place}>{escape(line)}</text>')
    below = y + 43 + 18 * len(about)
    for at, line in enumerate(names):
        place = f'x="{x:g}" y="{below + LINE * at:g}"'
        lines.append(f'<text class="modules" {place}>{escape(line)}</text>')
    return "\n".join(lines)


def _arrows(tops: list[tuple[float, float]]) -> list[str]:
    """Return the way down, the way up, and what a run asks of the two beside it."""
    first, run = tops[1], tops[4]
    middle = (first[0] + run[1]) / 2
    left, right = LEFT - 12, WIDTH - LEFT + 12
    above, below = run[1] + 3, tops[5][0] - 4
    quarter = (WIDTH - 2 * LEFT) / 4
    program, loop = LEFT + quarter, LEFT + 3 * quarter
    text = '<text class="label" text-anchor="middle" transform='
    return [
        f'<path class="arrow" d="M{left} {first[0] + 4:g}V{run[1] - 4:g}"/>',
        f'{text}"translate({left - 8} {middle:g}) rotate(-90)">rows, settings go '
        "down</text>",
        f'<path class="arrow" d="M{right} {run[1] - 4:g}V{first[0] + 4:g}"/>',
        f'{text}"translate({right + 18} {middle:g}) rotate(-90)">parameters, history, '
        "status come up</text>",
        f'<path class="arrow" d="M{program:g} {above:g}V{below:g}"/>',
        f'<text class="label" x="{program + 12:g}" y="{below - 8:g}">structure, in the '
        "key</text>",
        f'<path class="arrow" d="M{loop:g} {above:g}V{below:g}"/>',
        f'<text class="label" x="{loop + 12:g}" y="{below - 8:g}">numbers, as '
        "arguments</text>",
    ]


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
