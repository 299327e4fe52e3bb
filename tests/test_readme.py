"""README and guides are what newcomers run first: they must print what they say.

A tested example is a ``python`` block right after the line ``<!-- example -->``,
followed by ``<!-- output -->`` and a ``text`` block with exactly what it prints.
``<!-- example (scikit-learn >= 1.9) -->`` and ``<!-- example (needs lmfit, torch) -->``
say what an example cannot run without: a version, or libraries by their import names.
Each example stands for itself: those of a page share a process, but no names.
The commands under ``<!-- command: NAME -->`` are run by ``.ci/run``.
"""

import difflib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import sklearn
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
RUNNER = Path(__file__).with_name("run_blocks.py")
# No example prints this; it tells the outputs of a page's examples apart.
END = "-- end of an example of the page --"


def blocks(text: str, marker: str, language: str) -> list[str]:
    """Return the fenced blocks right after each line that is the marker."""
    pattern = (
        rf"^<!-- {re.escape(marker)} -->[ ]*\n\s*^```{language}[ ]*\n(.*?)^```[ ]*$"
    )
    return re.findall(pattern, text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


MARKER = re.compile(
    r"<!-- example"
    r"(?: \((?:scikit-learn >= (?P<version>[\d.]+)|needs (?P<libraries>[\w., ]+))\))?"
    r" -->"
)


class Example(NamedTuple):
    number: int  # as a reader counts: from 1
    lacking: str  # what it cannot run without and we do not have
    code: str
    output: str


def what_is_lacking(need: re.Match) -> str:
    if need["version"] and Version(sklearn.__version__) < Version(need["version"]):
        return f"scikit-learn {need['version']}"
    libraries = re.split(r", *", need["libraries"] or "")
    return ", ".join(x for x in libraries if x and not importlib.util.find_spec(x))


def read_examples(text: str, page: str) -> list[Example]:
    needs = list(MARKER.finditer(text))
    codes = blocks(MARKER.sub("<!-- example -->", text), "example", "python")
    outputs = blocks(text, "output", "text")
    said = f"{page}: each <!-- example --> needs a python block right after it"
    assert codes, said
    assert len(codes) == len(needs) == text.count("<!-- example"), said
    said = f"{page}: each example needs a text block right after <!-- output -->"
    assert len(codes) == len(outputs) == text.count("<!-- output -->"), said
    cases = zip(needs, codes, outputs, strict=True)
    return [
        Example(number, what_is_lacking(need), code, output)
        for number, (need, code, output) in enumerate(cases, start=1)
    ]


def complaints(examples: list[Example], page: str) -> list[str]:
    """Run examples in one process and return what is wrong, one text for each."""
    run = subprocess.run(
        [sys.executable, RUNNER, page, END],
        input=json.dumps([(e.number, e.code) for e in examples]),
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )
    *results, rest = re.split(rf"^{END} (passed|failed)\n", run.stdout, flags=re.M)
    printed, verdicts = results[::2], results[1::2]
    errors = run.stderr.split(f"{END}\n")
    found = []
    for i, example in enumerate(examples):
        where = f"{page}, example {example.number}"
        if i == len(verdicts):
            found.append(f"{where} ends the process:\n{rest}{errors[i]}")
            break
        said, prints = lines(example.output), lines(printed[i])
        if verdicts[i] == "failed":
            found.append(f"{where} fails:\n{errors[i]}")
        elif said != prints:
            difference = difflib.unified_diff(
                said, prints, page, "printed", lineterm=""
            )
            found.append(f"{where} prints other text:\n" + "\n".join(difference))
    return found


def lines(text):
    """Return the lines without trailing blanks, which nobody sees."""
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def pages():
    """Yield README, and the pages under docs that have examples."""
    yield "README.md"
    for path in sorted(ROOT.glob("docs/**/*.md")):
        name = path.relative_to(ROOT).as_posix()
        built = any(part.startswith(("_", ".")) for part in name.split("/"))
        if not built and "<!-- example" in path.read_text(encoding="utf-8"):
            yield pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize("page", list(pages()))
def test_examples_print_what_the_page_says(page):
    examples = read_examples((ROOT / page).read_text(encoding="utf-8"), page)
    found = complaints([e for e in examples if not e.lacking], page)
    assert not found, "\n\n".join(found)
    if lacking := [f"{e.number} ({e.lacking})" for e in examples if e.lacking]:
        pytest.skip(
            f"{page}: {len(examples) - len(lacking)} of {len(examples)} examples pass; "
            f"not run for what they need: {', '.join(lacking)}"
        )


FAILING = """
x = 1
print("said")

import os, warnings, numpy as np
np.random.seed(0); warnings.simplefilter("error"); os.environ["LEFT"] = "behind"
print("another text")

import os, warnings
warnings.warn("no error")
print(os.environ.get("LEFT"))

print(x)

import sys
sys.exit("it gives up")

print("said", flush=True)
import os
os._exit(3)

print("never run")
"""


def test_examples_are_told_apart_and_share_nothing():
    codes = FAILING.strip("\n").split("\n\n")
    outputs = ["said\n", "said\n", "None\n", "1\n", "\n", "said\n", "never run\n"]
    pairs = zip(codes, outputs, strict=True)
    page = "\n".join(
        f"<!-- example -->\n```python\n{code}\n```\n"
        f"<!-- output -->\n```text\n{output}```"
        for code, output in pairs
    )
    found = complaints(read_examples(page, "a.md"), "a.md")
    other, name, gives_up, ends = found
    assert other.startswith("a.md, example 2 prints other text:\n--- a.md\n+++ printed")
    assert other.endswith("-said\n+another text")
    assert name.startswith("a.md, example 4 fails:\nTraceback")
    assert "NameError: name 'x' is not defined" in name
    assert '"<a.md, example 4>", line 1, in <module>\n    print(x)' in name
    assert "it gives up" in gives_up and gives_up.startswith("a.md, example 5 fails")
    assert ends.startswith("a.md, example 6 ends the process:\nsaid")


def test_what_an_example_needs():
    text = "```python\n1\n```\n<!-- output -->\n```text\n```\n"
    markers = [
        "",
        " (scikit-learn >= 99.1)",
        " (needs json, no_such_library, no_other)",
        " (needs json)",
    ]
    page = "".join(f"<!-- example{marker} -->\n{text}" for marker in markers)
    lacking = [example.lacking for example in read_examples(page, "a.md")]
    assert lacking == ["", "scikit-learn 99.1", "no_such_library, no_other", ""]
    with pytest.raises(AssertionError, match=r"a\.md: each <!-- example -->"):
        read_examples(f"<!-- example (need json) -->\n{text}", "a.md")


@pytest.mark.parametrize("name", ["quickstart", "tests"])
def test_command_stands_once(readme, name):
    assert len(blocks(readme, f"command: {name}", "bash")) == 1
    assert readme.count(f"<!-- command: {name} -->") == 1
