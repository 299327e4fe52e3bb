"""The check of a built site: each kind of fault is found, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.check_site import Page, dead_links

ROOT = Path(__file__).resolve().parents[2]
SITE = "http://127.0.0.1:1/"

CLEAN = {
    "index.html": """
        <link rel="stylesheet" href="_static/style.css"><h1 id="start">Start</h1>
        <a href="guides/">Guides</a> <a href="guides/fit.html#the-model">Fit</a>
        <a href="#start">Up</a> <a href="#">Top</a> <a href="#top">Top</a>
        <a href="guides/fit.html#:~:text=model">Text</a>
        <a href="notes.txt#L3">Notes</a>
        <a href="#by%20script">Made by a script</a> <a href="#old">Old</a>
        <a name="old"></a> <a href="https://elsewhere.example/page.html#x">Elsewhere</a>
        <a href="mailto:nobody@elsewhere.example">Mail</a>
        <img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">
        <script src="_static/script.js"></script>""",
    "guides/index.html": '<a href="../index.html?from=guides#start">Start</a>',
    "guides/fit.html": '<h2 id="the-model">The model</h2><a href="/index.html">x</a>',
    "notes.txt": "notes",
    "_static/style.css": "h1 {color: black}",
    "_static/script.js": """
        document.querySelector("h1").insertAdjacentHTML(
            "afterend", "<p id='by script'>");
        console.warn("a warning is no error");""",
    "_static/part.html": '<script src="{{ not_yet }}.js"></script>',
}
# Page to what is on it and what is to be said of it.
FAULTY = {
    "console.html": (
        '<script>console.error("no such series")</script>',
        "console error: no such series",
    ),
    "uncaught.html": (
        "<script>undefined_function()</script>",
        "uncaught error: undefined_function is not defined",
    ),
    "late.html": (
        "<script>setTimeout(() => fetch('late.json').then(r => null))</script>",
        "failed request: /late.json 404",
    ),
    "style.html": (
        "<style>body {background: url(picture.png)}</style><p>text</p>",
        "failed request: /picture.png 404",
    ),
    "network.html": (
        '<script src="https://cdn.example/library.js"></script>',
        "request to another host: https://cdn.example/library.js",
    ),
    "link.html": (
        '<a href="guides/gone.html#x">x</a>',
        "dead link 'guides/gone.html#x': there is no guides/gone.html",
    ),
    "anchor.html": (
        '<a href="guides/fit.html#the-loss">x</a>',
        "dead link 'guides/fit.html#the-loss': guides/fit.html has no #the-loss",
    ),
    "own.html": ('<a href="#gone">x</a>', "dead link '#gone': own.html has no #gone"),
    "hidden.html": (
        '<div hidden><img loading="lazy" src="gone.png"></div>',
        "dead link 'gone.png': there is no gone.png",
    ),
    "file.html": (
        '<a href="file:///tmp/x.html">x</a>',
        "dead link 'file:///tmp/x.html': this leads to a file outside the site",
    ),
}


def written(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        start = "<!doctype html><meta charset=utf-8>" if name.endswith("html") else ""
        path.write_text(start + text)
    return folder


def checked(*arguments, **kwargs):
    """Return exit status, lines and errors of the tool, run as users run it."""
    command = [sys.executable, str(ROOT / "tools" / "check_site.py")]
    command.extend(map(str, arguments))
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, **kwargs
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("needs_chromium")
class TestInTheBrowser:
    def test_nothing_is_wrong(self, tmp_path):
        folder = written(tmp_path, CLEAN)
        status, lines, errors = checked(folder, "--skip", "_static/*")
        assert (status, lines[:-1]) == (0, []), errors
        assert lines[-1].startswith("3 pages, 0 faults")

    def test_each_fault_is_found(self, tmp_path):
        pages = {name: text for name, (text, _) in FAULTY.items()}
        folder = written(tmp_path, CLEAN | pages)
        status, lines, errors = checked(folder, "--skip", "_static/*")
        assert status == 1, errors
        expected = {f"{name}: {reason}" for name, (_, reason) in FAULTY.items()}
        assert sorted(lines[:-1]) == sorted(expected)
        assert lines[-1].startswith(f"13 pages, {len(FAULTY)} faults")


class TestNothingChecked:
    def test_no_page(self, tmp_path):
        status, lines, errors = checked(tmp_path / "absent")
        assert (status, lines) == (2, [])
        assert f"There is no HTML page in {tmp_path / 'absent'}." in errors

    def test_no_chromium(self, tmp_path):
        pytest.importorskip("playwright", reason="Playwright is not installed")
        folder = written(tmp_path, CLEAN)
        status, lines, errors = checked(folder, env={"PATH": str(tmp_path)})
        assert (status, lines) == (2, [])
        assert errors.startswith("Chromium is not installed: none of chromium, ")

    def test_no_playwright(self, tmp_path):
        folder = written(tmp_path / "site", CLEAN)
        # Stands before the one that may be installed.
        written(tmp_path, {"playwright/__init__.py": ""})
        status, lines, errors = checked(folder, env={"PYTHONPATH": str(tmp_path)})
        assert (status, lines) == (2, [])
        assert "pip install -e '.[browser]'" in errors


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "dead link 'text': this is no address"),
        (f"{SITE}b%20c/", ""),
        (f"{SITE}b%20c", ""),
        (f"{SITE}b%20c/index.html#%C3%A9", ""),
        (f"{SITE}b%20c/#e", "dead link 'text': b c/index.html has no #e"),
        (f"{SITE}B%20c/index.html", "dead link 'text': there is no B c/index.html"),
        ("http://127.0.0.1:12/gone.html", ""),  # another server
    ],
)
def test_links(tmp_path, address, reason):
    written(tmp_path, {"a.html": "", "b c/index.html": ""})
    pages = [Page("a.html", [("text", address)]), Page("b c/index.html", [], {"é"})]
    found = [*dead_links(pages, tmp_path, SITE)]
    assert found == ([f"a.html: {reason}"] if reason else [])
