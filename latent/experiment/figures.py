"""Figures of finished runs: one summary metric against another, such as the distortion of VAEs against their rate.

A figure is an Altair chart. Colours are those of Okabe and Ito that are seen on white, in an order that keeps neighbours
apart; every estimator has a shape of its own too, for those who see no colours and for print.

Reference: M. Okabe, K. Ito: Color Universal Design, 2002.
"""

from __future__ import annotations

import difflib
import importlib.util
import io
import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from latent.experiment.finished import Run, estimator_labels, without_seed
from latent.files import write_atomically

if TYPE_CHECKING:
    import altair as alt

SUFFIXES = (".svg", ".png", ".pdf", ".html", ".json")
WIDTH, HEIGHT = 700, 440
"""Pixels: of the whole figure, and of its plot without title, axis and legend."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "M0,-1.1L0.26,-0.36L1.05,-0.34L0.42,0.14L0.65,0.89L0,0.45L-0.65,0.89L-0.42,0.14L-1.05,-0.34L-0.26,-0.36Z",  # a star
    "triangle-right",
    "M-0.9,-0.9L0.9,-0.9L-0.9,0.9L0.9,0.9Z",  # an hourglass
    "triangle-left",
    "M-0.9,-0.9L0.9,0.9L0.9,-0.9L-0.9,0.9Z",  # a bow tie
)
"""As many as no multiple of the colours, so that the pairs repeat late where there are more estimators than shapes."""

WORDS = {
    "rate": ("rate", "nats"),
    "distortion": ("distortion", "nats"),
    "argmax_distortion": ("distortion of the most likely state", "nats"),
    "elbo": ("ELBO", "nats"),
    "log_likelihood": ("log-likelihood", "nats"),
    "entropy": ("entropy of q", "nats"),
    "bits_per_dim": ("bits per dimension", ""),
    "success_rate": ("success rate, most likely message", "%"),
    "expected_success_rate": ("success rate, expected", "%"),
    "accuracy": ("accuracy, most likely label", "%"),
    "expected_accuracy": ("accuracy, expected", "%"),
    "decoder_calls": ("decoder calls per example", ""),
    "total_decoder_calls": ("decoder calls in training", ""),
    "time/seconds": ("training time", "s"),
    "step": ("steps", ""),
}
"""Metrics of the summary, without their split, in words and with their units; ``%`` are fractions of one."""
MENU = {"export": True, "source": False, "compiled": False, "editor": False}
MENU = {"export": True, "source": False, "compiled": False, "editor": False}
SPLITS = {"test": "", "val": "validation ", "train": "training "}


class FigureError(Exception):
    """A figure cannot be drawn as asked for; the message says why and what could be."""


def in_words(metric: str) -> tuple[str, str]:
    """A metric's name and its unit: ``("validation rate", "nats")``."""
    split, _, name = metric.partition("/")
    if metric in WORDS or split not in SPLITS:
        split, name = "test", metric
    words, unit = WORDS.get(name, (name.replace("/", ", ").replace("_", " "), ""))
    return SPLITS[split] + words, unit


def title(metric: str) -> str:
    """A metric as the title of an axis: ``validation rate (nats)``."""
    words, unit = in_words(metric)
    return f"{words} ({unit})" if unit not in ("", "%") else words  # ticks have their own percent signs


def title(metric: str) -> str:
    """A metric as the title of an axis: ``validation rate (nats)``."""
    words, unit = in_words(metric)
    return f"{words} ({unit})" if unit not in ("", "%") else words  # ticks have their own percent signs


def default_name(x: str, y: str) -> str:
    """The name of a figure's file, such as ``rate_distortion.svg``."""
    return "_".join(metric.removeprefix("test/").replace("/", "_") for metric in (x, y)) + ".svg"


