"""Formulas as MathML, which browsers render by themselves: no script, no network.

ziamath is here for a font with the measures that mathematics need, which not every
machine has.
"""

from __future__ import annotations

import html
from importlib.resources import files
from typing import Any

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
CONVERTER = LatexToMathML()
FONT = files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"


def to_mathml(latex: str, node: nodes.Element, displaystyle: bool) -> str:
    """Return a formula as MathML; one that is not understood is a warning."""
    try:
        return CONVERTER.convert_with_local_state(latex, displaystyle=displaystyle)
    except LatexError as error:
        LOGGER.warning("not a formula: %s: %s", latex, error, location=node)
        return f"<code>{html.escape(latex)}</code>"


def visit_inline(translator: Any, node: nodes.math) -> None:
    """Write a formula in a line of text."""
    translator.body.append(to_mathml(node.astext(), node, displaystyle=False))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    formula = to_mathml(node.astext(), node, displaystyle=True)
    translator.body.append(f'<div class="math-block">{formula}</div>\n')
    raise nodes.SkipNode


def add_font(app: Sphinx, config: Config) -> None:
    """Have the font copied beside the style sheet."""
    config.html_static_path.append(str(FONT))


def setup(app: Sphinx) -> dict[str, bool]:
    """Make this the way formulas are written."""
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(visit_inline, None),
        block_renderers=(visit_block, None),
    )
    app.config.html_math_renderer = "mathml"
    app.connect("config-inited", add_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
