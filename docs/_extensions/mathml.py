"""Formulas as MathML, which browsers render by themselves: no script, no network.

ziamath is here for a font with the measures that mathematics need, which not every
machine has.
"""

from __future__ import annotations

import html
import re
from importlib.resources import files
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
FONT = files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"

# By default these are spaced like the sign of an operation between two terms: a bar,
# which may open or close, and a slash.
TIGHT = re.compile(r'<mo( stretchy="false")?>(&#x0007C;|&#x0002F;)</mo>')
# A function such as log, with the bracket after it, if there is one.
FUNCTION = re.compile(
    r'<m([io])>([A-Za-z]{2,})</m\1>(?=(<mo stretchy="false">&#x00028;)?)'
)


def to_mathml(latex: str, node: nodes.Element, display: str) -> str:
    """Return a formula as MathML; one that is not understood is a warning.

    Parameters
    ----------
    latex : str
        The formula.
    node : Element
        Where it stands, for the warning.
    display : {"inline", "block"}
        In a line of text or on its own.

    Returns
    -------
    str
        The element ``math``, spaced as TeX does.
    """
    try:
        mathml = convert(latex.strip(), display=display)
    except Exception as error:  # its errors have no common base
        LOGGER.warning("not a formula: %s: %r", latex, error, location=node)
        return f"<code>{html.escape(latex)}</code>"
    if unknown := re.search(r"\\\w+", mathml):
        LOGGER.warning("no such command: %s", unknown[0], location=node)
    mathml = mathml.replace("<mo>&#x0005E;</mo>", "<mo>&#x002C6;</mo>")  # a hat
    mathml = TIGHT.sub(r'<mo stretchy="false" lspace="0" rspace="0">\2</mo>', mathml)
    return FUNCTION.sub(spaced_function, mathml)


def spaced_function(found: re.Match[str]) -> str:
    """Return a function's name, with thin spaces but before a bracket."""
    after = "0" if found[3] else "0.167em"
    return f'<mo form="prefix" lspace="0.167em" rspace="{after}">{found[2]}</mo>'


def visit_inline(translator: Any, node: nodes.math) -> None:
    """Write a formula in a line of text."""
    translator.body.append(to_mathml(node.astext(), node, "inline"))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    formula = to_mathml(node.astext(), node, "block")
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
