"""What an estimator shows in a notebook: complete, escaped, silent, never failing."""

from __future__ import annotations

import pickle
import re
import warnings
from html.parser import HTMLParser

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

from skoptax import OptaxEstimator, Parameter, cache_info, priors
from skoptax._diagram import shown_of
from skoptax._html import MOST_POINTS, block, sparkline, summarised, table
from skoptax.exceptions import UndeterminedWarning

VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta"}
rng = np.random.default_rng(0)
X = rng.uniform(0.1, 3.0, size=(40, 1))
Y = 2.5 * np.exp(-1.3 * X[:, 0]) + 0.3 + 0.05 * rng.normal(size=40)


class Reader(HTMLParser):
    """Reads our blocks, and raises where a tag is closed that is not the last open."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.tags = []
        self.blocks = 0
        self.rows = []
        self.headings = []
        self.links = {}
        self.lines = []
        self.text = ""
        self.depth = None
        self.feed(text)
        self.close()
        assert self.open == []

    @property
    def in_ours(self):
        return self.depth is not None

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        if tag == "div" and attrs.get("class") == "skoptax-repr":
            self.blocks += 1
            self.depth = len(self.open)
        if self.in_ours and tag == "tr":
            self.rows.append([])
        if self.in_ours and tag in ("td", "th"):
            self.rows[-1].append("")
        if self.in_ours and tag == "polyline":
            points = [tuple(map(float, p.split(","))) for p in attrs["points"].split()]
            self.lines.append(points)
        if self.in_ours and tag == "a":
            self.links[attrs["href"]] = ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in VOID:  # <br />
            return
        assert self.open.pop() == tag
        if self.depth == len(self.open):
            self.depth = None

    def handle_data(self, data):
        if self.in_ours and "style" not in self.open:
            self.text += data
            if self.open[-1] == "a":
                self.links[list(self.links)[-1]] += data
            if "td" in self.open or ("th" in self.open and self.rows):
                self.rows[-1][-1] += data


def read(estimator):
    """Return what each way of showing an estimator agrees on."""
    found = Reader(estimator_html_repr(estimator))
    for text in (
        estimator._repr_html_(),
        estimator._repr_mimebundle_()["text/html"],
    ):
        other = Reader(text)
        assert (other.rows, other.text) == (found.rows, found.text)
    return found


def decay(t, amplitude, rate, offset=0.0, *, steps=2):
    return amplitude * jnp.exp(-rate * t) + offset


def spec():
    return {
        "amplitude": 1.0,
        "rate": Parameter(value=0.5, lower=0.0, prior=priors.Normal(1.0, 2.0)),
        "offset": Parameter(value=0.25, free=False, lower=-1.0, upper=1.5),
    }


@pytest.fixture(scope="module")
def fitted():
    model_spec = spec() | {"rate": Parameter(value=0.5, lower=0.0, upper=1.0)}
    return OptaxEstimator(decay, model_spec).fit(X, Y)


@pytest.fixture(scope="module")
def undetermined():
    def model(t, a, b):
        return (a + b) * t

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return OptaxEstimator(model, {"a": 1.0, "b": 1.0}).fit(X, Y)


class TestUnfitted:
    def test_model_and_spec(self):
        found = read(OptaxEstimator(decay, spec()))
        assert "model: decay(t, amplitude, rate, offset=0, *, steps=2)" in found.text
        assert found.rows == [
            ["parameter", "start", "bounds", "", "prior"],
            ["amplitude", "1", "", "free", ""],
            ["rate", "0.5", "[0, inf)", "free", "Normal(mean=1.0, sd=2.0)"],
            ["offset", "0.25", "[-1, 1.5]", "fixed", ""],
        ]

    def test_kinds_of_parameters(self):
        def twice(rate):
            return 2 * rate

        def start(X, y, rng):
            return 1.0

        def model(X, params):
            return X[:, 0]

        nested = {
            "layer": {"w": np.arange(6.0).reshape(2, 3)},
            "mixed": Parameter(value=[1.0, 2.0], free=[True, False]),
            "rate": Parameter(value=start),
            "double": Parameter(tie=twice),
            "coef": Parameter(value=0.0, shape=("n_features", 2), upper=[1.0, 3.0]),
        }
        found = read(OptaxEstimator(model, nested))
        assert [row[:4] for row in found.rows[1:]] == [
            ["layer.w", "(2, 3) 0 to 5", "", "free"],
            ["mixed", "(2,) 1 to 2", "", "1 of 2 free"],
            ["rate", "from the data: start(X, y, rng)", "", "free"],
            ["double", "", "", "tied: twice(rate)"],
            ["coef", "(n_features, 2) 0", "(-inf, (2,) 1 to 3]", "free"],
        ]

    def test_many_are_counted(self):
        def model(X, params):
            return X[:, 0]

        for count, is_said in ((15, False), (16, True)):
            found = read(OptaxEstimator(model, {f"p{i}": 0.0 for i in range(count)}))
            assert len(found.rows) == count + 1
            assert (f"{count} parameters" in found.text) == is_said

    def test_long_defaults(self):
        wide = np.arange(99.0)

        def model(t, a, knots=wide, /, *, name="x" * 99):
            return a * t

        text = read(OptaxEstimator(model, {"a": 1.0})).text
        shown = repr("x" * 99)[:57] + "..."
        assert f"model(t, a, knots=<(99,) 0 to 98>, /, *, name={shown})" in text

    def test_linear_and_implied(self):
        assert [row[0] for row in read(OptaxEstimator()).rows[1:]] == [
            "coef",
            "intercept",
        ]
        assert read(OptaxEstimator(decay)).rows[1:] == [
            ["offset", "0", "", "free", ""],
            ["steps", "2", "", "free", ""],
        ]


class TestFitted:
    def test_numbers_are_those_of_the_fit(self, fitted):
        found, params, errors = read(fitted), fitted.params_, fitted.stderr_
        assert found.rows[0][:3] == ["parameter", "estimate", "standard error"]
        assert found.rows[1:] == [
            [
                "amplitude",
                f"{params['amplitude']:.6g}",
                f"{errors['amplitude']:.6g}",
                "",
            ],
            ["rate", "1", "", "at bound"],
            ["offset", "0.25", "", "fixed"],
        ]
        assert f"status_: {fitted.status_}. {fitted.message_}" in found.text
        assert f"n_iter_: {fitted.n_iter_}" in found.text
        assert f"loss_: {fitted.loss_:.6g}" in found.text

    def test_curve_is_that_of_the_history(self, fitted):
        (line,) = read(fitted).lines
        loss = np.log10(fitted.history_["loss"].to_numpy())
        across, down = np.array(line).T
        assert len(line) == len(loss)
        np.testing.assert_allclose(np.diff(across), 234 / (len(loss) - 1), atol=0.11)
        expected = 3 + 42 * (loss.max() - loss) / (loss.max() - loss.min())
        np.testing.assert_allclose(down, expected, atol=0.051)

    def test_spec_changed_after_the_fit(self, fitted):
        before = read(fitted).rows
        changed = pickle.loads(pickle.dumps(fitted)).set_params(params={"other": 1.0})
        assert read(changed).rows == before

    def test_held_out_loss(self):
        settings = {"optimizer": "adam", "batch_size": 10, "max_epochs": 5}
        estimator = OptaxEstimator(
            decay, {"amplitude": 1.0, "rate": 0.5}, random_state=0, **settings
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # five epochs are few
            estimator.fit(X, Y, X_val=X[:10], y_val=Y[:10])
        found = read(estimator)
        held_out = estimator.history_["val_loss"].dropna()
        assert list(map(len, found.lines)) == [
            len(estimator.history_),
            len(held_out),
        ]
        assert (
            f"val_loss {held_out.iloc[0]:.6g} to {held_out.iloc[-1]:.6g}" in found.text
        )

    def test_arrays_are_summarised(self):
        wide = np.hstack([X, X**2, X**3])
        estimator = OptaxEstimator().fit(wide, Y)
        coef, error = estimator.params_["coef"], estimator.stderr_["coef"]
        assert read(estimator).rows[1] == [
            "coef",
            f"(3,) {coef.min():.6g} to {coef.max():.6g}",
            f"(3,) {error.min():.6g} to {error.max():.6g}",
            "",
        ]

    def test_without_standard_errors(self):
        estimator = OptaxEstimator(cov_type=None).fit(X, Y)
        found = read(estimator)
        assert "There are no standard errors: cov_type is None." in found.text
        assert [row[2:] for row in found.rows[1:]] == [["", ""], ["", ""]]

    def test_nothing_is_compiled(self, fitted):
        before = cache_info()
        read(fitted)
        assert cache_info() == before

    def test_many_entries_make_no_matrix(self):
        wide = rng.normal(size=(30, 101))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator = OptaxEstimator(max_steps=1).fit(wide, wide[:, 0])
        text = estimator_html_repr(estimator)
        assert "entries are free, more than 100" in text
        assert "correlation_" not in text


class TestSilence:
    def test_undetermined(self, undetermined):
        # Warnings are errors here.
        found = read(undetermined)
        assert [row[2:] for row in found.rows[1:]] == [["", "not determined"]] * 2

    def test_later_readers_are_still_warned(self, undetermined):
        read(undetermined)
        with pytest.warns(UndeterminedWarning):
            _ = undetermined.stderr_
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read(undetermined)
            _ = undetermined.stderr_  # once only

    @pytest.mark.parametrize(
        "broken",
        [
            {"params": 3},
            {"params": {"a": 1.0, "": 2.0}},
            {"params": {"a__b": 1.0}},
            {"params": {"a": "high"}},
            {"params": {"a": Parameter(value=[[1.0], [1.0, 2.0]], free="no")}},
            {"model": "decay"},
            {"model": lambda *args: 0.0},
            {"model": lambda t: t},
            {"loss": object(), "optimizer": 7, "max_steps": "many"},
        ],
    )
    def test_unusable_arguments(self, broken):
        text = estimator_html_repr(OptaxEstimator(**broken))
        Reader(text)
        assert "OptaxEstimator" in text
        assert next(iter(broken)) in text

    def test_what_cannot_be_read_is_left_to_scikit_learn(self):
        estimator = OptaxEstimator("decay")
        assert shown_of(estimator) == ""
        assert read(estimator).blocks == 0

    def test_record_that_cannot_be_read(self, fitted):
        broken = pickle.loads(pickle.dumps(fitted))
        broken._record = None
        assert read(broken).blocks == 0

    def test_text_display(self, fitted):
        with sklearn.config_context(display="text"):
            assert not hasattr(fitted, "_repr_html_")
            assert set(fitted._repr_mimebundle_()) == {"text/plain"}


class TestEscaping:
    NAMES = ("<script>alert(1)</script>", "x'); alert(1); ('", "a(", '" onload="b')

    @pytest.mark.parametrize("name", NAMES)
    def test_names(self, name):
        def model(X, params):
            return X[:, 0] * params[name]

        plain = read(OptaxEstimator(model, {"harmless": 1.0}))
        text = estimator_html_repr(OptaxEstimator(model, {name: 1.0}))
        found = Reader(text)
        assert found.rows[1][0] == name
        assert found.tags.count("script") == plain.tags.count("script")
        scripts = [part.partition('"')[0] for part in text.split('onclick="')[1:]]
        assert "alert(1)" not in "".join(scripts)
        estimator = OptaxEstimator(model, {name: 1.0}).fit(X, Y)
        assert read(estimator).rows[1][0] == name

    @pytest.mark.parametrize("name", NAMES)
    def test_names_that_scikit_learn_alone_shows(self, name):
        # It escapes what it shows, but not what its scripts get.
        text = estimator_html_repr(
            OptaxEstimator("decay", {name: 1.0}, optimizer_kwargs={name: 1.0})
        )
        Reader(text)
        scripts = [part.partition('"')[0] for part in text.split('onclick="')[1:]]
        assert "alert(1)" not in "".join(scripts)

    def test_texts_of_objects(self):
        class Loud:
            def __repr__(self):
                return "<script>alert(2)</script>"

        loud = Loud()
        found = read(
            OptaxEstimator(lambda X, a, b=loud: X[:, 0], {"a": Parameter(prior=loud)})
        )
        assert found.rows[1][-1] == "<script>alert(2)</script>"
        assert "<lambda>(X, a, b=<script>alert(2)</script>)" in found.text

    def test_table(self):
        found = Reader(block([table(["a"], [["<b>", "&amp;"]])]))
        assert found.rows[1] == ["<b>", "&amp;"]
        assert "b" not in found.tags


@pytest.mark.parametrize("size", [40, 41])
def test_only_long_texts_may_wrap(size):
    text = table(["a", "b"], [["name", "x" * size], ["n" * size, "value"]])
    assert text.count('class="skoptax-long"') == 2 * (size > 40)


def test_style_is_scoped_and_has_no_colour_of_its_own():
    style = block([]).partition("<style>")[2].partition("</style>")[0]
    style = re.sub(r"@media \w+ \{(.*)\}", r"\1", style)
    selectors = [rule.partition("{")[0] for rule in style.split("}")[:-1]]
    assert len(selectors) > 3
    assert all(".skoptax-repr" in selector for selector in selectors)
    assert re.search(r"#[0-9a-f]{3}|rgba?\(|hsl|black|white(?!-)", style) is None


class TestDiagrams:
    def test_in_a_pipeline(self, fitted):
        alone = read(fitted)
        found = read(make_pipeline(StandardScaler(), fitted))
        assert (found.blocks, found.rows) == (1, alone.rows)

    def test_in_a_search(self):
        search = GridSearchCV(
            OptaxEstimator(decay, spec()), {"params__rate__value": [0.3, 0.5]}, cv=2
        )
        assert read(search).rows == read(search.estimator).rows
        search.fit(X, Y)
        assert read(search).rows == read(search.best_estimator_).rows

    def test_names_link_to_the_documentation(self, fitted):
        class Documented(OptaxEstimator):
            _doc_link_module = __name__.split(".")[0]
            _doc_link_template = "https://docs.example/{estimator_name}.html?a&b"

        estimator = Documented(decay, spec())
        page = "https://docs.example/Documented.html?a&b#:~:text="
        links = {page + "model": "model", page + "params": "parameter"}
        assert read(estimator).links == links
        estimator.__dict__.update(fitted.__dict__)
        assert {
            page + "status_": "status_",
            page + "stderr_": "standard error",
        }.items() <= (read(estimator).links.items())
        # While there is no address, nothing links to scikit-learn's.
        assert fitted._get_doc_link() == ""
        assert read(fitted).links == {}

    @pytest.mark.skipif(
        not hasattr(BaseEstimator, "_get_params_html"),
        reason="scikit-learn has no table of arguments before 1.7",
    )
    def test_arguments_are_still_there(self):
        text = estimator_html_repr(OptaxEstimator(decay, spec()))
        assert "copyToClipboard('max_steps'" in text
        assert "copyToClipboard('params__" not in text


class TestSparkline:
    def test_thinned(self):
        found = Reader(block([sparkline({"loss": np.linspace(5.0, 1.0, 10_001)})]))
        (line,) = found.lines
        assert len(line) == MOST_POINTS
        assert (line[0], line[-1]) == ((3.0, 3.0), (237.0, 45.0))

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([100.0, 10.0, 1.0], [3.0, 24.0, 45.0]),  # logarithmic
            ([1.0, 0.0, -1.0], [3.0, 24.0, 45.0]),
            ([1e308, 0.0, -1e308], [3.0, 24.0, 45.0]),
            ([2.0, 2.0], [24.0, 24.0]),
            ([3.0, np.nan, 1.0, np.inf], [3.0, 45.0]),
            ([7.0], [24.0, 24.0]),
        ],
    )
    def test_heights(self, values, expected):
        (line,) = Reader(block([sparkline({"loss": values})])).lines
        assert [y for _, y in line] == expected

    def test_nothing_to_draw(self):
        assert sparkline({}) == sparkline({"loss": [np.nan]}) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (True, "True"),
        (np.float32(0.1), "0.1"),
        (-1.23456789e-7, "-1.23457e-07"),
        (jnp.ones((2, 2)), "(2, 2) 1"),
        ([1.0, np.nan, 3.0], "(3,) 1 to 3"),
        ([], "(0,)"),
        ([np.nan], "(1,) nan"),
        (["a"], "['a']"),
        (None, "None"),
        ("x" * 99, repr("x" * 99)[:57] + "..."),
    ],
)
def test_summaries(value, text):
    assert summarised(value) == text
