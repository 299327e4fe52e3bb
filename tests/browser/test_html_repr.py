"""What notebooks show of an estimator, as Chromium lays it out and paints it."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skoptax import OptaxEstimator, Parameter, priors
from tools.check_site import chromium

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("needs_chromium")]

HOSTILE = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"
# The least contrast of text for level AA of the guidelines for accessible pages:
# https://www.w3.org/TR/WCAG22/#contrast-minimum
LEAST_CONTRAST = 4.5
NAMES = (
    "unfitted",
    "fitted",
    "held_out",
    "linked",
    "pipeline",
    "search",
    "wide",
    "many",
)
# These show one estimator alone, whose width is ours to keep.
ALONE = ("unfitted", "fitted", "held_out", "linked", "wide", "many")

# The rules of notebooks and of documentation that could reach into a table, a text, a
# link or code; some are more specific than what is usual.
_JUPYTER = """
body {{margin: 20px; background: {back}; color: {text}}}
.output {{color: {text}; font: 14px/1.5 sans-serif; padding-right: 20px}}
.output table {{table-layout: fixed; color: {text}; margin: 0 auto 1em;
  font-size: 12px}}
.output td, .output th, .output tr {{text-align: right; padding: 0.5em; border: none;
  vertical-align: middle; white-space: normal}}
.output tbody tr:nth-child(even) {{background: {stripe}}}
.output tbody tr:hover {{background: {stripe}}}
.output :not(pre) > code {{background-color: {stripe}; color: {text}; padding: 1px 5px}}
.output a:link {{color: {link}}}
.output p {{margin: 0 0 1em; color: {text}}}
"""
_LIGHT = {"back": "white", "text": "#222", "stripe": "#f5f5f5", "link": "#1976d2"}
_DARK = {"back": "#111", "text": "#ddd", "stripe": "#424242", "link": "#64b5f6"}
# Host to what it asks the system for, its style, and the tags around what is shown.
HOSTS = {
    "plain": ("light", "", "<html><body>"),
    "system dark": (
        "dark",
        ":root {color-scheme: light dark}",
        "<html><body>",
    ),
    "jupyter light": (
        "dark",  # the notebook's own theme counts, not the system's
        _JUPYTER.format(**_LIGHT),
        '<html><body data-jp-theme-light="true">',
    ),
    "jupyter dark": (
        "light",
        _JUPYTER.format(**_DARK),
        '<html><body data-jp-theme-light="false">',
    ),
    "vscode dark": (
        "light",
        _JUPYTER.format(**_DARK),
        '<html><body data-vscode-theme-kind="vscode-dark" '
        'data-vscode-theme-name="Default Dark Modern">',
    ),
    "documentation dark": (
        "light",
        _JUPYTER.format(**_DARK) + "code {color: #f7a8d8}",
        '<html data-theme="dark"><body>',
    ),
}

# Every text that is shown in our blocks, with its colour and what is painted beneath:
# the backgrounds of its parents, the nearest first.
READ_COLOURS = """() => {
  const found = [];
  for (const block of document.querySelectorAll(".skoptax-repr")) {
    const walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const parent = walker.currentNode.parentElement;
      if (!walker.currentNode.data.trim() || !parent.checkVisibility()) continue;
      const layers = [];
      for (let e = parent; e; e = e.parentElement)
        layers.push(getComputedStyle(e).backgroundColor);
      found.push([walker.currentNode.data, getComputedStyle(parent).color, layers]);
    }
  }
  return JSON.stringify(found);
}"""
READ_STYLES = """() => JSON.stringify(
  [...document.querySelectorAll("#outside, #outside *")].map(element =>
    [...getComputedStyle(element)].map(
      name => [name, getComputedStyle(element).getPropertyValue(name)])))"""
OUTSIDE = """<div id="outside"><p>text <code>code</code> <a href="#x">link</a></p>
  <table class="dataframe"><thead><tr><th>a</th></tr></thead>
  <tbody><tr><td>1</td></tr><tr><th>2</th></tr></tbody></table>
  <svg width="9" height="9"><g><polyline points="0,0 9,9"/></g></svg></div>"""


@pytest.fixture(scope="module")
def shown():
    """Return what is shown of estimators in each state and surrounding."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 3.0, size=(40, 1))
    y = 2.5 * np.exp(-1.3 * x[:, 0]) + 0.3 + 0.05 * rng.normal(size=40)

    def line(t, slope, offset=0.0):
        return slope * t + offset

    def sums(X, params):
        return X[:, 0] * sum(params.values())

    wide = np.arange(99.0)

    def long(t, a, knots=wide, one_of_the_names=1.0, another=2.0, title="x" * 60):
        return a * t

    def a_function_with_a_long_name_that_starts_from_the_data(X, y, rng):
        return 1.0

    class Documented(OptaxEstimator):
        _doc_link_module = __name__.split(".")[0]
        _doc_link_template = "https://docs.example/{estimator_name}.html"

    spec = {
        "slope": Parameter(value=-0.1, lower=-0.4, upper=0.0),
        "offset": Parameter(value=0.25, prior=priors.Normal(1.0, 2.0)),
    }
    start = Parameter(
        value=a_function_with_a_long_name_that_starts_from_the_data,
        lower=-1.23456789e-5,
        upper=1.2345678e7,
        prior=priors.Normal(1.23456789, 2.3456789),
    )
    many = {f"a_rather_long_name_of_a_parameter_{i}": 1.0 for i in range(120)}
    unfitted = OptaxEstimator(line, spec)
    fitted = OptaxEstimator(line, spec).fit(x, y)
    # All rows once, so that the search needs no other program.
    search = GridSearchCV(
        unfitted, {"params__slope__value": [-0.1]}, cv=[(np.arange(40), np.arange(40))]
    )
    held_out = OptaxEstimator(
        optimizer="adam", batch_size=10, max_epochs=9, random_state=0
    ).fit(x, y, X_val=x[:10], y_val=y[:10])
    found = {
        "unfitted": unfitted,
        "fitted": fitted,
        "held_out": held_out,
        "linked": Documented(line, {"slope": 1.0}),
        "pipeline": make_pipeline(StandardScaler().fit(x), fitted),
        "search": search.fit(x, y),
        "wide": OptaxEstimator(long, {"a": start}),
        "many": OptaxEstimator(sums, many),
        "hostile": OptaxEstimator(sums, {HOSTILE: 1.0}),
    }
    return {name: estimator._repr_html_() for name, estimator in found.items()}


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser):
    """Open a page that must not have an error."""
    opened, errors = browser.new_page(), []
    opened.on("pageerror", lambda error: errors.append(error))
    opened.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    yield opened
    opened.close()
    assert errors == []


