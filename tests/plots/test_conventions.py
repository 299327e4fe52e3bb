"""What all Displays have in common: scikit-learn's conventions."""

import inspect
import pickle
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.metrics import PredictionErrorDisplay
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skoptax import OptaxEstimator, plots

# A Display: the name of its fit, of its rows, further arguments, the number of panels.
CASES = {
    "FitDisplay": ("decay", ("X", "y"), {}, 2),
    "LossCurveDisplay": ("trained", (), {}, 1),
    "ParameterTraceDisplay": ("trained", (), {}, 3),
    "ParameterEstimatesDisplay": ("decay", (), {}, 1),
    "ProfileDisplay": (
        "line",
        ("line_X", "line_y"),
        {"names": ["slope", ("slope", "intercept")], "n_points": 9},
        2,
    ),
    "CorrelationDisplay": ("decay", (), {}, 1),
    "StartsDisplay": ("starts", (), {}, 1),
    "ResidualsDisplay": ("decay", ("X", "y"), {}, 3),
}
all_displays = pytest.mark.parametrize("name", CASES)


def make(name, fits, ax=None, estimator=None, cls=None):
    fit, rows, options, _ = CASES[name]
    cls = getattr(plots, name) if cls is None else cls
    estimator = getattr(fits, fit) if estimator is None else estimator
    rows = [getattr(fits, row) for row in rows]
    return cls.from_estimator(estimator, *rows, ax=ax, **options)


def drawn(ax):
    """Return the numbers of all that is drawn on axes."""
    found = [np.asarray(line.get_xydata(), float) for line in ax.lines]
    for part in ax.collections:
        found.append(np.ma.filled(np.ma.asarray(part.get_offsets(), float), np.nan))
        found += [path.vertices for path in part.get_paths()]
    found += [np.ma.filled(image.get_array(), np.nan) for image in ax.images]
    return found


def test_every_display_is_here():
    assert set(plots.__all__) == set(CASES)


@all_displays
def test_makes_a_figure_and_says_where(name, fits):
    count = CASES[name][3]
    display = make(name, fits)
    assert isinstance(display, getattr(plots, name))
    assert len(plt.get_fignums()) == 1
    assert display.figure_ is plt.gcf()
    several = name in (
        "FitDisplay",
        "ParameterTraceDisplay",
        "ProfileDisplay",
        "ResidualsDisplay",
    )
    assert (np.shape(display.ax_) == (count,)) is several
    for ax in np.ravel(display.ax_):
        assert ax.figure is display.figure_
        assert ax.has_data()
    assert any(ax.get_xlabel() or len(ax.get_xticks()) for ax in np.ravel(display.ax_))


@all_displays
def test_draws_on_given_axes_alone(name, fits):
    count = CASES[name][3]
    figure, axes = plt.subplots(1, count)
    other, untouched = plt.subplots()  # the current one, which must not be drawn on
    display = make(name, fits, ax=axes)
    assert len(plt.get_fignums()) == 2
    assert display.figure_ is figure
    assert list(np.ravel(display.ax_)) == list(np.ravel(axes))
    assert all(ax.has_data() for ax in np.ravel(axes))
    assert not untouched.has_data() and other.axes == [untouched]


@all_displays
def test_draws_the_same_again_from_its_arguments(name, fits):
    first = make(name, fits)
    accepted = list(inspect.signature(type(first)).parameters)
    # Plain data: nothing of Matplotlib's, nothing of the estimator.
    data = pickle.loads(pickle.dumps({key: getattr(first, key) for key in accepted}))
    second = type(first)(**data)
    assert not [key for key in vars(second) if key.endswith("_")]
    assert second.plot() is second
    assert second.figure_ is not first.figure_
    for ax, again in zip(np.ravel(first.ax_), np.ravel(second.ax_), strict=True):
        assert len(drawn(ax)) == len(drawn(again)) > 0
        for one, other in zip(drawn(ax), drawn(again), strict=True):
            np.testing.assert_array_equal(one, other)


@all_displays
def test_given_axes_show_what_a_figure_of_its_own_does(name, fits):
    _, axes = plt.subplots(1, CASES[name][3])
    given, own = make(name, fits, ax=axes), make(name, fits)
    for ax, again in zip(np.ravel(given.ax_), np.ravel(own.ax_), strict=True):
        for one, other in zip(drawn(ax), drawn(again), strict=True):
            np.testing.assert_array_equal(one, other)


