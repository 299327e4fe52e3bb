"""HTML for notebooks, made of plain data: tables, facts and small curves.

All text is escaped here. Colours are those of what is around, so that one style does
for light and dark.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from ._validation import is_number, shorten

# So many points of a curve are drawn: more cannot be told apart at its width.
MOST_POINTS = 100
_WIDTH, _HEIGHT, _MARGIN = 240.0, 48.0, 3.0
# A table is not higher than about so many rows.
ROWS_IN_SIGHT = 15
# A longer text in a table may wrap; shorter are numbers, ranges and most names.
_LONG = 40
# The lines of the curves in their order: whole, dashed.
_DASHES = ("", ' stroke-dasharray="4 3"')

# scikit-learn's box is light in dark notebooks too, and says so in its variable. The
# themes of notebooks and of documentation paint every other row, and code: these
# selectors are more specific. The box is as wide as what is in it, so that on a narrow
# page this must not be wider: long texts wrap, and a table scrolls. So does one of many
# rows, but not on paper.
_STYLE = """
.skoptax-repr {color: var(--sklearn-color-text, currentColor); padding: 0.5em;
  text-align: left; line-height: 1.4}
div.skoptax-repr p {margin: 0.3em 0; white-space: normal; max-width: min(48em, 75vw);
  color: inherit; overflow-wrap: anywhere}
div.skoptax-repr p > code {color: inherit; background: transparent; border: 0;
  padding: 0; font: inherit; white-space: normal}
.skoptax-repr .skoptax-scroll {max-height: 24em; overflow: auto; margin: 0.4em 0;
  max-width: max(75vw, 100vw - 8em)}
.skoptax-repr table.skoptax-table {border-collapse: collapse; margin: 0;
  color: inherit; background: transparent; font-size: inherit; table-layout: auto}
div.skoptax-repr table.skoptax-table tr:nth-child(n) {background: transparent}
div.skoptax-repr table.skoptax-table tr:nth-child(n) > :is(th, td) {color: inherit;
  background: transparent; border: 0; border-bottom: 1px solid;
  border-color: color-mix(in srgb, currentColor 25%, transparent);
  padding: 0.15em 0.7em; text-align: left; vertical-align: top;
  white-space: nowrap; max-width: none}
div.skoptax-repr table.skoptax-table tr:nth-child(n) > .skoptax-long {
  white-space: normal; overflow-wrap: anywhere; min-width: 16em}
div.skoptax-repr table.skoptax-table tr:nth-child(n) > :first-child {padding-left: 0}
.skoptax-repr .skoptax-table td {font-variant-numeric: tabular-nums}
div.skoptax-repr a:is(:link, :visited, :hover) {color: inherit;
  text-decoration: underline dotted}
