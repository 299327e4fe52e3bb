"""Markdown that is read in the repository too: its links and its comments.

A link to a file of the repository that is not below ``docs`` leads to the page that is
made of this file, if there is one; Sphinx offers any other file as a download. HTML
comments mark examples for the tests, and are no part of a page.
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

#: The pages that are made of files of the repository.
PAGES = {
    "CHANGELOG.md": "/changelog.md",
    "CONTRIBUTING.md": "/developers/contributing.md",
    "README.md": "/index.md",
    "SECURITY.md": "/developers/security.md",
}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|/|#)([^)\s#]+)(?=[)#])")
COMMENT = re.compile(r"\s*<!--.*?-->\s*", re.DOTALL)


def target_of(link: str, folder: str) -> str:
    """Return where a link leads on the site.

    Parameters
    ----------
    link : str
        A relative path, as it stands in a file.
    folder : str
        The folder of that file, relative to the repository.

    Returns
    -------
    str
        A path that begins with ``/``, which is the folder ``docs``.
    """
    path = os.path.normpath(os.path.join(folder, link)).replace(os.sep, "/")
    if path in PAGES:
        return PAGES[path]
    if example := re.fullmatch(r"examples/(plot_\w+)\.py", path):
        return f"/gallery/{example[1]}.rst"
    return "/" + os.path.relpath(path, "docs").replace(os.sep, "/")


def read_source(app: Sphinx, docname: str, content: list[str]) -> None:
    """Redirect the links of a page."""
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".md":
        redirect(content, os.path.relpath(path.parent, app.srcdir.parent))


def read_include(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """Redirect the links of a file that a page consists of."""
    if path.suffix == ".md":
        redirect(content, os.path.normpath(os.path.join("docs", path.parent)))


def redirect(content: list[str], folder: str) -> None:
    """Redirect all links in a text."""
    content[0] = LINK.sub(lambda found: target_of(found[1], folder), content[0])


def remove_comments(app: Sphinx, doctree: nodes.document) -> None:
    """Remove what only a reader of the file should see."""
    for raw in list(doctree.findall(nodes.raw)):
        if COMMENT.fullmatch(raw.astext()):
            raw.parent.remove(raw)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the functions above to what they change."""
    app.connect("source-read", read_source)
    app.connect("include-read", read_include)
    app.connect("doctree-read", remove_comments)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