@all_displays
def test_signatures_are_scikit_learns(name):
    cls = getattr(plots, name)
    model = inspect.signature(PredictionErrorDisplay.from_estimator).parameters
    for method, free in (
        (cls.from_estimator, list(model)[:3]),
        (cls.plot, ["self", "ax"]),
        (cls.__init__, ["self"]),
    ):
        parameters = inspect.signature(method).parameters
        positional = [
            key for key, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        assert positional == free
        rest = [p for key, p in parameters.items() if key not in free]
        assert all(p.kind is p.KEYWORD_ONLY for p in rest)
    assert inspect.signature(cls.from_estimator).parameters["ax"].default is None
    # What `plot` takes, `from_estimator` hands on.
    handed = set(inspect.signature(cls.plot).parameters) - {"self"}
    assert handed <= set(inspect.signature(cls.from_estimator).parameters)


@all_displays
def test_subclass_makes_its_own(name, fits):
    mine = type("Mine", (getattr(plots, name),), {})
    assert type(make(name, fits, cls=mine)) is mine


@all_displays
@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_number_of_axes(name, fits, change):
    count = CASES[name][3] + change
    _, axes = plt.subplots(1, max(count, 1), squeeze=False)
    with pytest.raises(ValueError, match=r"'ax' parameter .* axes"):
        make(name, fits, ax=list(axes[0][:count]))


@all_displays
def test_no_axes_at_all(name, fits):
    with pytest.raises(TypeError, match=r"'ax' .* must be Matplotlib axes. Got 'here'"):
        make(name, fits, ax="here")


@all_displays
def test_unfitted(name, fits):
    unfitted = OptaxEstimator()
    with pytest.raises(NotFittedError):
        make(name, fits, estimator=unfitted)
    search = GridSearchCV(unfitted, {"max_steps": [10]})
    with pytest.raises(NotFittedError):
        make(name, fits, estimator=search)
    assert not plt.get_fignums()


@all_displays
@pytest.mark.parametrize("other", [LinearRegression(), None, OptaxEstimator])
def test_other_estimators(name, fits, other):
    if other is None:
        other = "decay"
    with pytest.raises(TypeError, match="must be a fitted OptaxEstimator"):
        make(name, fits, estimator=other)


@all_displays
def test_pipelines_and_searches_are_looked_into(name, fits):
    inner = getattr(fits, CASES[name][0])
    pipeline = make_pipeline(FunctionTransformer(), inner)
    search = GridSearchCV(pipeline, {})
    search.best_estimator_ = pipeline
    plain, nested = make(name, fits), make(name, fits, estimator=search)
    for ax, again in zip(np.ravel(plain.ax_), np.ravel(nested.ax_), strict=True):
        for one, other in zip(drawn(ax), drawn(again), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


def test_search_without_refit(fits):
    search = GridSearchCV(fits.decay, {"max_steps": [50]}, refit=False, cv=2)
    search.fit(fits.X[::2], fits.y[::2])
    with pytest.raises(ValueError, match="refit=True"):
        plots.LossCurveDisplay.from_estimator(search)


@all_displays
def test_says_how_to_install_matplotlib(name, fits, monkeypatch):
    display = make(name, fits)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for call in (display.plot, lambda: make(name, fits)):
        with pytest.raises(ImportError, match=r"pip install 'skoptax\[plots\]'") as e:
            call()
        assert str(e.value).startswith(name)


@all_displays
def test_settings_are_left_alone(name, fits):
    before = dict(matplotlib.rcParams)
    make(name, fits)
    assert dict(matplotlib.rcParams) == before


def luminance(color):
    """Return how light a colour is on white: 0 is black, 1 white."""
    color = np.ravel(color)  # of a collection: one row, or none where it is not filled
    if not len(color):
        return 1.0
    *rgb, alpha = matplotlib.colors.to_rgba(color[:4])
    return alpha * float(np.dot(rgb, [0.299, 0.587, 0.114])) + 1 - alpha


def look(artist):
    """Return what tells an artist from others without colours, and how light it is."""
    if isinstance(artist, matplotlib.lines.Line2D):
        rgba = matplotlib.colors.to_rgba(artist.get_color())
        shape = ("line", artist.get_linestyle(), artist.get_marker())
        return shape, luminance(rgba)
    grey = luminance(artist.get_facecolor())
    if isinstance(artist, matplotlib.collections.PathCollection):
        return ("dots", artist.get_paths()[0].vertices.tobytes()), grey
    return ("area", artist.get_hatch()), grey


@all_displays
def test_readable_without_colours(name, fits):
    for ax in np.ravel(make(name, fits).ax_):
        looks = [look(artist) for artist in ax.get_legend_handles_labels()[0]]
        for i, (shape, grey) in enumerate(looks):
            for other, other_grey in looks[:i]:
                assert shape != other or abs(grey - other_grey) > 0.3


def test_fits_side_by_side_are_readable_without_colours(fits):
    many = dict.fromkeys("abcdefg", fits.decay)
    display = plots.ParameterEstimatesDisplay.from_estimators(many)
    assert len({look(points)[0] for points in display.points_}) == 7
