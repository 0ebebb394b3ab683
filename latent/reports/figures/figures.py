"""Figures of finished runs: one metric of their summaries against another.

Colours are those of Okabe and Ito that are seen on white. Every estimator has a shape of its own too, for those who see no
colours and for print.

Reference: M. Okabe, K. Ito: Color Universal Design, 2002.
"""

from __future__ import annotations

import importlib.util
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latent.files import write_atomically
from latent.reports.figures.points import means
from latent.reports.runs import Row
from latent.words import Measured, capital, numbered

SUFFIXES = (".svg", ".png", ".pdf", ".html", ".json")
WIDTH, HEIGHT = 700, 440
"""Pixels: the width of the whole figure, and the height of the plot without title, axis and legend."""
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
"""Their number and that of the colours have no common factor: where there are more estimators, pairs repeat late."""


class FigureError(Exception):
    """A figure cannot be drawn as asked for; the message says why and what could be."""


def default_name(x: str, y: str) -> str:
    """The name of a figure's file: ``<x>_<y>.svg``."""
    return "_".join(metric.removeprefix("test/").replace("/", "_") for metric in (x, y)) + ".svg"


def scatter(rows: Sequence[Row], x: Measured, y: Measured, level: Measured | None = None) -> Any:
    """An Altair chart of what :func:`~latent.reports.figures.points.points` returns.

    It has a mark for each run, and a larger one with bars for each mean over seeds. Where ``level`` is minus the sum of the
    two metrics, lines on which it is constant lie behind.

    Raises:
        FigureError: if Altair is not installed.
    """
    check_installed("altair", "Altair")
    import altair as alt

    averages = means(rows)
    across = domain([*rows, *averages], "x", 0.12 if level else 0.07)  # room for the words at the ends of the lines
    up = domain([*rows, *averages], "y", 0.07)
    labels = sorted({row["estimator"] for row in rows})
    legend = alt.Legend(title=None, orient="bottom", columns=_columns(labels), labelLimit=0, symbolOpacity=1, symbolSize=110)

    def by_estimator(channel: Any, values: Sequence[str]) -> Any:
        scale = alt.Scale(domain=labels, range=[values[i % len(values)] for i in range(len(labels))])
        return channel("estimator:N", scale=scale, legend=legend)

    encoding = {
        "x": alt.X("x:Q", scale=alt.Scale(domain=across, nice=False, zero=False), axis=_axis(x, across, grid=not level)),
        "y": alt.Y("y:Q", scale=alt.Scale(domain=up, nice=False, zero=False), axis=_axis(y, up, grid=not level)),
        "color": by_estimator(alt.Color, COLOURS),
        "shape": by_estimator(alt.Shape, SHAPES),
    }
    layers = lines_of_constant_sum(across, up, level.name) if level else []
    layers.append(_marks_of_runs(rows, encoding, x, y))
    if averages:
        layers += _marks_of_means(averages, encoding, x, y)
    return (
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


def _marks_of_runs(rows: Sequence[Row], encoding: Row, x: Measured, y: Measured) -> Any:
    """Filled marks, small where a mean stands for them."""
    import altair as alt

    seeds = Counter(row["configuration"] for row in rows)
    sized = [row | {"size": 45 if seeds[row["configuration"]] > 1 else 130} for row in rows]
    tooltip = ["estimator:N", "seed:Q", *(_tooltip(axis, metric) for axis, metric in (("x", x), ("y", y))), "run:N"]
    marks = alt.Chart(alt.InlineData(values=sized)).mark_point(filled=True, opacity=0.65)
    return marks.encode(**encoding, size=alt.Size("size:Q", scale=None, legend=None), tooltip=tooltip)


def _marks_of_means(averages: Sequence[Row], encoding: Row, x: Measured, y: Measured) -> list[Any]:
    """Open marks, through which the seeds are seen, with bars of one standard deviation to each side."""
    import altair as alt

    tooltip: list[Any] = ["estimator:N", "seeds:Q"]
    for axis, metric in (("x", x), ("y", y)):
        tooltip += [_tooltip(axis, metric, "mean of "), _tooltip(f"{axis}_std", metric, "standard deviation of ")]
    chart = alt.Chart(alt.InlineData(values=averages))
    bars = chart.mark_rule(strokeWidth=1.5).encode(color=encoding["color"])
    return [
        bars.encode(x="x_low:Q", x2="x_high:Q", y=encoding["y"]),
        bars.encode(x=encoding["x"], y="y_low:Q", y2="y_high:Q"),
        chart.mark_point(filled=False, size=260, strokeWidth=2.2, opacity=1).encode(**encoding, tooltip=tooltip),
    ]


def lines_of_constant_sum(across: tuple[float, float], up: tuple[float, float], name: str) -> list[Any]:
    """Faint diagonals, each with minus the sum, which has a name, at its upper left end."""
    import altair as alt

    lowest, highest = across[0] + up[0], across[1] + up[1]
    step = _round_step((highest - lowest) / 10)
    lines = []
    for i in range(math.ceil(lowest / step), math.floor(highest / step) + 1):
        level = i * step
        left, right = max(across[0], level - up[1]), min(across[1], level - up[0])
        if left < right:
            text = f"{name} {-level or 0.0:.6g}".replace("-", "−")
            lines.append({"left": left, "right": right, "top": level - left, "bottom": level - right, "text": text})
    ends = alt.Chart(alt.InlineData(values=lines)).encode(x="left:Q", y="top:Q")
    return [
        ends.mark_rule(color="#cccccc", strokeDash=[4, 3]).encode(x2="right", y2="bottom"),
        ends.mark_text(color="#777777", fontSize=10, align="left", baseline="bottom", dx=4, dy=-2).encode(text="text:N"),
    ]


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below ``least``."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= least), 10 * power)


def domain(rows: Sequence[Row], axis: str, below: float) -> tuple[float, float]:
    """What holds every mark and every bar, with margins; ``below`` is the lower one's part of the range."""
    values = [row[key] for row in rows for key in (axis, f"{axis}_low", f"{axis}_high") if key in row]
    low, high = min(values), max(values)
    if low == high:
        margin = 0.05 * abs(low) or 1.0
        return low - margin, high + margin
    return low - below * (high - low), high + 0.07 * (high - low)


def _axis(metric: Measured, domain: tuple[float, float], grid: bool) -> Any:
    import altair as alt

    form: Any = "~s" if max(map(abs, domain)) >= 10_000 else alt.Undefined
    if metric.is_fraction:  # every tick with the digits that a tenth of the range needs
        form = f".{max(0, -math.floor(math.log10(10 * (domain[1] - domain[0]))))}%"
    return alt.Axis(title=metric.title, format=form, grid=grid, tickCount=8)


def _tooltip(field: str, metric: Measured, before: str = "") -> Any:
    import altair as alt

    return alt.Tooltip(f"{field}:Q", title=before + metric.title, format=".4%" if metric.is_fraction else ",.8~r")


def _columns(labels: Sequence[str]) -> int:
    """As many columns of the legend as have room, at about seven pixels a letter."""
    return max(1, min(len(labels), WIDTH // (7 * max(map(len, labels)) + 45)))


def _headline(x: Measured, y: Measured) -> str:
    return capital(f"{y.words} against {x.words}")


def _subtitle(rows: Sequence[Row], averages: Sequence[Row]) -> list[str]:
    tasks = sorted({row["task"] for row in rows})
    shown = ", ".join(tasks) if len(tasks) < 4 else f"{len(tasks)} tasks and data sets"
    lines = [f"{shown}: {numbered(len(rows), 'run')}"]
    return [*lines, "large open marks: mean over seeds ± one standard deviation"] if averages else lines


def check_suffix(path: Path) -> None:
    """Raise FigureError if the suffix is none of ``SUFFIXES``."""
    if path.suffix.lower() not in SUFFIXES:
        got = f"not {path.suffix}" if path.suffix else "it has none"
        raise FigureError(f"{path}: the suffix must be one of {', '.join(SUFFIXES)}; {got}")


def write(chart: Any, path: Path) -> None:
    """Write a chart as the suffix of ``path`` says, whole or not at all.

    Raises:
        FigureError: if the suffix is none of ``SUFFIXES``, the file cannot be written, or vl-convert is not installed.
    """
    check_suffix(path)
    content = _rendered(chart, path.suffix.lower())
    try:
        write_atomically(path, lambda stream: stream.write(content))
    except OSError as error:
        raise FigureError(f"cannot write to {path}: {error.strerror or error}") from error


def _rendered(chart: Any, suffix: str) -> bytes:
    if suffix == ".json":
        return f"{chart.to_json(indent=2)}\n".encode()
    check_installed("vl_convert", "vl-convert")
    stream: Any = io.StringIO() if suffix in (".svg", ".html") else io.BytesIO()
    options: dict[str, Any] = {"scale_factor": 2} if suffix == ".png" else {}
    if suffix == ".html":  # the menu has images to save, but no editor on the web: the page is to need and ask nobody
        menu = {"export": True, "source": False, "compiled": False, "editor": False}
        options = {"inline": True, "json_kwds": {"cls": _ForScripts}, "embed_options": {"actions": menu}}
    try:
        chart.save(stream, format=suffix[1:], **options)
    except RuntimeError as error:  # of Altair, when vl-convert is too old for it
        raise FigureError(f"{error}: pip install --upgrade altair vl-convert-python") from error
    content = stream.getvalue()
    return content.encode() if isinstance(content, str) else content


class _ForScripts(json.JSONEncoder):
    """JSON to stand in an HTML script, which no label can end."""

    def encode(self, o: Any) -> str:
        return super().encode(o).replace("<", "\\u003c")


def check_installed(module: str, name: str) -> None:
    """Raise FigureError, which says what to install, if there is no such module; ``name`` is the library's name."""
    if importlib.util.find_spec(module) is None:
        raise FigureError(f"a figure needs {name}, which is not installed: pip install 'discrete-latent[report]'")
