"""The bar: what it says, how often, and that it changes nothing."""

from __future__ import annotations

import io
import re
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skoptax import OptaxEstimator
from skoptax._reporting import ProgressBar
from skoptax.exceptions import InvalidParameterError

X = np.random.default_rng(0).normal(size=(100, 2))
Y = X @ [1.0, 2.0] + 0.1 * np.random.default_rng(1).normal(size=100)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_one_line():
    stream = Terminal()
    bar = ProgressBar("steps", 2000, stream)
    bar.update(500, lambda: {"loss": 0.123456})
    bar.update(600, lambda: pytest.fail("too soon"))
    bar.close(1000, {"loss": 0.1, "best val_loss": 2.0})
    first, last = stream.getvalue().lstrip("\r").split("\r")
    assert first.startswith("[######                  ]  500 of 2,000 steps")
    assert "loss 0.1235" in first
    assert re.search(r"\d+ s left$", first.rstrip())
    assert last.startswith("[############            ]  1,000 of 2,000 steps  loss 0.1")
    assert re.search(r"best val_loss 2  \d+\.\d s\s*\n$", last)
    # Nothing of a longer line is left over.
    assert len(last.rstrip("\n")) >= len(first)


def test_a_file_gets_a_line_now_and_then():
    stream = io.StringIO()
    bar = ProgressBar("steps", 10, stream)
    bar.update(5, lambda: pytest.fail("too soon"))
    bar.close(10, {})
    assert stream.getvalue().count("\n") == 1
    assert "\r" not in stream.getvalue()


def test_nothing_to_do():
    stream = Terminal()
    bar = ProgressBar("steps", 0, stream)
    bar.update(0, dict)
    bar.close(0, {})
    assert "0 of 0 steps" in stream.getvalue()


def test_it_is_drawn_while_the_fit_runs(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    began = time.monotonic()
    estimator = OptaxEstimator(
        optimizer="adam", learning_rate=1e-4, max_steps=300_000, verbose=1
    ).fit(X, Y)
    passed = time.monotonic() - began
    shown = stream.getvalue().split("\r")
    steps = [int(re.search(r"([\d,]+) of", s)[1].replace(",", "")) for s in shown[1:]]
    assert steps == sorted(steps)
    assert steps[-1] == estimator.n_iter_ == 300_000
    # Blocks take about 0.4 s.
    assert len(steps) >= min(2, passed)
    assert f"loss {estimator.loss_:.4g}" in shown[-1]


def test_it_changes_nothing(capsys):
    arguments = {"early_stopping": True, "random_state": 0, "max_steps": 50}
    silent = OptaxEstimator(optimizer="adam", **arguments).fit(X, Y)
    assert capsys.readouterr().err == ""
    spoken = OptaxEstimator(optimizer="adam", verbose=True, **arguments).fit(X, Y)
    assert_array_equal(spoken.history_, silent.history_)
    best = silent.history_["val_loss"].min()
    assert f"best val_loss {best:.4g}" in capsys.readouterr().err


@pytest.mark.parametrize("verbose", [-1, "yes", 0.5])
def test_wrong_arguments(verbose):
    with pytest.raises(InvalidParameterError, match="verbose"):
        OptaxEstimator(verbose=verbose).fit(X, Y)
