"""Validation against decoder calls: what a run has at a budget, and how many calls it takes to reach a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latent.reports.runs import Row, Run, read_rows
from latent.reports.statistics import CensoredMedian, censored_median
from latent.words import Metric, is_number


@dataclass(frozen=True)
class Curve:
    """A run's evaluations on validation, in the order of training.

    Attributes:
        calls: decoder calls in training before each evaluation.
        values: the metric at each.
    """

    calls: Sequence[int]
    values: Sequence[float]


def evaluation_rows(run: Run, metric: str) -> list[Row]:
    """The rows of ``metrics.jsonl`` that have a metric of validation, and the decoder calls so far.

    Raises:
        RunError: if the file is damaged.
    """
    return [row for row in read_rows(run) if is_number(row.get(metric)) and is_number(row.get("total_decoder_calls"))]


def curve(run: Run, metric: str) -> Curve:
    """A run's evaluations; there are none where it has no ``metrics.jsonl``.

    Raises:
        RunError: if the file is damaged.
    """
    rows = evaluation_rows(run, metric)
    return Curve([row["total_decoder_calls"] for row in rows], [row[metric] for row in rows])


def at_budget(curve: Curve, budget: float) -> float | None:
    """The value of the last evaluation at or before a budget of decoder calls; None, if there is none by then."""
    return next((value for calls, value in zip(curve.calls[::-1], curve.values[::-1], strict=True) if calls <= budget), None)


def calls_to_reach(curves: Sequence[Curve], metric: Metric, goal: float) -> CensoredMedian | None:
    """Median over runs of the decoder calls at the first evaluation that has a value or a better one; None without any.

    A run that never has it is censored at its last evaluation: it needs more calls than that.
    """
    if not any(curve.calls for curve in curves):
        return None
    first = [_first(curve, metric, goal) for curve in curves]
    ends = [curve.calls[-1] if curve.calls else 0 for curve in curves]
    calls = [end if found is None else found for found, end in zip(first, ends, strict=True)]
    return censored_median(calls, [found is not None for found in first])


def _first(curve: Curve, metric: Metric, goal: float) -> int | None:
    pairs = zip(curve.calls, curve.values, strict=True)
    return next((calls for calls, value in pairs if metric.reaches(value, goal)), None)