.skoptax-repr svg {display: block; overflow: visible; max-width: 100%}
@media print {.skoptax-repr .skoptax-scroll {max-height: none; max-width: none}}
""".strip()


def block(parts: Sequence[str]) -> str:
    """
    Return parts of HTML as one, with the style that they need.

    Parameters
    ----------
    parts : sequence of str
        From the functions of this module; empty ones are left out.

    Returns
    -------
    str
        A ``div``.
    """
    inner = "".join(part for part in parts if part)
    return f'<div class="skoptax-repr"><style>{_STYLE}</style>{inner}</div>'


def paragraph(text: str) -> str:
    """Return a text as a paragraph; an empty one as nothing."""
    return f"<p>{html.escape(text)}</p>" if text else ""


def linked(text: str, item: str, page: str) -> str:
    """
    Return a text that leads to an item of a page of the documentation.

    Parameters
    ----------
    text : str
        What is shown.
    item : str
        What the browser looks for on the page.
    page : str
        Its address. Without one there is no link.

    Returns
    -------
    str
        HTML.
    """
    shown = html.escape(text)
    if not page:
        return shown
    address = html.escape(f"{page}#:~:text={quote(item)}")
    return f'<a rel="noreferrer" target="_blank" href="{address}">{shown}</a>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """
    Return a table.

    Parameters
    ----------
    head : sequence of str
        HTML from `linked`, or nothing for a table without a head.
    rows : sequence of sequence of str
        Texts. The first of each row is its heading.

    Returns
    -------
    str
        HTML.
    """
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        "<tr>"
        + _cell("th", row[0], ' scope="row"')
        + "".join(_cell("td", text) for text in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        '<div class="skoptax-scroll"><table class="skoptax-table">'
        + (f"<thead><tr>{top}</tr></thead>" if head else "")
        + f"<tbody>{body}</tbody></table></div>"
    )


def _cell(tag: str, text: str, attributes: str = "") -> str:
    long = ' class="skoptax-long"' if len(text) > _LONG else ""
    return f"<{tag}{attributes}{long}>{html.escape(text)}</{tag}>"


def facts(items: Mapping[str, str], page: str = "") -> str:
    """
    Return names with what there is to say of each, one a line.

    Parameters
    ----------
    items : mapping of str to str
        Names of attributes to texts.
    page : str, default=""
        Where the attributes are documented.

    Returns
    -------
    str
        HTML.
    """
    lines = [
        f"{linked(name, name, page)}: {html.escape(text)}"
        for name, text in items.items()
    ]
    return f"<p>{'<br>'.join(lines)}</p>"


def sparkline(series: Mapping[str, Any]) -> str:
    """
    Return curves over the steps in one small picture.

    Parameters
    ----------
    series : mapping of str to array of shape (n,)
        Name to values; what is not finite is left out, and so is a third curve.

    Returns
    -------
    str
        HTML with an inline SVG; empty without a finite value. The scale is logarithmic
        if all values are positive.
    """
    curves = {name: _thinned(values) for name, values in series.items()}
    curves = {name: curve for name, curve in curves.items() if len(curve[0])}
    if not curves:
        return ""
    heights = np.concatenate([y for _, y in curves.values()])
    is_log = bool((heights > 0).all())
    steps = max(1, max(int(x[-1]) for x, _ in curves.values()))
    low, high = _scaled(np.array([heights.min(), heights.max()]), is_log)
    drawn = []
    for (x, y), dash in zip(curves.values(), _DASHES, strict=False):
        across = x / steps
        up = (_scaled(y, is_log) - low) / (high - low) if high > low else 0.5 + 0 * y
        points = " ".join(
            f"{_MARGIN + a * (_WIDTH - 2 * _MARGIN):.1f},"
            f"{_MARGIN + (1 - b) * (_HEIGHT - 2 * _MARGIN):.1f}"
            for a, b in zip(across, up, strict=True)
        )
        # A line of one point has no length, but round ends.
        points = f"{points} {points}" if len(x) == 1 else points
        drawn.append(f'<polyline points="{points}"{dash}></polyline>')
    scale = ", log scale" if is_log and high > low else ""
    texts = [
        f"{name} {number(y[0])} to {number(y[-1])}{' (dashed)' if dash else ''}"
        for (name, (_, y)), dash in zip(curves.items(), _DASHES, strict=False)
    ]
    caption = html.escape(f"{', '.join(texts)}; steps 0 to {steps}{scale}")
    return (
        f'<svg role="img" aria-label="{caption}" width="{_WIDTH:.0f}" '
        f'height="{_HEIGHT:.0f}" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}">'
        f'<g fill="none" stroke="currentColor" stroke-width="1.5" '
        f'stroke-linecap="round">{"".join(drawn)}</g></svg><p>{caption}</p>'
    )


def _thinned(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of at most `MOST_POINTS` finite points."""
    y = np.asarray(values, float)
    x = np.flatnonzero(np.isfinite(y))
    if len(x) > MOST_POINTS:
        x = x[np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int)]
    return x, y[x]


def _scaled(values: np.ndarray, is_log: bool) -> np.ndarray:
    # Halved, so that the difference of two that are huge is a number.
    return np.log10(values) if is_log else values / 2


def number(value: Any) -> str:
    """Return a number as text of six digits."""
    return f"{float(value):.6g}"


def summarised(value: Any) -> str:
    """
    Return any value as a short text.

    Parameters
    ----------
    value : object
        Numbers get six digits; arrays their shape, least and largest entry.

    Returns
    -------
    str
        Not escaped.
    """
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if is_number(value):
        return number(value)
    if isinstance(value, (list, tuple)) or hasattr(value, "__array__"):
        try:
            array = np.asarray(value, float)
        except Exception:  # of strings, say, or of what cannot be an array
            return shorten(value, 60)
        if array.ndim == 0:
            return number(array)
        known = array[~np.isnan(array)]
        if not known.size:
            return f"{array.shape} nan" if array.size else f"{array.shape}"
        low, high = number(known.min()), number(known.max())
        return f"{array.shape} {low}" + (f" to {high}" if low != high else "")
    return shorten(value, 60)
