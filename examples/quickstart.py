"""Fit a model to measured data and hold the estimates against certified ones.

Without arguments: NIST's Chwirut1, an ultrasonic calibration, from NIST's first
start. Other data and another model::

    python examples/quickstart.py examples/data/thurber.json
    python examples/quickstart.py my_data.json --model my_models.py:my_function

The data file is one of NIST's own (``Misra1a.dat``), or JSON with ``x``, ``y`` and
``start1``, and ``certified`` where there is such a thing; a JSON file with many data
sets needs ``--set NAME``. The model takes its inputs first, then its parameters, as
many as there are start values.
"""

import argparse
import importlib.util
import inspect
import json
import os
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no window: this script writes a file

import matplotlib.pyplot as plt
import numpy as np

from skoptax import OptaxEstimator

HERE = Path(__file__).resolve().parent


def read_nist(text):
    """Read a file in the layout of NIST's Statistical Reference Datasets."""
    rows = re.findall(r"^ *b\d+ *=((?: +[-+.\dEe]+){4}) *$", text, flags=re.MULTILINE)
    start1, _, certified, _ = zip(
        *(map(float, row.split()) for row in rows), strict=True
    )
    # The header describes the data under "Data:", too; the table comes last.
    table = text[text.rindex("Data:") :].splitlines()[1:]
    values = [[float(v) for v in line.split()] for line in table if line.strip()]
    name = re.search(r"Dataset Name: *(\w+)", text)
    return {
        "name": name.group(1) if name else "data",
        "start1": start1,
        "certified": certified,
        "y": [row[0] for row in values],
        "x": [row[1:] for row in values],
    }


def read_data(path, name):
    """Read one data set."""
    if not Path(path).is_file():
        sys.exit(f"There is no file {path}.")
    text = Path(path).read_text(encoding="utf-8")
    if not text.lstrip().startswith("{"):
        return read_nist(text)
    content = json.loads(text)
    if "x" not in content:
        if name not in content:
            sys.exit(f"{path} has many data sets: give --set, one of {list(content)}")
        content = {"name": name, **content[name]}
    content.setdefault("name", Path(path).stem)
    for key in ("x", "y", "start1"):
        if key not in content:
            sys.exit(
                f"{path} has no {key!r}: it needs x, y and start1 (the start values)"
            )
    return content


def load_model(reference):
    """Load a function given as FILE.py:NAME."""
    path, _, name = reference.rpartition(":")
    if not Path(path).is_file():
        sys.exit(f"There is no file {path!r}: give --model FILE.py:NAME")
    spec = importlib.util.spec_from_file_location("quickstart_models", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        sys.exit(f"{path} has no function {name!r}: give --model FILE.py:NAME")
    return getattr(module, name)


def name_starts(data, model):
    """Return the start values by name; without names they are the last arguments'."""
    start = data["start1"]
    arguments = list(inspect.signature(model).parameters)
    if not isinstance(start, dict):
        start = dict(zip(reversed(arguments), reversed(start), strict=False))
    # (Certified values have the order of the arguments.)
    found = {name: start[name] for name in arguments if name in start}
    n_inputs = np.reshape(data["x"], (len(data["y"]), -1)).shape[1]
    if len(found) < len(data["start1"]) or len(found) + n_inputs != len(arguments):
        sys.exit(
            f"The model has the arguments {', '.join(arguments)}: one for each of the "
            f"{n_inputs} columns of x, and then one for each start value. "
            f"Got start1={data['start1']}."
        )
    return found


def fit(data, model):
    """Fit the model from the data's first start."""
    X = np.asarray(data["x"], dtype=float).reshape(len(data["y"]), -1)
    arguments = list(inspect.signature(model).parameters)
    start = data["start1"]
    estimator = OptaxEstimator(
        model,
        params=start,
        inputs=[name for name in arguments if name not in start],
    )
    return estimator.fit(X, np.asarray(data["y"])), X


def print_table(data, estimator):
    """Print estimates beside certified values; return the worst agreement."""
    certified = data.get("certified")
    print(f"{data['name']}: {len(data['y'])} rows, {estimator.n_iter_} steps")
    print(estimator.message_)
    print()
    print(
        f"{'parameter':<10}{'start':>12}{'estimate':>20}"
        + (f"{'certified':>20}{'rel. diff':>11}" if certified else "")
    )
    worst = 0.0
    for i, (name, estimate) in enumerate(estimator.params_.items()):
        line = f"{name:<10}{data['start1'][name]:>12.6g}{estimate:>20.10e}"
        if certified:
            difference = abs(estimate - certified[i]) / abs(certified[i])
            worst = max(worst, difference)
            line += f"{certified[i]:>20.10e}{difference:>11.1e}"
        print(line)
    return worst if certified else None


def draw(data, X, estimator, path):
    """Draw data and curve, the residuals, and the path of the optimisation."""
    y = np.asarray(data["y"])
    figure, axes = plt.subplot_mosaic(
        [["fit", "loss"], ["residuals", "loss"]],
        figsize=(9, 4.5),
        height_ratios=[3, 1],
        width_ratios=[3, 2],
        layout="constrained",
    )
    if X.shape[1] == 1:
        x, label = X[:, 0], estimator.inputs[0].replace("_", " ")
        grid = np.linspace(x.min(), x.max(), 300)
        axes["fit"].plot(grid, estimator.predict(grid[:, None]), "C1", label="fit")
    else:
        x, label = estimator.predict(X), "predicted"
        axes["fit"].plot(np.sort(x), np.sort(x), "C1", label="predicted")
    axes["fit"].plot(x, y, ".", color="C0", alpha=0.6, label="data", zorder=0)
    axes["fit"].set(ylabel="response", title=data["name"])
    axes["fit"].legend()
    axes["residuals"].plot(x, y - estimator.predict(X), ".", color="C0", alpha=0.6)
    axes["residuals"].axhline(0.0, color="C1")
    axes["residuals"].set(xlabel=label, ylabel="residual")
    axes["residuals"].sharex(axes["fit"])
    loss = estimator.history_["loss"]
    axes["loss"].semilogy(loss.index, loss, color="C0", marker=".")
    axes["loss"].set(xlabel="step", ylabel="loss", title="optimisation")
    # No software version in the file: an unchanged picture stays the same bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def main():
    """Read, fit, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default=HERE / "data" / "chwirut1.json")
    parser.add_argument("--set", help="the data set's name, in a file with many")
    parser.add_argument("--model", help="FILE.py:NAME; default: by the data's name")
    parser.add_argument("--output", help="where the picture goes")
    options = parser.parse_args()
    data = read_data(options.data, options.set)
    name = data["name"].lower()
    model = load_model(options.model or f"{HERE / 'nist_models.py'}:{name}")
    data["start1"] = name_starts(data, model)
    estimator, X = fit(data, model)
    worst = print_table(data, estimator)
    is_default = options.data == parser.get_default("data")
    default = HERE / "quickstart.png" if is_default else Path(f"{name}.png")
    path = Path(options.output) if options.output else default
    draw(data, X, estimator, path)
    print(f"\nThe picture is in {os.path.relpath(path)}.")
    if worst is not None and worst > 1e-6:
        sys.exit(f"The estimates differ from the certified values by {worst:.1e}.")


if __name__ == "__main__":
    main()
