"""The examples that no other test runs."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, curve_fit, least_squares
from scipy.special import expit
from sklearn.datasets import load_diabetes
from sklearn.model_selection import KFold

# Long, and the same with all versions.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def output_of(name, *libraries):
    """Return what an example prints; a warning in it is a failure."""
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed: pip install 'skoptax[examples]'")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=ROOT,
        env=os.environ | {"MPLBACKEND": "Agg"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(text, label):
    """Return the number that stands right after a label."""
    return float(re.search(re.escape(label) + r" *(\S+)", text).group(1))


def rows(text, name):
    """Return the numbers of each line that begins with a name."""
    lines = re.findall(rf"^{re.escape(name)} +(-?\d.*)$", text, flags=re.MULTILINE)
    return [[float(cell) for cell in line.split()] for line in lines]


def data_of(name):
    """Return the columns of one of the examples' tables."""
    path = ROOT / "examples" / "data" / name
    lines = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    return np.array([line.split(",") for line in lines[1:]], float).T


def test_enzyme_kinetics():
    said = output_of("plot_enzyme_kinetics.py")
    concentration, rate, treated = data_of("puromycin.csv")

    def law(_, vmax, vmax_0, km, km_0):
        largest = np.where(treated == 1, vmax, vmax_0)
        half = np.where(treated == 1, km, km_0)
        return largest * concentration / (half + concentration)

    def law_shared(_, vmax, vmax_0, km):
        return law(_, vmax, vmax_0, km, km)

    names = ["vmax_treated", "vmax_untreated", "km_treated", "km_untreated"]
    squares = []
    for k, model in enumerate((law, law_shared)):
        start = [200.0, 150.0, 0.1, 0.1][: 4 - k]
        values, covariance = curve_fit(model, None, rate, start, ftol=1e-14, xtol=1e-14)
        found = np.array([rows(said, name)[k][:2] for name in names[: 4 - k]])
        expected = np.c_[values, np.sqrt(np.diag(covariance))]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        squares.append(np.sum((rate - model(None, *values)) ** 2))
    assert rows(said, "km_untreated")[1] == rows(said, "km_treated")[1]
    # As Bates and Watts (1988) have it of the treated cells.
    assert abs(rows(said, "vmax_treated")[0][0] - 212.7) < 0.05
    assert abs(rows(said, "km_treated")[0][0] - 0.0641) < 5e-5
    f_value = (squares[1] - squares[0]) / (squares[0] / 19)
    _, _, f_found, p_found = rows(said, "shared constant")[0]
    np.testing.assert_allclose(f_found, f_value, rtol=1e-5)
    np.testing.assert_allclose(p_found, stats.f(1, 19).sf(f_value), rtol=1e-5)


def test_pharmacokinetics():
    said = output_of("plot_pharmacokinetics.py")
    names = ["absorption", "elimination", "clearance"]
    values, errors = np.array([rows(said, name)[0][:2] for name in names]).T
    # R's documentation of `SSfol` has this fit, in logarithms.
    np.testing.assert_allclose(np.log(values), [0.5752, -2.9196, -3.9159], atol=1e-4)
    np.testing.assert_allclose(errors / values, [0.1728, 0.1709, 0.1273], atol=1e-4)
    # In terms of what is derived, the model has no need of the delta method.
    time, concentration = data_of("theophylline.csv")

    def serum(time, half_life, peak, exposure):
        ke = np.log(2) / half_life
        ka = brentq(lambda k: np.log(k / ke) / (k - ke) - peak, 1.1 * ke, 1e3 * ke)
        shape = np.exp(-ke * time) - np.exp(-ka * time)
        return exposure * ka * ke / (ka - ke) * shape

    expected, covariance = curve_fit(serum, time, concentration, [10.0, 2.0, 200.0])
    derived = [
        rows(said, name)[0] for name in ("half_life", "time_of_peak", "exposure")
    ]
    values, errors = np.array(derived)[:, :2].T
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_allclose(errors, np.sqrt(np.diag(covariance)), rtol=1e-4)