def show(page, *reprs, host="plain", width=900, before=""):
    """Lay reprs out one after the other, each as one cell's output."""
    scheme, style, tags = HOSTS[host]
    page.set_viewport_size({"width": width, "height": 700})
    page.emulate_media(color_scheme=scheme)
    cells = "".join(f'<div class="output">{text}</div>' for text in reprs)
    head, body = tags.split("<body", 1)
    page.set_content(
        f"<!doctype html>{head}<head><meta charset=utf-8><style>{style}</style></head>"
        f"<body{body}{before}{cells}</body></html>"
    )
    # All of a diagram is seen, as after a click on each of its boxes.
    page.evaluate(
        """() => document.querySelectorAll("input.sk-toggleable__control")
             .forEach(box => box.checked = true)"""
    )


def rgba(text):
    """Return a computed colour as red, green, blue and opacity, from 0 to 1."""
    kind, _, inner = text.removesuffix(")").partition("(")
    assert kind in ("rgb", "rgba"), text
    *colour, opacity = [float(part) for part in inner.split(",")] + [1.0] * (
        kind == "rgb"
    )
    return np.array(colour) / 255, opacity


def painted(layers, canvas):
    """Return the colour of layers, the uppermost first, over that of the canvas."""
    colour = np.asarray(canvas, float)
    for layer in reversed(layers):
        above, opacity = rgba(layer)
        colour = opacity * above + (1 - opacity) * colour
    return colour


