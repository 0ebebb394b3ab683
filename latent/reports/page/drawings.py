"""Altair drawings of a section's charts, for the page and for papers.

Colour and dash, or colour and shape, tell the estimators apart, as in :mod:`latent.reports.figures.figures`. A drawing for
the page refers to its rows by the names ``seeds`` and ``means``, which the page's script fills from its one copy of the
data; its parameters ``hidden``, labels of estimators, and ``single``, whether seeds are shown, are that script's too.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from latent.experiment.vocabulary import STEP
from latent.reports.figures.figures import COLOURS, SHAPES, FigureError, domain, lines_of_constant_sum, write
from latent.reports.page.charts import Chart, charts, positions, rows
from latent.reports.page.data import Section
from latent.words import Measured

HEIGHT = 270
PAPER_WIDTH = 440
DASHES = ([1, 0], [7, 3], [2, 2.5], [9, 3, 2, 3], [14, 4])
"""Their number has no factor in common with that of the colours."""
ON_DARK = {"#000000": "#F0E442", "#0072B2": "#3093D6"}
"""On dark, their yellow, which is not seen on white, stands in for Okabe's and Ito's black, and their blue is lighter."""


def theme(dark: bool = False) -> dict[str, Any]:
    """The Vega-Lite configuration of every chart."""
    text, faint, line = ("#c9ced6", "#2c323b", "#5b6470") if dark else ("#444b55", "#e8eaed", "#9aa1ab")
    font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
    axis = {"labelColor": text, "titleColor": text, "gridColor": faint, "domainColor": line, "tickColor": line}
    sizes = {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8, "labelPadding": 4}
    return {
        "background": "transparent" if dark else "white",
        "font": font,
        "axis": axis | sizes,
        "view": {"stroke": None},
        "range": {"category": [ON_DARK.get(colour, colour) if dark else colour for colour in COLOURS], "symbol": list(SHAPES)},
        "legend": {"labelColor": text, "labelFontSize": 11, "symbolOpacity": 1, "symbolSize": 80, "labelLimit": 0},
        "title": {"color": text, "fontSize": 13, "anchor": "start", "fontWeight": 600, "offset": 12},
    }


def for_page(section: Section, chart: Chart) -> dict[str, Any]:
    """A chart's specification, to be filled and switched by the page's script."""
    import altair as alt

    drawn = _Drawing(section, chart, alt.NamedData("seeds"), alt.NamedData("means"), interactive=True).layers()
    layered = alt.layer(*drawn).properties(width="container", height=HEIGHT, description=_described(section, chart))
    specification: dict[str, Any] = layered.to_dict(validate=False)  # a test validates; here it would take most of the time
    switches = [{"name": "hidden", "value": []}, {"name": "single", "value": True}]
    specification["params"] = [*specification.get("params", []), *switches]
    for key in ("$schema", "config"):
        specification.pop(key, None)
    return specification


def for_paper(section: Section, chart: Chart) -> Any:
    """A chart as it stands, with a legend: means over seeds with bands, or for a scatter the runs and their means."""
    import altair as alt

    seeds, means = (alt.InlineData(values=each) for each in rows(section, chart))
    drawn = _Drawing(section, chart, seeds, means, interactive=False).layers()
    layered = alt.layer(*drawn).properties(width=PAPER_WIDTH, height=HEIGHT, title=chart.title)
    layered["config"] = theme()
    return layered


def write_figures(sections: list[Section], folder: Path) -> list[Path]:
    """Write each chart as ``<problem>_<chart>.svg`` and ``.pdf``, and return their paths.

    Raises:
        FigureError: if one cannot be written, or a library is missing.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FigureError(f"cannot write to {folder}: {error.strerror or error}") from error
    written = []
    for section in sections:
        for chart in charts(section):
            drawing = for_paper(section, chart)
            for suffix in (".svg", ".pdf"):
                path = folder / f"{section.problem.replace(' on ', '_').replace('/', '-')}_{chart.name}{suffix}"
                write(drawing, path)
                written.append(path)
    return written


def _described(section: Section, chart: Chart) -> str:
    """What those hear who do not see the chart: what it shows, and the last mean of each estimator."""
    _, means = rows(section, chart)
    ends = [f"{row['estimator']} {row['y']:.4g}" for row in means if row["last"]]
    return f"{chart.title}, of {len(section.shown)} estimators. At the end: {'; '.join(ends) or 'no means yet'}."