def points(runs: Sequence[Run], x: str, y: str) -> list[dict[str, Any]]:
    """A row for each run that has both metrics, as finite numbers; those without are left out.

    Raises:
        FigureError: if no run has a metric, or none has both.
    """
    names = sorted({name for run in runs for name, value in run["summary"].items() if _is_number(value)} - {"seed"})
    for metric in (x, y):
        if metric not in names:
            raise FigureError(f"no run has the metric {metric!r}{_nearest(metric, names)}")
    shown = [run for run in runs if all(_is_number(run["summary"].get(metric)) for metric in (x, y))]
    if not shown:
        raise FigureError(f"no run has both {x!r} and {y!r}")
    return [
        {
            "x": run["summary"][x],
            "y": run["summary"][y],
            "estimator": label,
            "run": run["summary"]["run"],
            "seed": run["summary"]["seed"],
            "configuration": without_seed(run),
            "task": _task(run),
        }
        for run, label in zip(shown, estimator_labels(shown), strict=True)
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _nearest(metric: str, names: Sequence[str]) -> str:
    """Metrics of the same name in another split, else those that are spelt alike, else those of the test split."""
    same = [name for name in names if name.split("/")[-1] == metric.split("/")[-1]]
    close = sorted(same, key=lambda name: not name.startswith("test/")) or difflib.get_close_matches(metric, names, 3)
    if close:
        return f"; did you mean {' or '.join(map(repr, close[:3]))}?"
    return f"; there are: {', '.join([name for name in names if name.startswith('test/')] or names)}"


def _task(run: Run) -> str:
    data = run["configuration"].get("data")
    return (
        f"{run['summary']['task']} on {data['name']}" if isinstance(data, dict) and "name" in data else run["summary"]["task"]
    )


def means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and sample standard deviation of each configuration that has two seeds or more."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["configuration"]].append(row)
    found = []
    for members in groups.values():
        if len(members) > 1:
            mean: dict[str, Any] = {"estimator": members[0]["estimator"], "seeds": len(members)}
            for axis in ("x", "y"):
                values = [float(member[axis]) for member in members]
                centre, spread = statistics.mean(values), statistics.stdev(values)
                mean |= {axis: centre, f"{axis}_std": spread, f"{axis}_low": centre - spread, f"{axis}_high": centre + spread}
            found.append(mean)
    return found


def scatter(rows: Sequence[dict[str, Any]], x: str, y: str) -> alt.LayerChart:
    """The chart of :func:`points`: a mark for each run, and a larger one with bars for each mean over seeds.

    Where the metrics are the rate and the distortion of one split, lines of constant ELBO lie behind.

    Raises:
        FigureError: if Altair is not installed.
    """
    alt = _imported("altair")
    averages = means(rows)
    across, up = (_domain([*rows, *averages], axis) for axis in "xy")
    tradeoff = sorted((x, y)) == sorted(f"{x.partition('/')[0]}/{name}" for name in ("rate", "distortion"))
    labels = sorted({row["estimator"] for row in rows})
    legend = alt.Legend(title=None, orient="bottom", columns=_columns(labels), labelLimit=0, symbolOpacity=1, symbolSize=110)

    def by_estimator(channel: Any, values: Sequence[str]) -> Any:
        scale = alt.Scale(domain=labels, range=[values[i % len(values)] for i in range(len(labels))])
        return channel("estimator:N", scale=scale, legend=legend)

    encoding = {
        "x": alt.X("x:Q", scale=alt.Scale(domain=across, nice=False), axis=_axis(x, across, grid=not tradeoff)),
        "y": alt.Y("y:Q", scale=alt.Scale(domain=up, nice=False), axis=_axis(y, up, grid=not tradeoff)),
        "color": by_estimator(alt.Color, COLOURS),
        "shape": by_estimator(alt.Shape, SHAPES),
    }
    layers = _lines_of_constant_elbo(across, up) if tradeoff else []
    layers.append(_marks_of_runs(rows, encoding, x, y))
    if averages:
        layers += _marks_of_means(averages, encoding, x, y)
    chart: alt.LayerChart = (
        alt.layer(*layers)
        .properties(
            width=WIDTH,
            height=HEIGHT,
            autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
            title=alt.TitleParams(_headline(x, y), subtitle=_subtitle(rows, averages), anchor="start", offset=20),
        )
        .configure_axis(labelFontSize=12, titleFontSize=13, titleFontWeight="normal", titlePadding=8, gridColor="#eeeeee")
        .configure_legend(labelFontSize=12, offset=14, columnPadding=24, rowPadding=4)
        .configure_title(fontSize=15, subtitleFontSize=12, subtitleColor="#555555", subtitlePadding=5)
        .configure_view(stroke="#bbbbbb")
    )
    return chart


def _marks_of_runs(rows: Sequence[dict[str, Any]], encoding: dict[str, Any], x: str, y: str) -> Any:
    """Filled marks, small where a mean stands for them."""
    import altair as alt

    seeds = Counter(row["configuration"] for row in rows)
    sized = [row | {"size": 45 if seeds[row["configuration"]] > 1 else 130} for row in rows]
    tooltip = ["estimator:N", "seed:Q", *(_tooltip(axis, metric) for axis, metric in (("x", x), ("y", y))), "run:N"]
    marks = alt.Chart(alt.InlineData(values=sized)).mark_point(filled=True, opacity=0.65)
    return marks.encode(**encoding, size=alt.Size("size:Q", scale=None, legend=None), tooltip=tooltip)


def _marks_of_means(averages: Sequence[dict[str, Any]], encoding: dict[str, Any], x: str, y: str) -> list[Any]:
    """Open marks, through which the seeds are seen, with bars of one standard deviation to each side."""
    import altair as alt

    tooltip = ["estimator:N", "seeds:Q"]
    for axis, metric in (("x", x), ("y", y)):
        tooltip += [_tooltip(axis, metric, "mean of "), _tooltip(f"{axis}_std", metric, "standard deviation of ")]
    chart = alt.Chart(alt.InlineData(values=averages))
    bars = chart.mark_rule(strokeWidth=1.5).encode(color=encoding["color"])
    return [
        bars.encode(x="x_low:Q", x2="x_high:Q", y=encoding["y"]),
        bars.encode(x=encoding["x"], y="y_low:Q", y2="y_high:Q"),
        chart.mark_point(filled=False, size=260, strokeWidth=2.2, opacity=1).encode(**encoding, tooltip=tooltip),
    ]


def _lines_of_constant_elbo(across: tuple[float, float], up: tuple[float, float]) -> list[Any]:
    """Faint diagonals, each with its ELBO at its upper left end."""
    import altair as alt

    lowest, highest = across[0] + up[0], across[1] + up[1]
    step = _round_step((highest - lowest) / 7)
    lines = []
    for i in range(math.ceil(lowest / step), math.floor(highest / step) + 1):
        level = i * step
        left, right = max(across[0], level - up[1]), min(across[1], level - up[0])
        if left < right:
            text = f"ELBO {-level or 0.0:.6g}".replace("-", "−")
            lines.append({"left": left, "right": right, "top": level - left, "bottom": level - right, "text": text})
    chart = alt.Chart(alt.InlineData(values=lines))
    ends = chart.encode(x="left:Q", y="top:Q")
    return [
        ends.mark_rule(color="#cccccc", strokeDash=[4, 3]).encode(x2="right", y2="bottom"),
        ends.mark_text(color="#888888", fontSize=10, align="left", baseline="bottom", dx=4, dy=-2).encode(text="text:N"),
    ]


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below ``least``."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= least), 10 * power)


def _domain(rows: Sequence[dict[str, Any]], axis: str) -> tuple[float, float]:
    """What holds every mark and every bar, with a margin."""
    values = [row[key] for row in rows for key in (axis, f"{axis}_low", f"{axis}_high") if key in row]
    low, high = min(values), max(values)
    margin = 0.07 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _axis(metric: str, domain: tuple[float, float], grid: bool) -> Any:
    import altair as alt

    form = "~%" if in_words(metric)[1] == "%" else "~s" if max(map(abs, domain)) >= 10_000 else alt.Undefined
    return alt.Axis(title=title(metric), format=form, grid=grid, tickCount=8, labelFlush=False)


def _tooltip(field: str, metric: str, before: str = "") -> Any:
    import altair as alt

    return alt.Tooltip(f"{field}:Q", title=before + title(metric), format=".4%" if in_words(metric)[1] == "%" else ",.6~r")


def _columns(labels: Sequence[str]) -> int:
    """As many columns of the legend as have room, at about seven pixels for a letter."""
    return max(1, min(len(labels), WIDTH // (7 * max(map(len, labels)) + 45)))


def _headline(x: str, y: str) -> str:
    words = f"{in_words(y)[0]} against {in_words(x)[0]}"
    return words[0].upper() + words[1:]


def _subtitle(rows: Sequence[dict[str, Any]], averages: Sequence[dict[str, Any]]) -> list[str]:
    tasks = Counter(row["task"] for row in rows)
    shown = ", ".join(sorted(tasks)) if len(tasks) < 4 else f"{len(tasks)} tasks and data sets"
    lines = [f"{shown}: {len(rows)} run{'s' * (len(rows) > 1)}"]
    return lines + ["large open marks: mean over seeds ± one standard deviation"] * bool(averages)


def write(chart: alt.LayerChart, path: Path) -> None:
    """Write a chart, as the suffix of ``path`` says, whole or not at all.

    Raises:
        FigureError: if the suffix is none of ``SUFFIXES``, the file cannot be written, or vl-convert is not installed.
    """
    check_suffix(path)
    content = _rendered(chart, path.suffix.lower())
    try:
        write_atomically(path, lambda stream: stream.write(content))
    except OSError as error:
        raise FigureError(f"cannot write to {path}: {error.strerror or error}") from error


def check_suffix(path: Path) -> None:
    """Raise FigureError if the suffix is none of ``SUFFIXES``."""
    if path.suffix.lower() not in SUFFIXES:
        got = f"not {path.suffix}" if path.suffix else "it has none"
        raise FigureError(f"{path}: the suffix must be one of {', '.join(SUFFIXES)}; {got}")


def _rendered(chart: alt.LayerChart, suffix: str) -> bytes:
    if suffix == ".json":
        return (chart.to_json(indent=2) + "\n").encode()
    _imported("vl_convert")
    stream: Any = io.StringIO() if suffix in (".svg", ".html") else io.BytesIO()
    options: dict[str, Any] = {}
    if suffix == ".png":
        options = {"scale_factor": 2}
    if suffix == ".html":  # the menu's link to an editor on the web is left out: nothing is to leave the file
        options = {"inline": True, "json_kwds": {"cls": _ForScripts}, "embed_options": {"actions": MENU}}
    chart.save(stream, format=suffix[1:], **options)
    content = stream.getvalue()
    return content.encode() if isinstance(content, str) else content


class _ForScripts(json.JSONEncoder):
    """JSON that can stand in an HTML script: whatever a label holds, it does not end the script."""

    def encode(self, o: Any) -> str:
        return super().encode(o).replace("<", "\\u003c")


def _imported(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = {"altair": "Altair", "vl_convert": "vl-convert"}[module]
        raise FigureError(f"a figure needs {name}, which is not installed: pip install 'discrete-latent[report]'") from error
