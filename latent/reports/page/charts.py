"""The charts of a section: which there are, what they show in words, and their rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from latent.experiment.vocabulary import DECODER_CALLS, PROBE, SECONDS, STEP
from latent.experiment.vocabulary import TOTAL_DECODER_CALLS as TOTAL
from latent.reports.page.curves import Curve
from latent.reports.page.data import Section
from latent.reports.runs import Row
from latent.words import Measured, Metric, capital

CALLS = DECODER_CALLS.of(DECODER_CALLS.key("test"))


@dataclass(frozen=True)
class Chart:
    """A chart: what is on its axes, and in words what it shows.

    Attributes:
        name: of its files.
        kind: of the rows, as in :func:`~latent.reports.page.curves.kinds`; ``ends`` makes it a scatter.
        x, y: columns of them.
        level: a metric that is minus the sum of the two: where it is constant, there are lines.
    """

    name: str
    kind: str
    x: Measured
    y: Measured
    remark: str = ""
    level: Measured | None = None

    @property
    def log_x(self) -> bool:
        """Whether the axis across is logarithmic."""
        return self.x.metric.logarithmic

    @property
    def log_y(self) -> bool:
        """Whether the axis upwards is logarithmic."""
        return self.y.metric.logarithmic

    @property
    def title(self) -> str:
        """What stands upwards, against what stands across."""
        return capital(f"{self.y.short_on_split} against {self.x.short}")


def charts(section: Section) -> list[Chart]:
    """Those charts of a section that have something to show."""
    vocabulary, measured = section.vocabulary, section.judged
    others = [metric for metric in vocabulary.shown("curve") if metric is not vocabulary.headline]
    scatters = [metric for metric in vocabulary.of_task("ends") if metric is not vocabulary.headline or metric.against]
    candidates = [
        Chart(f"headline_{TOTAL.name}", "val", TOTAL.of(TOTAL.name), measured, TOTAL.remark),
        Chart("headline_steps", "val", STEP.of(STEP.name), measured),
        Chart("headline_time", "val", SECONDS.of(SECONDS.name), measured, SECONDS.remark),
        Chart(f"test_{DECODER_CALLS.name}", "ends", CALLS, vocabulary.judged("test"), "Finished runs, at the end of training."),
        *(_scatter(section, metric) for metric in scatters),
        *(_curve(section, metric, "train") for metric in vocabulary.shown("training")),
        *(_curve(section, metric, "probe" if metric in PROBE else "val") for metric in others),
    ]
    found: dict[str, Chart] = {}
    for chart in candidates:
        if positions(section, chart):
            name = f"{chart.kind}_{chart.name}" if chart.name in found else chart.name
            found[name] = replace(chart, name=name)
    return list(found.values())


def _curve(section: Section, metric: Metric, kind: str) -> Chart:
    """A metric over the steps of training."""
    return Chart(_file(metric.name), kind, STEP.of(STEP.name), section.vocabulary[metric.key(kind)], metric.remark)


def _scatter(section: Section, metric: Metric) -> Chart:
    """A metric of finished runs against another one; without one, against the decoder calls of an example."""
    vocabulary, y = section.vocabulary, section.vocabulary[metric.key("test")]
    if not metric.against:
        remark = metric.remark or ("Finished runs; less is better." if metric.better == "lower" else "Finished runs.")
        return Chart(_file(metric.name), "ends", CALLS, y, remark)
    level = vocabulary[f"test/{metric.level}"] if metric.level else None
    remark = f"Finished runs; dashed lines have the same {level.name}." if level else metric.remark or "Finished runs."
    return Chart(_file(f"{metric.against}_{metric.name}"), "ends", vocabulary[f"test/{metric.against}"], y, remark, level)


def _file(name: str) -> str:
    return name.replace("/", "_")


def positions(section: Section, chart: Chart) -> list[tuple[float, float]]:
    """Where the marks of runs are, of those that can be drawn."""
    pairs = [row for by_kind in section.curves.values() for row in _points(by_kind[chart.kind], chart)]
    return [(row["x"], row["y"]) for row in pairs if (row["x"] > 0 or not chart.log_x) and (row["y"] > 0 or not chart.log_y)]


def rows(section: Section, chart: Chart) -> tuple[list[Row], list[Row]]:
    """The rows of a chart's runs and of its means over seeds; the page's script makes the same ones."""
    seeds, means = [], []
    for shown in section.shown:
        for run in shown.cells[0].runs:
            names = {"estimator": shown.label, "run": run["name"], "seed": run["configuration"]["seed"]}
            names["seeds"] = len(shown.counted)
            seeds += [names | row for row in _points(section.curves[run["name"]][chart.kind], chart)]
        if chart.kind in shown.means:
            spreads = shown.spreads[chart.kind]
            found = _points(shown.means[chart.kind] | {"x_std": spreads[chart.x.key], "y_std": spreads[chart.y.key]}, chart)
            means += [{"estimator": shown.label, "seeds": len(shown.counted), "last": row is found[-1]} | row for row in found]
    return seeds, means


def _points(curve: Curve, chart: Chart) -> list[Row]:
    columns = {"step": "step", "x": chart.x.key, "y": chart.y.key} | {
        name: name for name in ("x_std", "y_std") if name in curve
    }
    found = [{key: float(curve[name][i]) for key, name in columns.items()} for i in range(len(curve["step"]))]
    return [row for row in found if math.isfinite(row["x"]) and math.isfinite(row["y"])]
