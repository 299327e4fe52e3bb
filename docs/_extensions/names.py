"""Names in the text lead to their pages in the reference.

A literal that is the full name of something public (``skoptax.curve_fit``), or its last
two parts (``callbacks.Checkpoint``), becomes a link. A bare name does only if nobody
else has one like it: ``Parameter`` may be lmfit's, and ``curve_fit`` SciPy's.
"""

from __future__ import annotations

import re

from docutils import nodes
from public import public_names
from sphinx import addnodes
from sphinx.application import Sphinx

OUR_OWN = re.compile(r"Optax\w+|\w+Display")


def names_and_targets() -> dict[str, str]:
    """Return the full name of what each linked text means."""
    targets = {}
    for name in public_names():
        parts = name.split(".")
        targets[name] = name
        if len(parts) == 3:
            targets[".".join(parts[1:])] = name
        if OUR_OWN.fullmatch(parts[-1]):
            targets[parts[-1]] = name
    return targets


def link_names(app: Sphinx, doctree: nodes.document) -> None:
    """Wrap each such literal in a reference."""
    targets = names_and_targets()
    for literal in list(doctree.findall(nodes.literal)):
        target = targets.get(literal.astext().removesuffix("()"))
        if target is None or not isinstance(literal.parent, PLAIN):
            continue
        link = addnodes.pending_xref(
            "", refdomain="py", reftype="obj", reftarget=target, refexplicit=True
        )
        link["refdoc"] = app.env.docname
        literal.replace_self(link)
        link += literal


PLAIN = (nodes.paragraph, nodes.strong, nodes.emphasis, nodes.entry, nodes.term)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect it to the reading of each page."""
    app.connect("doctree-read", link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
