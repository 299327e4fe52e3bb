"""The helper for deprecations, and that what is due for removal has gone."""

import ast
import warnings
from pathlib import Path

import pytest
from packaging.version import Version

import skoptax
from skoptax._deprecation import warn_deprecated

PACKAGE = Path(skoptax.__file__).parent


def deprecations(source):
    """Return line, first warning version and version of removal of each call."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if getattr(called, "id", getattr(called, "attr", None)) != "warn_deprecated":
            continue
        given = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg}
        found.append(
            (node.lineno, Version(given["since"]), Version(given["removed_in"]))
        )
    return found


def overdue(source, version):
    # A development version counts as the release that it leads to.
    release = Version(Version(version).base_version)
    return [
        line for line, _, removed_in in deprecations(source) if removed_in <= release
    ]


CALLS = """
def f(a):
    warn_deprecated("f", since="0.2", removed_in="0.4", instead="Use g.")

def g(a):
    module.warn_deprecated("g", since="0.9", removed_in="0.10", instead="Use h.")
"""


@pytest.mark.parametrize(
    "version, lines",
    [
        ("0.3.9", []),
        ("0.4.0.dev1", [3]),
        ("0.4", [3]),
        ("0.9.2", [3]),
        ("0.10.0", [3, 6]),
    ],
)
def test_a_call_is_overdue_from_its_version_on(version, lines):
    assert overdue(CALLS, version) == lines


def test_nothing_deprecated_is_overdue():
    due = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line in overdue(path.read_text("utf-8"), skoptax.__version__)
    ]
    assert not due, f"remove in skoptax {skoptax.__version__}: {due}"


def test_a_warning_comes_before_the_removal_by_two_minor_releases():
    early = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, since, removed_in in deprecations(path.read_text("utf-8")):
            minors = removed_in.minor - since.minor
            if removed_in.major == since.major and minors < 2:
                early.append(f"{path.relative_to(PACKAGE)}:{line}")
    assert not early, f"docs/developers/deprecations.md promises more time: {early}"


def test_the_warning_says_all_and_points_to_the_user():
    def old():
        warn_deprecated("old", since="0.2", removed_in="0.4", instead="Use new.")

    def outer():
        warn_deprecated(
            "outer", since="1.0", removed_in="2.0", instead="Stop.", stacklevel=1
        )

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        old()
        outer()
    assert [str(w.message) for w in caught] == [
        "old is deprecated since skoptax 0.2 and will be removed in 0.4. Use new.",
        "outer is deprecated since skoptax 1.0 and will be removed in 2.0. Stop.",
    ]
    assert all(w.category is FutureWarning for w in caught)
    assert [w.filename for w in caught] == [__file__, __file__]
    lines = Path(__file__).read_text("utf-8").splitlines()
    assert lines[caught[0].lineno - 1].strip() == "old()"
    assert lines[caught[1].lineno - 1].strip() == "warn_deprecated("