class _Drawing:
    """The layers of one chart."""

    def __init__(self, section: Section, chart: Chart, seeds: Any, means: Any, interactive: bool) -> None:
        import altair as alt

        self.chart, self.interactive = chart, interactive
        self.labels = [shown.label for shown in section.shown]
        self.positions = positions(section, chart)
        heights = [y for _, y in self.positions] + [row["y"] for row in rows(section, chart)[1]]
        self.floor = min((y for y in heights if y > 0), default=1.0)
        self.seeds, self.means = alt.Chart(seeds), alt.Chart(means)
        for log, axis in ((chart.log_x, "x"), (chart.log_y, "y")):
            if log:
                self.seeds, self.means = (each.transform_filter(f"datum.{axis} > 0") for each in (self.seeds, self.means))
        if interactive:
            wanted = "(single || datum.seeds < 2)" if chart.kind == "ends" else "single"  # one run of a scatter has no mean
            self.seeds = self.seeds.transform_filter(f"{wanted} && indexof(hidden, datum.estimator) < 0")
            self.means = self.means.transform_filter("indexof(hidden, datum.estimator) < 0")
        self.x, self.y = self._axis("x", alt.X), self._axis("y", alt.Y)

    def layers(self) -> list[Any]:
        return self._scatter() if self.chart.kind == "ends" else self._curves()

    def _curves(self) -> list[Any]:
        import altair as alt

        low = f"max(datum.y - datum.y_std, {self.floor:g})" if self.chart.log_y else "datum.y - datum.y_std"
        band = self.means.transform_filter("datum.seeds > 1").transform_calculate(low=low, high="datum.y + datum.y_std")
        place = {"x": self.x, "y": self.y}
        line = {**place, "color": self._by_estimator("color"), "strokeDash": self._by_estimator("strokeDash")}
        layers = [band.mark_area(opacity=0.16).encode(x=self.x, y=self._axis("low", alt.Y), y2="high:Q", color=line["color"])]
        layers += self._single_seeds(line) if self.interactive else []
        ends = self.means.transform_filter("datum.last").mark_point(filled=True, size=70, opacity=1)
        layers += [
            self.means.mark_line(strokeWidth=2.2).encode(**line),
            ends.encode(**place, color=line["color"], shape=self._by_estimator("shape")),
        ]
        if self.interactive:
            targets = self.means.mark_circle(size=90, opacity=0)
            layers.append(targets.encode(**place, color=line["color"], tooltip=self._tooltip(mean=True)))
        return layers

    def _single_seeds(self, line: dict[str, Any]) -> list[Any]:
        """Thin lines, of which the one nearest to the pointer is drawn strong, and points that say what it shows."""
        import altair as alt

        near = alt.selection_point(name="near", on="pointerover", clear="pointerout", nearest=True, fields=["run"], empty=False)
        lines = self.seeds.mark_line().encode(
            **line,
            detail="run:N",
            opacity=alt.condition(near, alt.value(1), alt.value(0.35)),
            strokeWidth=alt.condition(near, alt.value(2.4), alt.value(1)),
        )
        targets = self.seeds.mark_circle(size=30, opacity=0).encode(
            x=self.x, y=self.y, color=line["color"], tooltip=self._tooltip(mean=False)
        )
        return [lines, targets.add_params(near)]

    def _scatter(self) -> list[Any]:
        import altair as alt

        marks = {"color": self._by_estimator("color"), "shape": self._by_estimator("shape")}
        place = {"x": self.x, "y": self.y}
        several = self.means.transform_filter("datum.seeds > 1").transform_calculate(
            left="datum.x - datum.x_std",
            right="datum.x + datum.x_std",
            low="datum.y - datum.y_std",
            high="datum.y + datum.y_std",
        )
        bars = several.mark_rule(strokeWidth=1.5)
        across = bars.transform_filter("datum.left > 0") if self.chart.log_x else bars
        mean = several.mark_point(filled=False, size=190, strokeWidth=2.2, opacity=1)
        size = alt.condition("datum.seeds > 1", alt.value(45), alt.value(110))
        seed = self.seeds.mark_point(filled=True, opacity=0.65)
        layers = lines_of_constant_sum(*self._domains(), self.chart.level.name) if self.chart.level else []
        layers += [
            seed.encode(**place, **marks, size=size, tooltip=self._tooltip(mean=False)),
            across.encode(x=self._axis("left", alt.X), x2="right:Q", y=self.y, color=marks["color"]),
            bars.encode(x=self.x, y=self._axis("low", alt.Y), y2="high:Q", color=marks["color"]),
            mean.encode(**place, **marks, tooltip=self._tooltip(mean=True)),
        ]
        return layers

    def _domains(self) -> tuple[tuple[float, float], tuple[float, float]]:
        found = [{"x": x, "y": y} for x, y in self.positions]
        return domain(found, "x", 0.12), domain(found, "y", 0.07)

    def _axis(self, field: str, channel: Any) -> Any:
        import altair as alt

        across = channel is alt.X
        metric, log = (self.chart.x, self.chart.log_x) if across else (self.chart.y, self.chart.log_y)
        values = [position[not across] for position in self.positions] or [1.0]
        least, most = min(values), max(values)
        scale = alt.Scale(type="log", nice=False, padding=10) if log else alt.Scale(zero=False)
        if log and least == most:  # a domain of one point has no room for ticks
            scale = alt.Scale(type="log", nice=False, domain=(least / 2, most * 2))
        if self.chart.level:  # the lines fill it
            scale = alt.Scale(domain=self._domains()[not across], nice=False, zero=False)
        elif self.chart.kind == "ends" and not log:
            scale = alt.Scale(zero=False, padding=12)
        form: Any = "%" if metric.is_fraction else alt.Undefined
        if log:
            form = "~s" if most >= 10_000 else "~g"
        ticks: dict[str, Any] = {"values": _powers(least, most)} if log else {"tickCount": 5}
        grid = not across and not self.chart.level
        return channel(f"{field}:Q", scale=scale, axis=alt.Axis(title=metric.short_title, format=form, grid=grid, **ticks))

    def _by_estimator(self, channel: str) -> Any:
        import altair as alt

        if channel == "strokeDash":  # not in the legend: its marks would have dashed edges
            return alt.StrokeDash("estimator:N", scale=alt.Scale(domain=self.labels, range=list(DASHES)), legend=None)
        scale = alt.Scale(domain=self.labels)
        if self.interactive:  # the page has a legend of its own
            legend = None
        else:  # strokes would be dashed as the lines are
            columns = max(1, min(len(self.labels), int(PAPER_WIDTH / (5.5 * max(map(len, self.labels)) + 30))))
            width: Any = alt.Undefined if self.chart.kind == "ends" else 0
            legend = alt.Legend(title=None, orient="bottom", columns=columns, symbolStrokeWidth=width)
        return {"color": alt.Color, "shape": alt.Shape}[channel]("estimator:N", scale=scale, legend=legend)

    def _tooltip(self, mean: bool) -> Any:
        """An expression: Vega-Lite's own loses text where the nearest mark answers, whose datum is one deeper."""
        import altair as alt

        def number(field: str, metric: Measured) -> str:
            form = ".2%" if metric.is_fraction else ",.5~r"
            return f"format(row.{field}, '{form}')"

        shown = (
            {"estimator": "row.estimator", "seeds": "row.seeds"} if mean else {"estimator": "row.estimator", "seed": "row.seed"}
        )
        shown["step"] = "format(row.step, ',')"
        if self.chart.x.metric is not STEP:
            shown[self.chart.x.short_title] = number("x", self.chart.x)
        shown[("mean " if mean else "") + self.chart.y.short_title] = number("y", self.chart.y)
        if mean:
            shown["standard deviation"] = number("y_std", self.chart.y)
        words = ", ".join(f"{json.dumps(key)}: {value}" for key, value in shown.items())
        return alt.TooltipValue(alt.ExprRef(f"{{{words}}}".replace("row.", "(datum.datum || datum).")))


def _powers(least: float, most: float) -> list[float]:
    """Ticks of a logarithmic axis: powers of ten, and of a short one two and five times those too."""
    factors = (1,) if math.log10(most / least) > 2.5 else (1, 2, 5)
    exponents = range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(most)) + 2)
    return [float(f"{factor}e{exponent}") for exponent in exponents for factor in factors]
