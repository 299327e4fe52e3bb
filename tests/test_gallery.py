"""The gallery has every example, and its archives what an example reads."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("plot_*.py"))


@pytest.fixture(scope="module")
def gallery():
    path = ROOT / "docs" / "_extensions" / "gallery.py"
    spec = importlib.util.spec_from_file_location("gallery", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(gallery, tmp_path_factory):
    """Return a folder with pages as sphinx-gallery makes them, completed."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "gallery").mkdir()
    for script in SCRIPTS:
        shutil.copy(script, folder / "gallery")
        (folder / "gallery" / f"{script.stem}.ipynb").write_text("{}")
    options = {"gallery_dirs": "gallery", "examples_dirs": str(EXAMPLES)}
    config = SimpleNamespace(sphinx_gallery_conf=options)
    gallery.complete(SimpleNamespace(srcdir=str(folder), config=config))
    return folder / "gallery"


def test_every_example_is_in_one_group(gallery, built):
    page = (built / "index.rst").read_text(encoding="utf-8")
    shown = re.findall(r"^   \.\./examples/(\w+)\.py$", page, flags=re.MULTILINE)
    listed = re.findall(r"^   (plot_\w+)$", page, flags=re.MULTILINE)
    assert sorted(shown) == [script.stem for script in SCRIPTS]
    assert shown == listed
    # The pages in the navigation stand under the heading of their pictures.
    titles = re.findall(r"^(.+)\n-+$", page, flags=re.MULTILINE)
    assert titles == re.findall(r"^   :caption: (.+)$", page, flags=re.MULTILINE)
    assert len(titles) >= 5
    ordered = sorted(SCRIPTS, key=lambda script: gallery.as_listed(str(script)))
    assert [script.stem for script in ordered] == shown


def data_named(script):
    """Return the files of data whose names stand in a script."""
    there = {path.name for path in (EXAMPLES / "data").iterdir()}
    tree = ast.parse(script.read_text(encoding="utf-8"))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return sorted(f"data/{name}" for name in there & words)


def test_archives_have_the_data(built):
    everything = set()
    for script in SCRIPTS:
        expected = [*data_named(script), f"{script.stem}.ipynb", script.name]
        with ZipFile(built / f"{script.stem}.zip") as archive:
            assert sorted(archive.namelist()) == sorted(expected)
            assert archive.read(script.name) == script.read_bytes()
            modes = {entry.external_attr >> 16 for entry in archive.infolist()}
        assert modes == {0o644}
        everything |= set(expected)
    with ZipFile(built / "skoptax_examples.zip") as archive:
        assert set(archive.namelist()) == everything
    assert sum(name.startswith("data/") for name in everything) >= 9


@pytest.mark.slow
def test_an_unpacked_example_runs(built, tmp_path):
    with ZipFile(built / "plot_multistart.zip") as archive:
        archive.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "error", "plot_multistart.py"],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "certified" in done.stdout
