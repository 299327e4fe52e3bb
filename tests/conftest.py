import os
import signal

# scikit-learn's check of array API inputs runs only with this, and SciPy reads it
# once, when it is imported: so it comes before every other import.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
# Pictures are drawn into memory: no test opens a window, and no user's file is changed.
os.environ.setdefault("MPLBACKEND", "agg")

import hypothesis
import pytest

# Compiling a program well takes longer than compiling it at all, and most tests ask
# what it computes, once. Those marked `optimised` get programs as users have them. With
# another level in XLA_FLAGS, all of them do as it says. XLA reads it when JAX starts.
LEVEL = "xla_backend_optimization_level"
QUICKLY = "SKOPTAX_TESTS_COMPILE_QUICKLY"  # for xdist's workers, which see our flag
if LEVEL not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{LEVEL}=0".strip()
    os.environ[QUICKLY] = "1"

# The same examples in every run, and no deadline: the first call compiles.
hypothesis.settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=50
)
# For a longer search: pytest --hypothesis-profile=explore
hypothesis.settings.register_profile(
    "explore", deadline=None, max_examples=1000, print_blob=True
)
hypothesis.settings.load_profile("ci")

# Code to be checked, not run.
collect_ignore = ["typing/usage.py"]


def pytest_addoption(parser):
    parser.addoption(
        "--most-cases",
        type=int,
        help="run so many cases of each parametrised test at most, spread evenly, "
        "but all of those marked every_case",
    )


def pytest_collection_modifyitems(config, items):
    most = config.getoption("--most-cases")
    if most is None:
        return
    tests, kept = {}, set()
    for item in items:
        if item.get_closest_marker("every_case"):
            kept.add(item)
        else:
            name, _, _ = item.nodeid.partition("[")
            tests.setdefault(name, []).append(item)
    for cases in tests.values():
        few = min(most, len(cases))
        # The middles of as many equal parts.
        kept.update(cases[(2 * i + 1) * len(cases) // (2 * few)] for i in range(few))
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


# Before the fixtures of the test's module, which may fit.
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if QUICKLY not in os.environ:
        return
    import skoptax
    from skoptax._program import _cpu_options

    wanted = item.get_closest_marker("optimised") is not None
    if wanted != (LEVEL in _cpu_options):
        skoptax.clear_cache()
        if wanted:
            _cpu_options[LEVEL] = 3  # XLA's default
        else:
            del _cpu_options[LEVEL]


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_interrupts():
    """Take signals as a terminal's process does; one that a script began ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
