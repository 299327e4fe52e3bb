"""The picture of the architecture shows what is there."""

import ast
import configparser
import importlib.util
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def tool():
    path = ROOT / "tools" / "draw_architecture.py"
    spec = importlib.util.spec_from_file_location("draw_architecture", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imports():
    """Yield pairs of modules right below skoptax: one that imports, and what."""
    for path in sorted((ROOT / "skoptax").rglob("*.py")):
        *package, name = path.relative_to(ROOT).with_suffix("").parts
        if package == ["skoptax"] and name == "__init__":
            continue  # it collects the public names of all
        own = package[1] if len(package) > 1 else name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                where = package[: len(package) - node.level + 1]
                where += (node.module or "").split(".") if node.module else []
                found = (
                    [where]
                    if len(where) > 1
                    else [[*where, a.name] for a in node.names]
                )
                for parts in found:
                    if parts[1] != own:
                        yield own, parts[1]


def test_it_is_up_to_date(tool):
    stored = tool.PICTURE.read_text(encoding="utf-8")
    assert stored == tool.drawn(), "run: python tools/draw_architecture.py"


def test_imports_go_down_from_row_to_row(tool):
    rows = tool.row_of_modules()
    pairs = set(imports())
    assert ("_optimizer", "_driver") in pairs and ("plots", "inference") in pairs
    wrong = [
        f"{one} imports {other}"
        for one, other in sorted(pairs)
        if rows[one] != rows[other] and rows[one][0] >= rows[other][0]
    ]
    assert not wrong


def test_every_module_is_in_one_box(tool, monkeypatch):
    there = {path.stem for path in (ROOT / "skoptax").iterdir() if path.suffix == ".py"}
    there |= {path.parent.name for path in (ROOT / "skoptax").glob("*/__init__.py")}
    assert set(tool.row_of_modules()) == there - {"__init__"}
    known = tool.modules_of_layers()
    monkeypatch.setattr(tool, "modules_of_layers", lambda: [*known, "_new"])
    with pytest.raises(ValueError, match=r"^_new: in the layers"):
        tool.drawn()
    monkeypatch.setattr(tool, "modules_of_layers", lambda: known[1:])
    with pytest.raises(ValueError, match=f"^{known[0]} is in two boxes"):
        tool.drawn()


def test_it_has_a_text_and_stays_in_its_frame(tool):
    root = ElementTree.fromstring(tool.drawn())
    assert root.find(f"{SVG}desc").text == tool.TEXT
    height = float(root.get("height"))
    boxes = [r for r in root.iter(f"{SVG}rect") if r.get("class") != "paper"]
    assert len(boxes) == sum(map(len, tool.ROWS))
    for box in boxes:
        assert float(box.get("y")) + float(box.get("height")) < height
    # What a reader without the picture gets names each box.
    for title in (box.title for row in tool.ROWS for box in row):
        assert title.lower() in tool.TEXT.lower()
    page = (ROOT / "docs" / "developers" / "architecture.md").read_text(
        encoding="utf-8"
    )
    assert f"![{tool.TEXT}](architecture.svg)" in page


def test_the_layers_in_words_are_those_of_the_contract(tool):
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = settings["importlinter:contract:layers"]["layers"].split("\n")
    layer = {name: i for i, line in enumerate(lines) for name in line.split(" | ")}
    assert set(layer) - {""} == set(tool.modules_of_layers())
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("## The layers")[2].partition("\n## ")[0]
    points = [re.findall(r"`(\w+)`", point) for point in re.split(r"\n\d\. ", section)]
    places = [[layer[name] for name in point] for point in points[1:]]
    assert len(places) == 5
    for above, below in pairwise(places):
        assert max(above) < min(below)


def test_every_layer_has_its_modules(tool):
    package = ROOT / "skoptax"
    found = {p.stem for p in package.glob("*.py")} | {
        p.parent.name for p in package.glob("*/__init__.py")
    }
    assert set(tool.modules_of_layers()) == found - {"__init__"}
