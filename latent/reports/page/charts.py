"""The charts of a section: which there are, what they show in words, and their rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from latent.reports.page.curves import Curve
from latent.reports.page.data import Section
from latent.reports.runs import Row
from latent.words import capital, in_words

SUPPORT = "The size of the support, where an estimator sums over it."
VARIANCE = "Over the squared length of the exact gradient. Zeros, which exact gradients have, are not drawn."
BIAS = "Distance of the mean estimate from the exact gradient, relative; below √(variance / draws) it is within chance."


@dataclass(frozen=True)
class Chart:
    """A chart: what is on its axes, and in words what it shows.

    Attributes:
        name: of its files.
        kind: of the rows, as in :func:`~latent.reports.page.curves.kinds`; ``ends`` makes it a scatter.
        x, y: columns of them.
    """

    name: str
    kind: str
    x: str
    y: str
    remark: str = ""
    log_x: bool = False
    log_y: bool = False

    @property
    def title(self) -> str:
        """``Validation success rate against steps``."""
        words = f"{short(self.y)} against {short(self.x).removeprefix('test ')}"
        return capital(words)


def charts(section: Section) -> list[Chart]:
    """Those charts of a section that have something to show."""
    headline = section.headline
    measured, test = f"val/{headline}", f"test/{headline}"
    total, calls = "total_decoder_calls", "test/decoder_calls"
    candidates = [
        Chart(f"headline_{total}", "val", total, measured, "Decoder calls of the whole training so far.", log_x=True),
        Chart("headline_steps", "val", "step", measured),
        Chart("headline_time", "val", "time/seconds", measured, "In seconds, as each run measured it on its machine."),
        Chart("test_decoder_calls", "ends", calls, test, "Finished runs, at the end of training.", log_x=True),
        Chart("rate_distortion", "ends", "test/rate", "test/distortion", "Finished runs; dashed lines have the same ELBO."),
        Chart("bits_per_dim", "ends", calls, "test/bits_per_dim", "Finished runs; less is better.", log_x=True),
        Chart("decoder_calls", "train", "step", "train/decoder_calls", SUPPORT, log_y=True),
        Chart("entropy", "train", "step", "train/entropy", "Of the distribution that the encoder gives, in nats."),
        Chart("messages_in_use", "val", "step", "val/messages_in_use", "Messages that are the most likely one of some game."),
        *([Chart("elbo", "val", "step", "val/elbo")] if headline != "elbo" else []),
        Chart("probe_variance", "probe", "step", "probe/variance", VARIANCE, log_y=True),
        Chart("probe_cosine", "probe", "step", "probe/cosine", "Mean cosine between the estimates and the exact gradient."),
        Chart("probe_bias", "probe", "step", "probe/bias", BIAS),
    ]
    return [chart for chart in candidates if positions(section, chart)]


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
            found = _points(shown.means[chart.kind] | {"x_std": spreads[chart.x], "y_std": spreads[chart.y]}, chart)
            means += [{"estimator": shown.label, "seeds": len(shown.counted), "last": row is found[-1]} | row for row in found]
    return seeds, means


def _points(curve: Curve, chart: Chart) -> list[Row]:
    columns = {"step": "step", "x": chart.x, "y": chart.y} | {name: name for name in ("x_std", "y_std") if name in curve}
    found = [{key: float(curve[name][i]) for key, name in columns.items()} for i in range(len(curve["step"]))]
    return [row for row in found if math.isfinite(row["x"]) and math.isfinite(row["y"])]


def short(metric: str) -> str:
    """A metric in few words: ``validation success rate``."""
    split, _, name = metric.partition("/")
    if split == "probe":
        return f"{name} of the gradient"
    return ("test " if split == "test" else "") + in_words(metric)[0].partition(",")[0]


def titled(metric: str) -> str:
    """The same with its unit: ``training time (s)``; ticks have percent signs of their own."""
    unit = in_words(metric)[1]
    return f"{short(metric)} ({unit})" if unit not in ("", "%") else short(metric)
