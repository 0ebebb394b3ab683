"""What runs wrote down while they trained, as arrays; its mean over seeds; and fewer points where there are many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent.experiment.run_directory import RunDirectory
from latent.experiment.vocabulary import DECODER_CALLS, PROBE, SECONDS, STEP, TOTAL_DECODER_CALLS, Vocabulary
from latent.reports.runs import Run, read_rows

Array = NDArray[np.float64]
Curve = dict[str, Array]
"""Columns of one length, NaN where a value is missing; ``step`` is one of them and rises."""

ACROSS = (TOTAL_DECODER_CALLS.name, SECONDS.name)
PER_CURVE, IN_ALL = 200, 12_000
"""Points that a curve, and all curves of one kind in a section, are thinned to."""


def kinds(vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """The kinds of rows that runs write, each with its metrics; a row is of a kind if it has the first one.

    ``ends`` has what finished runs measured on the test split.
    """
    ends = [name for metric in vocabulary.of_task("ends") for name in (metric.against, metric.name) if name]
    found = {
        "val": (vocabulary.judged("val").key, *(metric.key("val") for metric in vocabulary.of_task("curve")), *ACROSS),
        "train": (DECODER_CALLS.key("train"), *(metric.key("train") for metric in vocabulary.shown("training"))),
        "probe": tuple(metric.name for metric in PROBE),
        "ends": (vocabulary.judged("test").key, DECODER_CALLS.key("test"), *(f"test/{name}" for name in ends)),
    }
    return {kind: tuple(dict.fromkeys(keys)) for kind, keys in found.items()}


@dataclass(frozen=True)
class History:
    """A run's curves by kind, and the last step that it wrote down."""

    curves: dict[str, Curve]
    last_step: int


def history(run: Run, vocabulary: Vocabulary) -> History:
    """Read a run's ``metrics.jsonl``.

    Raises:
        RunError: if the file is damaged.
    """
    rows = read_rows(run)
    curves = {}
    ends = [run["summary"]] if run["summary"] else []
    for kind, metrics in kinds(vocabulary).items():
        members = ends if kind == "ends" else [row for row in rows if metrics[0] in row]
        try:
            curves[kind] = _columns(members, (STEP.name, *metrics))
        except (TypeError, ValueError) as error:
            files = RunDirectory(run["directory"])
            raise files.damaged(files.metrics, "a metric is no number") from error
    return History(curves, rows[-1]["step"] if rows else run["summary"].get("step", 0))


def _columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Curve:
    columns = {name: np.array([row.get(name, np.nan) for row in rows], dtype=np.float64) for name in names}
    steps, first = np.unique(columns["step"], return_index=True)
    for name, column in columns.items():
        column[~np.isfinite(column)] = np.nan
        columns[name] = column[first]
    return columns | {"step": steps}


def average(curves: Sequence[Curve]) -> tuple[Curve, Curve]:
    """Mean and sample standard deviation over seeds, at the steps that every curve has; of one curve, the latter is 0.

    Decoder calls and seconds are averaged like all else: where a mean curve stands is its seeds' mean at that step.
    """
    steps = reduce(np.intersect1d, [curve["step"] for curve in curves])
    mean: Curve = {}
    spread: Curve = {}
    for name in curves[0]:
        values = np.stack([curve[name][np.searchsorted(curve["step"], steps)] for curve in curves])
        mean[name] = values.mean(0)
        spread[name] = values.std(0, ddof=1) if len(curves) > 1 else np.zeros(len(steps))
    return mean | {"step": steps}, spread | {"step": steps}


def thinned(curve: Curve, most: int) -> Curve:
    """At most ``most`` points, at least 2, evenly among those there are, with the first and the last."""
    count = len(curve["step"])
    if count <= most:
        return curve
    kept = np.unique(np.linspace(0, count - 1, most).round().astype(int))
    return {name: column[kept] for name, column in curve.items()}
