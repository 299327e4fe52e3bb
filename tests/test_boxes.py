"""Random boxes around and beside certified values: the optimum inside, exact bounds.

SciPy has two methods of different kind for these. Where they agree, theirs is the
optimum that a descent from the centre of the box leads to.
"""

import warnings

import jax
import numpy as np
import pytest
import scipy.optimize
from numpy.testing import assert_array_equal

from skoptax import OptaxEstimator, Parameter
from skoptax.exceptions import ConvergenceWarning
from tests.test_nist import MODELS, NIST

# Long, and the same with all versions.
pytestmark = [pytest.mark.slow, pytest.mark.optimised]

BOXES = 10
# A decay, a ratio of polynomials whose parameters differ by a factor of 100,000, and
# one whose parameters are nearly confounded.
PROBLEMS = ["Chwirut2", "Kirby2", "MGH09"]


def draw_box(rng, certified, cuts):
    """Return bounds, 1 % to 100 % of the certified values wide.

    If the box cuts off the optimum, it does so for about half of the parameters, for
    one at least, and by 2 % to 30 % of its width.
    """
    p = certified.size
    width = np.abs(certified) * 10 ** rng.uniform(-2, 0, p)
    lower = certified - width * rng.uniform(0.1, 0.9, p)
    if cuts:
        out = rng.uniform(size=p) < 0.5
        out[rng.integers(p)] = True
        gap = width * rng.uniform(0.02, 0.3, p)
        above = rng.uniform(size=p) < 0.5
        beside = np.where(above, certified + gap, certified - gap - width)
        lower = np.where(out, beside, lower)
    return lower, lower + width


def boxes(name, predict, y):
    """Yield boxes, every second of which cuts off the optimum."""
    certified = np.asarray(NIST[name]["certified"])
    rng = np.random.default_rng(len(y))
    found = 0
    while found < BOXES:
        lower, upper = draw_box(rng, certified, cuts=found % 2 == 1)
        # Not with a pole inside: there all methods end anywhere.
        points = rng.uniform(lower, upper, (50, lower.size))
        f = np.array([predict(point) for point in points])
        if np.isfinite(f).all() and np.abs(f).max() < 20 * np.abs(y).max():
            found += 1
            yield lower, upper


def optimum(residuals, jacobian, lower, upper):
    """Return the better of SciPy's two answers, and whether they agree."""
    start, width = (lower + upper) / 2, upper - lower
    unit = 0.5 * np.sum(residuals(start) ** 2)

    def objective(u):
        x = np.clip(lower + width * u, lower, upper)
        r = residuals(x)
        return 0.5 * r @ r / unit, jacobian(x).T @ r * width / unit

    trf = min(
        (
            scipy.optimize.least_squares(
                residuals,
                start,
                jac=jacobian,
                bounds=(lower, upper),
                x_scale=scale,
                xtol=1e-15,
                ftol=1e-15,
                gtol=1e-15,
                max_nfev=1000,
            )
            for scale in (width, "jac")
        ),
        key=lambda result: result.cost,
    )
    u = np.full(start.size, 0.5)
    # Started anew, it goes on where its memory has misled it.
    for _ in range(3):
        result = scipy.optimize.minimize(
            objective,
            u,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, 1)] * start.size,
            options={"ftol": 0.0, "gtol": 1e-13, "maxcor": 20, "maxiter": 500},
        )
        u = result.x
    x = np.clip(lower + width * u, lower, upper)
    ends = [(trf.cost, trf.x), (result.fun * unit, x)]
    (least, best), (other, _) = sorted(ends, key=lambda end: end[0])
    return least, best, other <= least * (1 + 1e-6)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_optimum_in_a_box(name):
    x, y = np.asarray(NIST[name]["x"]), np.asarray(NIST[name]["y"])
    model, names = MODELS[name], [f"b{i + 1}" for i in range(len(NIST[name]["start1"]))]
    # One program for each optimiser: values and bounds are arguments. The scale is
    # what L-BFGS needs where parameters differ by orders of magnitude.
    spec = {k: Parameter(value=1.0, lower=0.0, upper=2.0, scale="value") for k in names}
    estimators = [
        OptaxEstimator(model, spec, optimizer=optimizer, max_steps=3000)
        for optimizer in ("lm", "lbfgs")
    ]
    with jax.enable_x64(True):
        predict = jax.jit(lambda b: model(x, *b))
        jacobian = jax.jit(jax.jacfwd(lambda b: model(x, *b)))
        drawn = list(boxes(name, predict, y))
        answers = [
            optimum(
                lambda b: np.asarray(predict(b)) - y,
                lambda b: np.asarray(jacobian(b)),
                *box,
            )
            for box in drawn
        ]
    assert sum(agree for _, _, agree in answers) >= BOXES - 1
    stuck = []
    for (lower, upper), (least, best, agree) in zip(drawn, answers, strict=True):
        box = {"value": (lower + upper) / 2, "lower": lower, "upper": upper}
        box = {
            f"params__{k}__{what}": numbers[i]
            for i, k in enumerate(names)
            for what, numbers in box.items()
        }
        for estimator in estimators:
            found = fit(estimator.set_params(**box), x, y)
            values = np.array([found.params_[k] for k in names])
            path = found.history_[names].to_numpy()
            assert (path >= lower).all() and (path <= upper).all()
            flags = [found.at_bound_[k] for k in names]
            assert_array_equal(flags, (values == lower) | (values == upper))
            if not agree:
                continue
            with jax.enable_x64(True):
                loss = 0.5 * np.sum((np.asarray(predict(values)) - y) ** 2)
                r = np.asarray(predict(best)) - y
                gradient = np.asarray(jacobian(best)).T @ r
            if loss > least * (1 + 1e-8):
                assert not found.converged_
                stuck.append(found.message_)
                continue
            # `trf` never gets to a bound; the gradient tells on which one it would be.
            width = upper - lower
            near = np.where(gradient > 0, best - lower, upper - best) < 1e-6 * width
            active = near & (np.abs(gradient) * width > 1e-6 * least)
            bound = np.where(gradient > 0, lower, upper)
            assert_array_equal(values[active], bound[active])
    # L-BFGS may get stuck between bounds that it meets one after the other (in 4 of
    # 800 boxes like these, 16 without the scale), and then says so.
    assert len(stuck) <= 1, stuck


def fit(estimator, x, y):
    """Fit; L-BFGS may say that it stalled, for it judges by the loss alone."""
    with warnings.catch_warnings():
        if estimator.optimizer == "lbfgs":
            warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(x[:, None], y)
    assert estimator.converged_ or estimator.optimizer == "lbfgs", estimator.message_
    return estimator