def test_a_dose_response_curve_with_a_prior():
    said = output_of("plot_dose_response.py")
    concentration, length = data_of("ryegrass.csv")
    names = ["upper", "lower", "ec50", "slope"]
    start = [8.0, 0.5, 3.0, 2.0]

    def curve(dose, upper, lower, ec50, slope):
        return lower + (upper - lower) / (1 + (dose / ec50) ** slope)

    values, covariance = curve_fit(
        curve, concentration, length, start, ftol=1e-14, xtol=1e-14
    )
    expected = np.c_[values, np.sqrt(np.diag(covariance))]
    found = np.array([rows(said, name)[0][:2] for name in names])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # The values of the R package drc.
    np.testing.assert_allclose(values, [7.79296, 0.48141, 3.05795, 2.98222], atol=1e-5)

    # A prior is one more measurement, of the parameter itself.
    early = concentration <= 3.75
    dose, length = concentration[early], length[early]
    within = [length[dose == d] - length[dose == d].mean() for d in np.unique(dose)]
    sd = np.sqrt(np.sum(np.concatenate(within) ** 2) / (len(dose) - len(within)))

    def residuals(theta):
        return np.r_[(curve(dose, *theta) - length) / sd, (theta[1] - 0.5) / 0.5]

    best = least_squares(residuals, start, ftol=1e-14, xtol=1e-14)
    errors = np.sqrt(np.diag(np.linalg.inv(best.jac.T @ best.jac)))
    found = np.array([rows(said, name)[2][:2] for name in names])
    np.testing.assert_allclose(found, np.c_[best.x, errors], atol=2e-4)
    # Which is the point of it: the dose is known, with it only.
    assert rows(said, "ec50")[1][1] > 5 * rows(said, "ec50")[2][1]


def test_peaks_on_a_background():
    said = output_of("plot_peaks.py")
    nist = json.loads((ROOT / "examples" / "data" / "gauss3.json").read_text("utf-8"))
    names = ["background", "decay"]
    names += [f"{name}[{k}]" for k in (0, 1) for name in ("height", "center", "width")]
    found = np.array([rows(said, name)[0] for name in names])
    np.testing.assert_allclose(found[:, 0], nist["certified"], rtol=1e-9)
    np.testing.assert_allclose(found[:, 2], nist["certified_sd"], rtol=1e-8)
    squares = re.search(r"squares: (\S+), certified: (\S+)", said).groups()
    np.testing.assert_allclose(*map(float, squares), rtol=1e-10)
    scores = {name: rows(said, name)[0] for name in ("one", "two", "three")}
    assert min(scores, key=lambda name: scores[name][1]) == "two"


def test_counts_with_an_exposure():
    said = output_of("plot_counts.py", "statsmodels")
    import statsmodels.api as sm

    data = sm.datasets.cancer.load_pandas().data
    people = data["population"].to_numpy()
    design = sm.add_constant(np.log(people / 1e4))
    glm = sm.GLM(data["cancer"], design, family=sm.families.Poisson(), exposure=people)
    plain, robust = glm.fit(tol=1e-14), glm.fit(tol=1e-14, cov_type="HC0")
    for k, name in enumerate(["log_risk", "slope"]):
        beside, errors = rows(said, name)
        expected = [plain.params.iloc[k]] * 2 + [plain.bse.iloc[k]] * 2
        np.testing.assert_allclose(beside, expected, atol=1.1e-8)
        expected = [plain.bse.iloc[k], robust.bse.iloc[k], robust.bse.iloc[k]]
        np.testing.assert_allclose(errors, expected, atol=1.1e-8)
    pearson = number(said, "Pearson's chi-square per degree of freedom:")
    assert abs(pearson - plain.pearson_chi2 / plain.df_resid) < 0.005
    risk = number(said, "cases per 1000:")
    assert abs(risk - 1e3 * data["cancer"].sum() / people.sum()) < 5e-4


