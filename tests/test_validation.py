"""Checks of plain arguments: what the errors teach."""

import numpy as np
import pytest

from skoptax import OptaxEstimator
from skoptax._validation import check_seed
from skoptax.exceptions import InvalidParameterError

X, Y = np.arange(6.0)[:, None], np.array([1.0, 3.0, 5.0, 7.0, 9.0, 12.0])


@pytest.mark.parametrize("seed", [np.random.default_rng(0), "0", 1.5, -1])
def test_what_seeds_nothing(seed):
    fitted = OptaxEstimator().fit(X, Y)
    drawing = OptaxEstimator(optimizer="adam", batch_size=2, random_state=seed)
    owners = {
        "OptaxEstimator": lambda: drawing.fit(X, Y),
        "bootstrap": lambda: fitted.bootstrap(X, Y, n_resamples=3, random_state=seed),
    }
    for owner, call in owners.items():
        with pytest.raises(InvalidParameterError) as caught:
            call()
        message = str(caught.value)
        assert f"'random_state' parameter of {owner} must be an int" in message
        assert f"Got {seed!r} instead." in message
        is_generator = isinstance(seed, np.random.Generator)
        assert ("int(rng.integers(2**31))" in message) is is_generator


def test_what_seeds_the_same():
    drawn = check_seed(3, "bootstrap")
    assert drawn == check_seed(np.random.RandomState(3), "bootstrap")
    assert drawn == np.random.RandomState(3).randint(2**31 - 1)
    np.random.seed(3)
    assert drawn == check_seed(None, "bootstrap")
