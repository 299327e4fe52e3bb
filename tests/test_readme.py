"""The README is what newcomers run first: its example must print what it says.

A tested example is a ``python`` block right after the line ``<!-- example -->``,
followed by ``<!-- output -->`` and a ``text`` block with exactly what it prints.
The commands under ``<!-- command: NAME -->`` are run by ``.ci/run``.
"""

import difflib
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_example_prints_what_the_readme_says(readme):
    examples = blocks(readme, "example", "python")
    outputs = blocks(readme, "output", "text")
    assert examples, "README.md has no python block after <!-- example -->"
    assert len(examples) == readme.count("<!-- example -->")
    assert len(examples) == len(outputs) == readme.count("<!-- output -->")

    for code, expected in zip(examples, outputs, strict=True):
        run = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
        )
        assert run.returncode == 0, f"the README's example fails:\n{run.stderr}"
        said, printed = lines(expected), lines(run.stdout)
        difference = "\n".join(
            difflib.unified_diff(said, printed, "README.md", "printed", lineterm="")
        )
        assert said == printed, f"the README's example prints other text:\n{difference}"


def lines(text):
    """Return the lines without trailing blanks, which nobody sees."""
    return [line.rstrip() for line in text.strip("\n").splitlines()]


@pytest.mark.parametrize("name", ["quickstart", "tests"])
def test_command_stands_once(readme, name):
    assert len(blocks(readme, f"command: {name}", "bash")) == 1
    assert readme.count(f"<!-- command: {name} -->") == 1
