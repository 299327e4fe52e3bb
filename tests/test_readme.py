"""README and guides are what newcomers run first: they must print what they say.

A tested example is a ``python`` block right after the line ``<!-- example -->``, or
``<!-- example (scikit-learn >= 1.9) -->``, followed by ``<!-- output -->`` and a
``text`` block with exactly what it prints.
The commands under ``<!-- command: NAME -->`` are run by ``.ci/run``.
"""

import difflib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]


def blocks(text: str, marker: str, language: str) -> list[str]:
    """Return the fenced blocks right after each line that is the marker."""
    pattern = (
        rf"^<!-- {re.escape(marker)} -->[ ]*\n\s*^```{language}[ ]*\n(.*?)^```[ ]*$"
    )
    return re.findall(pattern, text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


PAGES = [
    "README.md",
    *(f"docs/guides/{name}.md" for name in ("long_trainings", "networks", "pictures")),
]
# The marker of an example that older versions cannot run says so.
MARKER = re.compile(r"<!-- example(?: \(scikit-learn >= ([\d.]+)\))? -->")


def cases():
    """Return page, needed version, code and output of each example."""
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        needs = MARKER.findall(text)
        examples = blocks(MARKER.sub("<!-- example -->", text), "example", "python")
        outputs = blocks(text, "output", "text")
        assert examples, f"{page} has no python block after <!-- example -->"
        assert len(examples) == len(needs) == text.count("<!-- example")
        assert len(examples) == len(outputs) == text.count("<!-- output -->")
        for i, case in enumerate(zip(needs, examples, outputs, strict=True)):
            yield pytest.param(page, *case, id=f"{page}-{i}")


@pytest.mark.parametrize("page, needs, code, expected", list(cases()))
def test_example_prints_what_the_page_says(page, needs, code, expected):
    if needs and Version(sklearn.__version__) < Version(needs):
        pytest.skip(f"the example needs scikit-learn {needs}")
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert run.returncode == 0, f"the example of {page} fails:\n{run.stderr}"
    said, printed = lines(expected), lines(run.stdout)
    difference = "\n".join(
        difflib.unified_diff(said, printed, page, "printed", lineterm="")
    )
    assert said == printed, f"the example of {page} prints other text:\n{difference}"


def test_no_example_is_forgotten():
    pages = ROOT.glob("docs/**/*.md")
    marked = [p for p in pages if "<!-- example" in p.read_text(encoding="utf-8")]
    found = {str(path.relative_to(ROOT)).replace("\\", "/") for path in marked}
    assert found | {"README.md"} == set(PAGES)


def lines(text):
    """Return the lines without trailing blanks, which nobody sees."""
    return [line.rstrip() for line in text.strip("\n").splitlines()]


@pytest.mark.parametrize("name", ["quickstart", "tests"])
def test_command_stands_once(readme, name):
    assert len(blocks(readme, f"command: {name}", "bash")) == 1
    assert readme.count(f"<!-- command: {name} -->") == 1