def test_a_calibration_with_an_outlier():
    said = output_of("plot_robust_calibration.py")
    import statsmodels.api as sm

    boiling, pressure = data_of("forbes.csv")
    x, y = boiling - 200, 100 * np.log10(pressure)
    design = sm.add_constant(x)
    found = np.array([rows(said, name)[1] for name in ("level", "slope")])
    squares = sm.OLS(y, design).fit()
    np.testing.assert_allclose(found[:, 0], squares.params, atol=1e-6)
    huber = sm.RLM(y, design, M=sm.robust.norms.HuberT(1.345))
    huber = huber.fit(tol=1e-12, maxiter=500)
    # Its normalising constant is that of the quartile, ours 1.4826.
    np.testing.assert_allclose(found[:, 1], huber.params, atol=1e-5)
    scale = number(said, "residuals are usually of size")
    assert abs(scale - huber.scale) < 1e-4
    for k, loss, width in ((2, "soft_l1", 1.0), (3, "cauchy", 2.385)):
        best = least_squares(
            lambda b: design @ b - y,
            squares.params,
            loss=loss,
            f_scale=width * huber.scale,
            xtol=1e-14,
            ftol=1e-14,
        )
        np.testing.assert_allclose(found[:, k], best.x, atol=1e-5)


def test_a_network_without_a_library():
    said = output_of("plot_mlp.py")
    assert number(said, "R2 of new images:") > 0.8
    assert number(said, "digits recognised:") > 0.95
    assert "ended: no_improvement" in said
    # The same start values, batches and steps as scikit-learn's network.
    assert number(said, "difference of two predictions:") < 1e-9
    scores = re.findall(r"^\d +(0\.\d+) +(0\.\d+)$", said, flags=re.MULTILINE)
    assert len(scores) == 10
    ours, theirs = np.array(scores, dtype=float).mean(axis=0)
    assert abs(ours - theirs) < 0.01
    # Ten fits of random order share it.
    assert number(said, "programs compiled:") == 1


def test_a_network_of_equinox():
    said = output_of("plot_equinox.py", "equinox")
    assert "layers.1.weight  (16, 16)" in said
    assert number(said, "R2 of new patients:") > 0.2
    assert number(said, "best of a search:") > 0.2
    # A fit, the objective of all rows, and a prediction; then both of the former
    # again, for the fewer rows of a fold.
    assert number(said, "programs after one fit:") == 3
    assert number(said, "programs after 61 more fits:") == 5
    assert "MLP True" in said


def test_a_network_of_flax():
    said = output_of("plot_flax.py", "flax")
    scores = [number(said, "held-out patients:")]
    scores += [number(said, f"from seed {seed}:") for seed in (1, 2)]
    assert min(scores) > 0.35
    assert len(set(scores)) == 3
    assert re.findall(r"programs: (\d+)", said) == ["3", "3"]
    assert said.endswith("Network True\nfloat32\n")


def test_a_differential_equation():
    said = output_of("plot_predator_prey.py", "diffrax")
    found = np.array(
        re.findall(r"^\w+ +(\d\S+) +(\d\S+) +\S+ +\S+$", said, flags=re.MULTILINE),
        dtype=float,
    )
    table = np.genfromtxt(
        ROOT / "examples" / "data" / "lynx_hare.csv", delimiter=",", skip_header=4
    )
    observed = np.log(table[:, [2, 1]])

    def residuals(theta):
        def change(t, z):
            met = z[0] * z[1]
            return [
                theta[2] * z[0] - theta[3] * met,
                theta[4] * met - theta[5] * z[1],
            ]

        solved = solve_ivp(
            change, (1900, 1920), theta[:2], t_eval=table[:, 0], rtol=1e-9, atol=1e-9
        )
        return (np.log(solved.y.T) - observed).ravel()

    by_scipy = least_squares(
        residuals,
        [30, 4, 0.5, 0.025, 0.025, 0.8],
        x_scale=[30, 4, 0.5, 0.025, 0.025, 0.8],
        jac="3-point",
        xtol=1e-12,
        ftol=1e-12,
    )
    variance = 2 * by_scipy.cost / (observed.size - 6)
    covariance = variance * np.linalg.inv(by_scipy.jac.T @ by_scipy.jac)
    expected = np.c_[by_scipy.x, np.sqrt(np.diag(covariance))]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    # Both modes, and a clone from another start.
    agreements = re.findall(r"within (\S+), standard errors within (\S+)", said)
    assert len(agreements) == 2
    assert np.array(agreements, dtype=float).max() < 1e-6
    assert number(said, "programs compiled again:") == 0
    assert "float64 False" in said


