"""Open every page of a built site in headless Chromium and list what is wrong.

Usage: ``python tools/check_site.py FOLDER [--skip PATTERN]``

The folder is served on this machine alone. Wrong is an error on the console, an
uncaught error of a script, a request that fails or goes to any other host (a site must
need no network), a link to a file that is not there and an anchor that its page lacks.
Links to other hosts are not followed. The exit status is 0 if nothing is wrong, 1 if
something is, and 2 if nothing could be checked.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urldefrag, urlsplit

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # What is asked of another host fails at once, wherever the check runs.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# Longer than any page takes, in seconds.
PATIENCE = 30.0
# A failed request has an entry of its own, which says what was asked for.
TOLD_ELSEWHERE = "Failed to load resource"
# What a page links to, resolved by the browser, with the text as written; and the
# names by which its parts can be linked to. As one text: of many, Playwright would
# spend more time on each page than the browser does.
READ = """() => {
  const links = [];
  for (const element of document.querySelectorAll("[href], [src]"))
    for (const name of ["href", "src"]) {
      const text = element.getAttribute(name);
      if (text === null) continue;
      const whole = URL.canParse(text, document.baseURI)
        ? new URL(text, document.baseURI).href : "";
      links.push([text, whole]);
    }
  const named = [...document.querySelectorAll("[id], a[name]")];
  const anchors = named.flatMap(element => [element.id, element.name]);
  return JSON.stringify({links, anchors});
}"""


class NothingChecked(Exception):
    """Why there is nothing to say about a site."""


@dataclass
class Page:
    """What the browser found on one page.

    Parameters
    ----------
    path : str
        The file within the site's folder, with forward slashes.
    links : list of tuple of str
        Each link as written and as an address; empty where that is none.
    anchors : set of str
        What can stand after ``#``.
    faults : list of str
        What went wrong while it was loaded.
    """

    path: str
    links: list[tuple[str, str]] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Any]:
    """Start headless Chromium, and end it afterwards.

    Yields
    ------
    playwright.sync_api.Browser
        With a new profile, and without a network.

    Raises
    ------
    NothingChecked
        If Chromium or Playwright is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NothingChecked(
            "Playwright is not installed. Run: pip install -e '.[browser]'"
        ) from None
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise NothingChecked(
            f"Chromium is not installed: none of {', '.join(BROWSERS)} was found. On "
            "Debian run: apt-get install --no-install-recommends chromium"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine, and yield its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # one connection for many files

    def log_message(self, *args: Any) -> None:
        pass

    def end_headers(self) -> None:
        # What all pages share is read once.
        self.send_header("Cache-Control", "max-age=3600")
        super().end_headers()


def read_pages(browser: Any, site: str, paths: Sequence[str]) -> list[Page]:
    """Open pages one after the other.

    Parameters
    ----------
    browser : playwright.sync_api.Browser
        From `chromium`.
    site : str
        The address from `served`.
    paths : sequence of str
        The pages' files within the folder.

    Returns
    -------
    list of Page
        In the order of the paths.
    """
    tab, pages = None, []
    for path in paths:
        # One tab for all, as opening one takes longer than many a page does.
        if tab is None or not tab.is_usable:
            tab = _Tab(browser, site)
        pages.append(tab.read(path))
    return pages


class _Tab:
    """A tab that puts down what goes wrong in it."""

    def __init__(self, browser: Any, site: str) -> None:
        self.site = site
        self.is_usable = True
        self._page = Page("")
        self._waiting: set[Any] = set()
        self._tab = tab = browser.new_page()
        tab.set_default_timeout(1000 * PATIENCE)
        tab.on("console", self._on_console)
        tab.on("pageerror", lambda error: self._add(f"uncaught error: {error}"))
        tab.on("crash", lambda _: self._on_crash())
        tab.on("request", self._on_request)
        tab.on("response", self._on_response)
        tab.on("requestfinished", lambda request: self._waiting.discard(request))
        tab.on("requestfailed", self._on_failure)

    def read(self, path: str) -> Page:
        from playwright.sync_api import Error

        self._page = page = Page(path)
        self._waiting.clear()
        try:
            self._tab.goto(self.site + quote(path), wait_until="load")
            self._settle()
            found = json.loads(self._tab.evaluate(READ))
        except Error as error:
            self._add(f"cannot be opened: {str(error).splitlines()[0]}")
            self.is_usable = False
            self._tab.close()
        else:
            page.links = [(text, whole) for text, whole in found["links"]]
            page.anchors = {name for name in found["anchors"] if name}
        return page

    def _settle(self) -> None:
        """Wait for what scripts ask for after the page is loaded."""
        end = time.monotonic() + PATIENCE
        self._tab.evaluate("() => new Promise(done => setTimeout(done))")
        while self._waiting:
            if time.monotonic() > end:
                for request in self._waiting:
                    self._add(f"request without an answer: {request.url}")
                return
            self._tab.wait_for_timeout(10)

    def _add(self, fault: str) -> None:
        if fault not in self._page.faults:
            self._page.faults.append(fault)

    def _shown(self, address: str) -> str:
        return address.removeprefix(self.site.removesuffix("/"))

    def _on_console(self, message: Any) -> None:
        if message.type == "error" and not message.text.startswith(TOLD_ELSEWHERE):
            self._add(f"console error: {message.text}")

    def _on_crash(self) -> None:
        self.is_usable = False
        self._add("the page crashed")

    def _on_request(self, request: Any) -> None:
        self._waiting.add(request)
        if is_elsewhere(request.url, self.site):
            self._add(f"request to another host: {request.url}")

    def _on_response(self, response: Any) -> None:
        if response.status >= 400:
            self._add(f"failed request: {self._shown(response.url)} {response.status}")

    def _on_failure(self, request: Any) -> None:
        self._waiting.discard(request)
        # Of another host it has been said, and this machine's network is not at fault.
        if not is_elsewhere(request.url, self.site):
            self._add(f"failed request: {self._shown(request.url)} {request.failure}")


def is_elsewhere(address: str, site: str) -> bool:
    """Tell whether an address needs the network."""
    is_remote = urlsplit(address).scheme in ("http", "https", "ws", "wss")
    return is_remote and not address.startswith(site)


def dead_links(pages: Sequence[Page], folder: Path, site: str) -> Iterator[str]:
    """Find the internal links that lead nowhere.

    Parameters
    ----------
    pages : sequence of Page
        With links and anchors.
    folder : pathlib.Path
        Where their files are.
    site : str
        What the addresses of internal links start with.

    Yields
    ------
    str
        Page and reason.
    """
    anchors = {page.path: page.anchors for page in pages}
    for page in pages:
        for text, address in dict.fromkeys(page.links):
            reason = _why_dead(address, folder, site, anchors)
            if reason:
                yield f"{page.path}: dead link {text!r}: {reason}"


def _why_dead(
    address: str, folder: Path, site: str, anchors: dict[str, set[str]]
) -> str:
    """Return what is missing where a link leads, or nothing."""
    if not address:
        return "this is no address"
    if urlsplit(address).scheme == "file":
        return "this leads to a file outside the site"
    if not address.startswith(site):
        return ""
    # What follows :~: is a text to look for, not an anchor.
    whole, anchor = urldefrag(address.partition(":~:")[0])
    path = unquote(urlsplit(whole).path).lstrip("/")
    if (folder / path).is_dir():
        path = f"{path.rstrip('/')}/index.html".lstrip("/")
    if not (folder / path).is_file():
        return f"there is no {path}"
    known = anchors.get(path)
    names = {"", "top", *(known or ())}  # the top of a page needs no name
    if known is not None and not {anchor, unquote(anchor)} & names:
        return f"{path} has no #{unquote(anchor)}"
    return ""


def check(folder: Path, skip: Sequence[str] = ()) -> tuple[int, list[str]]:
    """Check a site.

    Parameters
    ----------
    folder : pathlib.Path
        Where its files are.
    skip : sequence of str, default=()
        Patterns of pages that are not opened; ``*`` stands for slashes too.

    Returns
    -------
    tuple of int and list of str
        How many pages were opened, and what is wrong: page and reason.

    Raises
    ------
    NothingChecked
        If there is no page, or no browser.
    """
    found = sorted(path.relative_to(folder) for path in folder.rglob("*.html"))
    paths = [path.as_posix() for path in found]
    paths = [path for path in paths if not any(fnmatch(path, each) for each in skip)]
    if not paths:
        raise NothingChecked(f"There is no HTML page in {folder}. Build the site first")
    with served(folder) as site, chromium() as browser:
        pages = read_pages(browser, site, paths)
        faults = [f"{page.path}: {fault}" for page in pages for fault in page.faults]
        faults.extend(dead_links(pages, folder, site))
    return len(pages), faults


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every fault and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the built site is")
    parser.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="PATTERN",
        help="pages that are not opened, such as '_static/*'; may be repeated",
    )
    chosen = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        count, faults = check(chosen.folder, chosen.skip)
    except NothingChecked as reason:
        print(f"{reason}.", file=sys.stderr)
        return 2
    print(*faults, sep="\n", end="\n" if faults else "")
    print(f"{count} pages, {len(faults)} faults, {time.monotonic() - start:.0f} s")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
