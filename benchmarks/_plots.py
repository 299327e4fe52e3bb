"""The plots. Marks, hatches and line styles carry what colours do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Okabe and Ito's palette, ordered so that neighbours differ in lightness too.
BLACK, ORANGE, BLUE, SKY = "#000000", "#E69F00", "#0072B2", "#9AD0F5"
_STYLE = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",
    # Without these two, each run writes other files from equal figures.
    "svg.hashsalt": "skoptax",
    "path.simplify": False,
}


def write_plots(rows: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Draw what there are figures for.

    Parameters
    ----------
    rows : mapping
        The rows as kept, by name.
    folder : Path
        Where the files go.

    Returns
    -------
    dict
        The file of each plot, by the row's name; ``"bars"`` is of all rows.

    Raises
    ------
    ImportError
        If there is no Matplotlib.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    files = {}
    with mpl.rc_context(_STYLE):
        for name, draw in DRAWINGS.items():
            if name != "bars" and name not in rows:
                continue
            figure = Figure()
            if draw(figure, rows if name == "bars" else rows[name]["series"]):
                files[name] = f"{name}.svg"
                figure.savefig(folder / files[name], metadata={"Date": None})
    return files


def _bars(figure: Any, rows: Mapping[str, Any]) -> bool:
    """Draw each figure relative to its bar, on one axis for all."""
    entries = []
    for row in rows.values():
        for found in row["figures"]:
            # The logarithm of nothing is of no use; counts that must be 0 stay out.
            if "bar" not in found or found["bar"] <= 0 or found["value"] <= 0:
                continue
            relative = found["value"] / found["bar"]
            relative = relative if found["side"] == "at most" else 1 / relative
            what = _plain(found["what"])
            entries.append((f"{row['number']}  {what}", relative, found["met"]))
    if not entries:
        return False
    figure.set_size_inches(8.0, 0.8 + 0.2 * len(entries))
    axes = figure.subplots()
    axes.axvline(1.0, color=BLACK, linewidth=0.8)
    for position, (_, relative, met) in enumerate(entries):
        axes.plot(
            relative,
            position,
            marker="o" if met else "s",
            markersize=5,
            color=BLUE if met else BLACK,
            markerfacecolor=BLUE if met else "white",
        )
    axes.set_yticks(range(len(entries)), [label for label, *_ in entries], fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.grid(axis="x", linewidth=0.3)
    axes.set_xlabel(
        "figure relative to its bar; 1 is the bar, left of it is better\n"
        "(filled circle: met, open square: missed)"
    )
    return True


def _search(figure: Any, series: Mapping[str, Any]) -> bool:
    """Draw the parts of a search and of what it is compared with."""
    cold, warm = series["cold"], series["warm"]
    by_hand = cold["by hand"]
    lines = {
        "first search\nskoptax": {"search": cold["skoptax"]},
        "first search\nby hand": {
            "compiling once": by_hand["compile"],
            "the loop's runs": by_hand["runs"],
            "an empty search": by_hand["nothing"],
        },
        "second search\nskoptax": {"search": warm["skoptax"]},
        "second search\nby hand": {
            "the loop's runs": warm["runs"],
            "an empty search": warm["nothing"],
        },
    }
    looks = {
        "search": (BLUE, ""),
        "compiling once": (ORANGE, "///"),
        "the loop's runs": (SKY, ""),
        "an empty search": ("white", "..."),
    }
    figure.set_size_inches(6.5, 2.4)
    axes = figure.subplots()
    labelled = set()
    for line, parts in lines.items():
        left = 0.0
        for part, width in parts.items():
            color, hatch = looks[part]
            axes.barh(
                line,
                width,
                left=left,
                color=color,
                hatch=hatch,
                edgecolor=BLACK,
                linewidth=0.6,
                label=None if part in labelled else part,
            )
            labelled.add(part)
            left += width
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.legend(frameon=False, fontsize=8)
    return True


def _long_fit(figure: Any, series: Mapping[str, Any]) -> bool:
    """Draw the time of a step against the number of rows."""
    figure.set_size_inches(5.0, 3.2)
    axes = figure.subplots()
    per_step = series["per_step"]
    looks = {"by hand": (ORANGE, "s", "--"), "skoptax": (BLUE, "o", "-")}
    for side, (color, marker, line) in looks.items():
        axes.loglog(
            per_step["rows"],
            [1e6 * seconds for seconds in per_step[side]],
            color=color,
            marker=marker,
            linestyle=line,
            label=side,
            markeredgecolor=BLACK,
        )
    axes.set_xlabel("rows")
    axes.set_ylabel("microseconds per step")
    axes.grid(linewidth=0.3)
    axes.legend(frameon=False)
    return True


def _panels(along: str) -> Callable[..., bool]:
    """Return a drawing of seconds against a size, one panel for each kind of model."""

    def draw(figure: Any, series: Mapping[str, Any]) -> bool:
        figure.set_size_inches(1.5 + 2.6 * len(series), 3.2)
        panels = figure.subplots(1, len(series), sharey=True, squeeze=False)[0]
        looks = [(BLUE, "o", "-"), (ORANGE, "s", "--"), (SKY, "^", ":")]
        for axes, (title, times) in zip(panels, series.items(), strict=True):
            sides = [side for side in times if side != along]
            for side, (color, marker, line) in zip(sides, looks, strict=True):
                axes.loglog(
                    times[along],
                    # Nothing where a side did not get there.
                    np.array(times[side], dtype=float),
                    color=color,
                    marker=marker,
                    linestyle=line,
                    label=_plain(side),
                    markeredgecolor=BLACK,
                )
            axes.set_title(title, fontsize=9)
            axes.set_xlabel(along)
            axes.grid(linewidth=0.3)
        panels[0].set_ylabel("seconds")
        panels[0].legend(frameon=False, fontsize=8)
        return True

    return draw


def _many_fits(figure: Any, series: Mapping[str, Any]) -> bool:
    """Draw the resident memory against the number of fits."""
    resident = series["resident"]
    figure.set_size_inches(5.0, 2.4)
    axes = figure.subplots()
    fits = [100 * (i + 1) for i in range(len(resident))]
    axes.plot(fits, resident, color=BLUE)
    axes.axhline(resident[0] + 50, color=BLACK, linestyle="--", linewidth=0.8)
    axes.annotate(
        "50 MB more than after 100 fits",
        (fits[-1], resident[0] + 50),
        ha="right",
        va="bottom",
        fontsize=8,
    )
    axes.set_ylim(0, (resident[0] + 50) * 1.2)
    axes.set_xlabel("fits")
    axes.set_ylabel("resident memory (MB)")
    return True


def _dots(series: Mapping[str, Mapping[str, float]]) -> Callable[..., bool]:
    """Return a drawing of seconds on a logarithmic axis, skoptax marked."""

    def draw(figure: Any, data: Mapping[str, Any]) -> bool:
        groups = {key: data[key] for key in series if key in data}
        names = list(dict.fromkeys(name for group in groups.values() for name in group))
        if not names:
            return False
        figure.set_size_inches(6.5, 1.0 + 0.3 * len(names))
        axes = figure.subplots()
        for key, group in groups.items():
            look = series[key]
            axes.plot(
                list(group.values()),
                [names.index(name) for name in group],
                linestyle="none",
                markersize=7,
                markeredgecolor=BLACK,
                **look,
            )
        axes.set_yticks(range(len(names)), [_plain(name) for name in names])
        for label in axes.get_yticklabels():
            if label.get_text().startswith("skoptax"):
                label.set_fontweight("bold")
        axes.invert_yaxis()
        axes.margins(y=0.15)
        axes.set_xscale("log")
        axes.grid(axis="both", linewidth=0.3)
        axes.set_xlabel("seconds")
        if len(groups) > 1:
            axes.legend(frameon=False, fontsize=8)
        return True

    return draw


def _plain(text: str) -> str:
    return text.replace("`", "")


_FIRST = {"marker": "s", "color": ORANGE}
_LATER = {"marker": "o", "color": BLUE}
DRAWINGS: dict[str, Callable[..., bool]] = {
    "bars": _bars,
    "search": _search,
    "glm": _dots(
        {
            "first": _FIRST | {"label": "first search of a process"},
            "second": _LATER | {"label": "second search"},
        }
    ),
    "one_fit": _dots({"fits": _LATER}),
    "long_fit": _long_fit,
    "reference": _dots(
        {
            "cold": _FIRST | {"label": "first run of a process"},
            "warm": _LATER | {"label": "warm"},
        }
    ),
    "many_fits": _many_fits,
    "certified": _dots({"times": _LATER}),
    "many_rows": _panels("rows"),
    "auto_rule": _panels("parameters"),
}