def nist(name):
    path = ROOT / "examples" / "data" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def numbers(text, pattern):
    """Return the numbers that a pattern's groups find, a row for each place."""
    return np.array(re.findall(pattern, text, flags=re.MULTILINE), dtype=float)


def test_a_search_in_a_pipeline():
    said = output_of("plot_search.py")
    assert number(said, "fits:") == 181
    assert number(said, "programs compiled:") == 2
    # The chosen setting once more, by an Adam written out here.
    rate, delta, alpha = (
        number(said, f"{name}:")
        for name in ("learning_rate", "loss__delta", "penalty__alpha")
    )
    X, y = load_diabetes(return_X_y=True, scaled=False)
    lowest = np.array([-np.inf] * 11 + [0.0, 2.5])
    highest = np.array([np.inf] * 11 + [1.0, 4.0])
    errors = []
    for train, test in KFold(5, shuffle=True, random_state=0).split(X):
        mean, spread = X[train].mean(axis=0), X[train].std(axis=0)
        inputs = np.c_[(X - mean) / spread, np.ones(len(X))]
        # Weights, offset, and both levels in steps of 100.
        theta = np.array([0.0] * 11 + [0.25, 3.5])
        first = second = 0.0
        for step in range(1, 301):
            share = expit(inputs[train] @ theta[:11])
            low, high = 100.0 * theta[11:]
            slope = np.clip(low + (high - low) * share - y[train], -delta, delta)
            by_index = slope * (high - low) * share * (1.0 - share)
            gradient = np.r_[
                (by_index[:, None] * inputs[train]).mean(axis=0),
                100.0 * np.mean(slope * (1.0 - share)),
                100.0 * np.mean(slope * share),
            ]
            gradient[:10] += alpha * theta[:10]
            # No step is to lead out of a bound.
            out = (gradient > 0) & (theta <= lowest) | (gradient < 0) & (
                theta >= highest
            )
            gradient[out] = 0.0
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            size = np.sqrt(second / (1.0 - 0.999**step)) + 1e-8
            theta = theta - rate * first / (1.0 - 0.9**step) / size
            theta = np.clip(theta, lowest, highest)
        low, high = 100.0 * theta[11:]
        predicted = low + (high - low) * expit(inputs[test] @ theta[:11])
        errors.append(np.mean(np.abs(predicted - y[test])))
    (error,) = numbers(said, r"^mean absolute error: (\S+), of")
    assert error == pytest.approx(np.mean(errors), abs=1e-3)


def test_three_optimizers():
    # Each is held against the certified values by the example itself.
    said = output_of("plot_optimizers.py")
    rows = re.findall(r"^(\w+) +(\d+) steps +(\w+) +(\S+) digits", said, re.MULTILINE)
    found = {name: (status, float(digits)) for name, _, status, digits in rows}
    assert found["adam"][0] == "max_steps"
    assert found["adam"][1] > 3
    for name in ("lbfgs", "lm"):
        assert found[name][0] == "converged"
        assert found[name][1] > 9


def test_many_starts():
    said = output_of("plot_multistart.py")
    rows = numbers(said, r"^b\d +estimate (\S+) +certified (\S+)$")
    assert rows.shape == (2, 2)
    np.testing.assert_allclose(rows[:, 0], rows[:, 1], rtol=1e-8)
    data = nist("boxbod")
    squares = dict(
        re.findall(r"^(converged|plateau) +(\d+\.\d+) ", said, flags=re.MULTILINE)
    )
    assert float(squares["converged"]) == pytest.approx(data["rss"], abs=1e-4)
    # A curve that is flat from the first measurement on is their mean.
    flat = len(data["y"]) * np.var(data["y"])
    assert float(squares["plateau"]) == pytest.approx(flat, abs=1e-3)
    # With bounds, no start is lost.
    assert said.split()[-2:] == ["converged", "64"]


