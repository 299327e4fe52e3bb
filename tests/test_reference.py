"""The reference of the documentation lists what is public, and nothing else."""

import importlib
import pkgutil
import re
from collections import Counter
from pathlib import Path

import skoptax

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"


def public_modules():
    """Return skoptax and its modules without an underscore in their names."""
    names = [info.name for info in pkgutil.walk_packages(skoptax.__path__, "skoptax.")]
    public = [name for name in names if "._" not in name]
    return [skoptax, *map(importlib.import_module, public)]


def listed(text):
    """Return the names that a page of the reference has or makes pages for.

    They are those in its autosummaries, and those it describes itself.
    """
    found, module, inside = [], None, False
    for line in text.splitlines():
        if directive := re.match(r"\.\. ([\w:]+)::\s*(\S*)", line):
            kind, argument = directive.groups()
            inside = kind == "autosummary"
            if kind == "currentmodule":
                module = argument
            elif kind == "automodule":
                found.append(argument)
            elif kind == "py:data":
                found.append(f"{module}.{argument}")
        elif inside and (name := re.fullmatch(r"   (\w+)", line)):
            found.append(f"{module}.{name[1]}")
        elif line and not line.startswith(" "):
            inside = False
    return found


def test_a_page_is_read_as_sphinx_reads_it():
    page = """
Title
=====

.. automodule:: package.module
   :no-members:

.. currentmodule:: package

.. autosummary::
   :toctree: generated/

   One
   two

Text.

   three

.. py:data:: __version__
"""
    names = ["package.module", "package.One", "package.two", "package.__version__"]
    assert listed(page) == names


def test_every_public_name_is_listed_once_and_nothing_else():
    public = {module.__name__ for module in public_modules()[1:]} | {
        f"{module.__name__}.{name}"
        for module in public_modules()
        for name in module.__all__
    }
    pages = [path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.rst")]
    counts = Counter(name for page in pages for name in listed(page))
    assert sorted(public - set(counts)) == [], "not in docs/reference/*.rst"
    assert sorted(set(counts) - public) == [], "in docs/reference/*.rst, not public"
    assert [name for name, count in counts.items() if count > 1] == []


def test_every_page_is_in_the_table_of_contents():
    index = (REFERENCE / "index.rst").read_text(encoding="utf-8")
    entries = re.findall(r"^   (\w+)$", index.split(".. toctree::")[1], re.MULTILINE)
    pages = {path.stem for path in REFERENCE.glob("*.rst")} - {"index"}
    assert sorted(entries) == sorted(pages)