def contrast(one, other):
    """Return the ratio of the relative luminances of colours, as WCAG 2 defines it."""
    light = []
    for colour in (one, other):
        linear = np.where(
            colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4
        )
        light.append(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    return np.maximum(*light) / np.minimum(*light)


def test_contrast_itself():
    black, white, grey = np.zeros(3), np.ones(3), np.full(3, 0x76 / 255)
    assert contrast(black, white) == pytest.approx(21)
    # A limit that is often quoted: the lightest grey that can be read on white.
    assert contrast(grey, white) == pytest.approx(4.54, abs=0.005)
    assert painted(["rgba(0, 0, 0, 0.25)", "rgb(255, 0, 0)"], white) == pytest.approx(
        [0.75, 0, 0]
    )


class TestThemes:
    @pytest.mark.parametrize("host", HOSTS)
    def test_texts_can_be_read(self, page, shown, host):
        show(page, *(shown[name] for name in NAMES if name != "many"), host=host)
        is_dark = "dark" in host
        if "forceTheme" in shown["fitted"]:  # not in every release
            theme = "dark" if is_dark else "light"
            diagrams = page.locator(".sk-top-container")
            assert (
                diagrams.count() == page.locator(f".sk-top-container.{theme}").count()
            )
        canvas = np.full(3, 0x12 / 255) if is_dark else np.ones(3)
        for hovered in (False, True):  # which changes the colours of boxes and rows
            if hovered:
                page.locator(".skoptax-repr tbody tr").first.hover()
            found = json.loads(page.evaluate(READ_COLOURS))
            assert len(found) > 50
            low = {
                text
                for text, colour, layers in found
                if contrast(rgba(colour)[0], painted(layers, canvas)) < LEAST_CONTRAST
            }
            assert low == set()

    @pytest.mark.parametrize("host", HOSTS)
    def test_curves_are_painted(self, page, shown, host):
        show(page, shown["fitted"], shown["held_out"], host=host)
        for curve in page.locator(".skoptax-repr svg").all():
            picture = Image.open(io.BytesIO(curve.screenshot())).convert("RGB")
            pixels = np.asarray(picture) / 255
            every, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
            ground = every[counts.argmax()]
            is_line = contrast(pixels, ground) >= LEAST_CONTRAST
            assert is_line.any(axis=0).mean() > 0.9  # from left to right
            assert np.ptp(np.flatnonzero(is_line.any(axis=1))) > 30  # from high to low


class TestSeveral:
    def test_ids_do_not_clash(self, page, shown):
        show(page, *(shown[name] for name in NAMES))
        ids = page.evaluate(
            "() => [...document.querySelectorAll('[id]')].map(e => e.id)"
        )
        assert len(ids) > len(NAMES)
        assert len(ids) == len(set(ids))

    def test_a_click_opens_one_and_no_other(self, page, shown):
        show(page, shown["unfitted"], shown["fitted"])
        blocks = page.locator(".skoptax-repr")
        labels = page.locator("label.sk-toggleable__label")
        labels.nth(1).click()
        assert [blocks.nth(i).is_visible() for i in range(2)] == [True, False]
        labels.nth(1).click()
        assert [blocks.nth(i).is_visible() for i in range(2)] == [True, True]

    def test_styles_do_not_leak(self, page, shown):
        show(page, before=OUTSIDE, host="jupyter light")
        before = json.loads(page.evaluate(READ_STYLES))
        show(
            page, *(shown[name] for name in NAMES), before=OUTSIDE, host="jupyter light"
        )
        assert len(before) > 10
        assert json.loads(page.evaluate(READ_STYLES)) == before


class TestOpening:
    @pytest.mark.parametrize("name", ["pipeline", "search"])
    def test_within_a_diagram(self, page, shown, name):
        show(page, shown[name])
        page.evaluate(
            """() => document.querySelectorAll("input.sk-toggleable__control")
                 .forEach(box => box.checked = false)"""
        )
        ours = page.locator(".skoptax-repr")
        assert ours.count() == 1
        assert not ours.is_visible()
        page.locator(".sk-estimator label", has_text="OptaxEstimator").click()
        assert ours.is_visible()
        assert ours.locator("svg").is_visible()

    def test_the_tables_of_scikit_learn(self, page, shown):
        show(page, shown["fitted"])
        for title in ("Parameters", "Fitted attributes"):
            details = page.locator("details", has_text=title)
            if not details.count():
                continue  # not in every release
            assert not details.locator("table").is_visible()
            details.locator("summary").click()
            assert details.locator("table").is_visible()


class TestWidth:
    @pytest.mark.parametrize("width", [320, 600, 1200])
    def test_nothing_leaves_the_page(self, page, shown, width):
        show(page, *(shown[name] for name in NAMES), width=width)
        widest = page.evaluate("() => document.documentElement.scrollWidth")
        assert widest <= width

    @pytest.mark.parametrize("width", [320, 600, 1200])
    def test_texts_are_on_the_page(self, page, shown, width):
        show(page, *(shown[name] for name in ALONE), host="jupyter light", width=width)
        boxes = page.evaluate(
            """() => [...document.querySelectorAll(
                 ".skoptax-repr :is(p, svg, .skoptax-scroll)")].map(part => {
                   const box = part.getBoundingClientRect();
                   return [box.left, box.right];
                 })"""
        )
        assert len(boxes) > 2 * len(ALONE)
        assert all(0 <= left < right <= width for left, right in boxes)

    def test_numbers_do_not_wrap(self, page, shown):
        show(page, shown["fitted"], shown["wide"], host="jupyter light", width=320)
        lines = page.evaluate(
            """() => [...document.querySelectorAll(".skoptax-table td")]
                 .filter(cell => cell.firstChild && !cell.className).map(cell => {
                   const range = document.createRange();
                   range.selectNodeContents(cell);
                   return range.getClientRects().length;
                 })"""
        )
        assert len(lines) > 4
        assert set(lines) == {1}


class TestManyParameters:
    def test_the_table_scrolls(self, page, shown):
        show(page, shown["many"])
        scroll = page.locator(".skoptax-scroll")
        assert scroll.bounding_box()["height"] < 400
        assert page.get_by_text("120 parameters").is_visible()
        last = page.locator(".skoptax-table tr").last
        last.scroll_into_view_if_needed()
        outer, inner = scroll.bounding_box(), last.bounding_box()
        assert "parameter_119" in last.inner_text()
        assert outer["y"] <= inner["y"]
        assert inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 1

    def test_on_paper_it_is_whole(self, page, shown):
        show(page, shown["many"])
        page.emulate_media(media="print")
        height = page.locator(".skoptax-scroll").bounding_box()["height"]
        assert height >= page.locator(".skoptax-table").bounding_box()["height"] > 1000


def test_names_are_no_code(page, shown):
    show(page, shown["hostile"])
    for summary in page.locator("summary").all():
        summary.click()
    assert page.locator(".skoptax-table tbody th").inner_text() == HOSTILE
    assert page.evaluate("() => window.hit") is None
    assert page.locator("img").count() == 0