def test_profile_likelihood():
    said = output_of("plot_profile_likelihood.py")
    errors = numbers(said, r"^b\d +standard error (\S+) +certified (\S+)$")
    np.testing.assert_allclose(errors[:, 0], errors[:, 1], atol=2e-7)
    ends = numbers(said, r"^b\d +(\d\S+) +(\d\S+) +(\d\S+) +(\d\S+)$")
    data = nist("boxbod")
    x, y = np.array(data["x"]), np.array(data["y"])
    certified = np.array(data["certified"])
    t = stats.t(4).ppf(0.95)
    wald = certified[:, None] + t * np.outer(data["certified_sd"], [-1, 1])
    np.testing.assert_allclose(ends[:, :2], wald, atol=1e-4)

    # At the ends of a profile, the F statistic of the rise is the square of t.
    def squares_with(j, value):
        def residuals(other):
            b1, b2 = (value, other[0]) if j == 0 else (other[0], value)
            return b1 * (1 - np.exp(-b2 * x)) - y

        start = certified[[1 - j]]
        return 2 * least_squares(residuals, start, x_scale=start, xtol=1e-12).cost

    for j in (0, 1):
        for end in ends[j, 2:]:
            f = (squares_with(j, end) - data["rss"]) / (data["rss"] / 4)
            assert f == pytest.approx(t**2, rel=1e-3)
    # The model by its logarithm has the same profile, and another standard error.
    others = numbers(said, r"of its logarithm: +(\S+) to (\S+)$")
    log_error = data["certified_sd"][1] / certified[1]
    by_error = certified[1] * np.exp(t * log_error * np.array([-1, 1]))
    np.testing.assert_allclose(others, [by_error, ends[1, 2:]], atol=1e-4)


def test_the_bootstrap():
    said = output_of("plot_bootstrap.py")
    errors = numbers(said, r"^b\d +standard error (\S+) +certified (\S+)$")
    np.testing.assert_allclose(errors[:, 0], errors[:, 1], rtol=1e-6)
    columns = numbers(said, r"^b\d +(\d\S+) +(\d\S+) +(\d\S+) +(\d\S+)$")
    # HC3 by its formula, with the Jacobian written out.
    data = nist("chwirut1")
    x, y, (b1, b2, b3) = np.array(data["x"]), np.array(data["y"]), data["certified"]
    below = b2 + b3 * x
    curve = np.exp(-b1 * x) / below
    J = np.c_[-x * curve, -curve / below, -x * curve / below]
    bread = np.linalg.inv(J.T @ J)
    leverage = np.einsum("ij,jk,ik->i", J, bread, J)
    scores = J * ((y - curve) / (1 - leverage))[:, None]
    hc3 = np.sqrt(np.diag(bread @ scores.T @ scores @ bread))
    np.testing.assert_allclose(columns[:, 2], hc3, rtol=1e-3)
    np.testing.assert_allclose(columns[:, 0], data["certified_sd"], rtol=1e-3)
    # 2000 resamples scatter as these say, within some per cent.
    np.testing.assert_allclose(columns[:, 1], columns[:, 0], rtol=0.06)
    np.testing.assert_allclose(columns[:, 3], columns[:, 2], rtol=0.1)


