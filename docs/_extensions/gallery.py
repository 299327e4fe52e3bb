"""The gallery's order, and archives of examples with the data that they read.

The page of the gallery is ``examples/GALLERY_HEADER.rst`` as it stands, in groups;
sphinx-gallery would add all examples once more below it. Other lists of examples
follow its order.

sphinx-gallery makes an archive of each page's script and notebook. Here they get the
files of ``examples/data`` that the script names, in the folder where it looks for them,
so that it runs where the archive is unpacked.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

if TYPE_CHECKING:  # the tests do without Sphinx
    from sphinx.application import Sphinx

HEADER = "GALLERY_HEADER.rst"
#: All of them in one archive, beside the pages of the gallery.
ALL = "skoptax_examples.zip"
FILE = re.compile(r'"data" / "([\w.]+)"')


def as_listed(path: str) -> int:
    """Return where an example stands on the page of the gallery."""
    script = Path(path)
    page = script.with_name(HEADER).read_text(encoding="utf-8")
    return page.index(f"/{script.name}\n")


def data_of(script: Path) -> list[Path]:
    """Return the files of data that a script of the examples reads."""
    names = sorted(set(FILE.findall(script.read_text(encoding="utf-8"))))
    return [script.parent / "data" / name for name in names]


def complete(app: Sphinx) -> None:
    """Write the page of the gallery, and the archives: of each example, and of all."""
    options = app.config.sphinx_gallery_conf
    gallery = Path(app.srcdir, options["gallery_dirs"])
    examples = Path(app.srcdir, options["examples_dirs"])
    (gallery / "index.rst").write_bytes((examples / HEADER).read_bytes())
    scripts = sorted(examples.glob("plot_*.py"))
    everything: dict[str, Path] = {}
    for script in scripts:
        files = {f"data/{path.name}": path for path in data_of(script)}
        page = [gallery / f"{script.stem}{ending}" for ending in (".py", ".ipynb")]
        files |= {path.name: path for path in page}
        everything |= files
        write(gallery / f"{script.stem}.zip", files)
    write(gallery / ALL, everything)


def write(archive: Path, files: dict[str, Path]) -> None:
    """Write an archive of files, given by their names in it; equal for equal files."""
    with ZipFile(archive, "w", ZIP_DEFLATED) as made:
        for name, path in sorted(files.items()):
            entry = ZipInfo(name)
            entry.external_attr = 0o644 << 16  # else nobody may read it
            made.writestr(entry, path.read_bytes(), ZIP_DEFLATED)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect it to the time when sphinx-gallery, at 500, has made the pages."""
    app.connect("builder-inited", complete, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
