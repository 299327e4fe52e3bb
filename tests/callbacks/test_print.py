"""What printing callbacks write, and where."""

import copy
import io
import math
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.base import clone

from skoptax.callbacks import (
    PrintGradientNorms,
    PrintGradients,
    PrintLoss,
    PrintParameters,
)
from skoptax.exceptions import InvalidParameterError

CLASSES = [PrintGradientNorms, PrintGradients, PrintLoss, PrintParameters]


def written(run, cls, *losses, **columns):
    """Return what a callback writes over a run."""
    file = io.StringIO()
    run(cls(file=file), losses, **columns)
    return file.getvalue()


class TestWhere:
    @pytest.mark.parametrize("cls", CLASSES)
    def test_stdout_of_the_moment(self, run, cls, monkeypatch, capsys):
        callback = cls(every=2)
        elsewhere = io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", elsewhere)
            run(callback, np.ones(3))
        assert [line[:7] for line in elsewhere.getvalue().splitlines()] == [
            "step 0:",
            "step 2:",
        ]
        assert capsys.readouterr() == ("", "")
        run(callback, np.ones(3))
        assert capsys.readouterr() == (elsewhere.getvalue(), "")

    @pytest.mark.parametrize("cls", CLASSES)
    def test_file(self, run, cls, capsys):
        text = written(run, cls, 1.0, 2.0)
        assert text.startswith("step 0: ") and text.endswith("\n")
        assert text.count("\n") == 2
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize("cls", CLASSES)
    @pytest.mark.parametrize("duplicate", [clone, copy.deepcopy, copy.copy])
    def test_copies_write_to_the_same_file(self, run, cls, duplicate, tmp_path):
        with open(tmp_path / "log.txt", "w+") as file:
            original = cls(file=file, every=2)
            # As an estimator does with the callbacks it is given.
            (other,) = (
                duplicate([original])
                if duplicate is not clone
                else clone([original], safe=False)
            )
            if duplicate is not copy.copy:
                assert other is not original
            assert other.file is file
            assert other.every == 2
            run(other, np.ones(3))
            file.seek(0)
            assert len(file.readlines()) == 2

    @pytest.mark.parametrize("cls", CLASSES)
    def test_bad_file(self, cls):
        with pytest.raises(
            InvalidParameterError, match=f"'file' parameter of {cls.__name__} must be"
        ):
            cls(file="log.txt").on_run_start({})


class TestWhat:
    def test_loss(self, run):
        text = written(run, PrintLoss, 2, jnp.float32(1 / 3), math.nan, 1.5e-12)
        assert text.splitlines() == [
            "step 0: loss 2",
            "step 1: loss 0.333333",
            "step 2: loss nan",
            "step 3: loss 1.5e-12",
        ]

    def test_parameters(self, run):
        values = {
            "m": np.array([[1.0, 2.5], [3.0, 1e-9]]),
            "rate": jnp.float32(0.1),
            "w": jnp.arange(12.0),
            "b": jnp.bfloat16(1.5),
        }
        assert written(run, PrintParameters, 1.0, values=[values]) == (
            "step 0: b=1.5, m=[[1 2.5] [3 1e-09]], rate=0.1, w=[0 1 2 ... 9 10 11]\n"
        )

    def test_gradients(self, run):
        gradients = {"a": np.float32(-2), "b": np.array([0.5, math.inf])}
        values = {"a": 0.0, "b": np.zeros(2)}
        text = written(run, PrintGradients, 1.0, values=[values], grads=[gradients])
        assert text == "step 0: gradient a=-2, b=[0.5 inf]\n"

    def test_norms(self, run):
        gradients = {"a": np.float32(-12), "b": jnp.array([[3.0, 0.0], [0.0, -4.0]])}
        values = {"a": 0.0, "b": np.zeros((2, 2))}
        text = written(run, PrintGradientNorms, 1.0, values=[values], grads=[gradients])
        assert text == "step 0: gradient norm 13 (a 12, b 5)\n"

    def test_norms_do_not_overflow(self, run):
        gradients = {"a": np.array([3e200, 4e200]), "b": np.array(3 + 4j)}
        values = {"a": np.zeros(2), "b": np.zeros(())}
        text = written(run, PrintGradientNorms, 1.0, values=[values], grads=[gradients])
        assert text == "step 0: gradient norm 5e+200 (a 5e+200, b 5)\n"