def test_comparing_models():
    said = output_of("plot_model_comparison.py")
    found = dict(re.findall(r"^(\w+) +sum of squares (\S+)$", said, re.MULTILINE))
    assert float(found["misra1a"]) == pytest.approx(nist("misra1a")["rss"], rel=1e-8)
    data = nist("misra1a")
    x, y, n = np.array(data["x"]), np.array(data["y"]), len(data["y"])

    def by_scipy(curve, start):
        scale = np.abs(start)
        fit = least_squares(
            lambda theta: curve(x, *theta) - y,
            start,
            x_scale=scale,
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        )
        return 2 * fit.cost

    squares = {
        "misra1b": by_scipy(
            lambda x, a, b: a * (1 - (1 + b * x / 2) ** -2), [340.0, 4e-4]
        ),
        "misra1c": by_scipy(
            lambda x, a, b: a * (1 - (1 + 2 * b * x) ** -0.5), [640.0, 2e-4]
        ),
        "misra1d": by_scipy(lambda x, a, b: a * b * x / (1 + b * x), [440.0, 3e-4]),
        "any_power": by_scipy(
            lambda x, s, b, p: s * ((1 + b * x) ** p - 1) / (p * b), [0.13, 9e-4, 0.25]
        ),
    }
    for name, value in squares.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-6)
    # AICc, F and its p-value by their formulas.
    rows = re.findall(
        r"^(misra1\w|any_power) +([23]) +(-\S+) +(-\S+) +(\d\S*) +(\S+) +(\S+)$",
        said,
        flags=re.MULTILINE,
    )
    assert len(rows) == 5
    squares["misra1a"] = data["rss"]
    large = squares["any_power"]
    for name, k, aicc, *_, f_value, p_value in rows:
        k = int(k)
        own = n * (np.log(2 * np.pi * squares[name] / n) + 1) + 2 * k
        own += 2 * k * (k + 1) / (n - k - 1)
        assert float(aicc) == pytest.approx(own, abs=0.01)
        if k == 2:
            f = (squares[name] - large) / (large / (n - 3))
            assert float(f_value) == pytest.approx(f, rel=1e-3)
            expected = stats.f(1, n - 3).sf(f)
            assert float(p_value) == pytest.approx(expected, rel=1e-3)


def test_moving_from_lmfit():
    said = output_of("plot_moving_from_lmfit.py", "lmfit")
    row = r"^b\d" + r" +(-?\d\S+)" * 6 + "$"
    values = numbers(said, row)
    assert values.shape == (5, 6)
    np.testing.assert_allclose(values[:, 1], values[:, 2], rtol=1e-7)
    np.testing.assert_allclose(values[:, 4], values[:, 5], rtol=1e-7)
    np.testing.assert_allclose(values[:, 0], values[:, 2], rtol=1e-5)
    np.testing.assert_allclose(values[:, 3], values[:, 5], rtol=1e-4)
    (aics,) = numbers(said, r"^AIC: (\S+), lmfit's plus the constant: (\S+)$")
    assert aics[0] == pytest.approx(aics[1], abs=1e-3)
    ends = numbers(said, r"lmfit (\S+) to (\S+) +skoptax (\S+) to (\S+)$")
    assert ends.shape == (5, 4)
    np.testing.assert_allclose(ends[:, 2:], ends[:, :2], atol=2e-5)
    ((theirs, ours),) = numbers(said, r"^chi-square: (\S+), (\S+)$")
    assert ours == pytest.approx(theirs, rel=1e-6)
    f = (theirs - nist("mgh17")["rss"]) / (nist("mgh17")["rss"] / 28)
    assert number(said.replace(",", ""), "F =") == pytest.approx(f, abs=1e-3)
    # On a bound, errors as with that parameter held there.
    assert "on a bound: ['b3']" in said
    fixed = number(said, "of b2 by lmfit, b3 fixed:")
    assert number(said, "of b2 by skoptax:") == pytest.approx(fixed, rel=1e-3)
    assert number(said, "of b2 by lmfit:") > 2 * fixed


def test_a_search_on_a_dask_cluster():
    # It asserts itself that scores are equal and that no worker compiles more.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "examples" / "dask_search.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    counts = re.findall(r"programs compiled .*: (\d+)", done.stdout)
    assert len(counts) == 3
    # A fit, with the derivatives at its end, and a prediction.
    assert int(counts[0]) == 2
    assert max(map(int, counts[1:])) <= 2
