"""Columns of what results took to get: training time, validation at a budget of decoder calls, and calls until a value."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from latent.reports.runs import ResultsError
from latent.reports.selection import Entry
from latent.reports.statistics import CensoredMedian
from latent.reports.tables.budget import Curve, at_budget, calls_to_reach
from latent.reports.tables.columns import NONE, Column, mean_column, numbers
from latent.words import Better, Measured

REACH: Mapping[Better | None, float | None] = {"higher": 0.9, "lower": 0.1, None: None}
"""The value to reach unless one is given, of metrics that are fractions."""


class Cost(NamedTuple):
    """A column, and the note that says how to read it."""

    column: Column
    note: str


def time_column(entries: Sequence[Entry], reference: str | None) -> list[Cost]:
    """Mean training time over that of the entry labelled ``reference``, else of the fastest; none of a single entry."""
    seconds = [numbers(entry.chosen.runs, "time/seconds") for entry in entries]
    means = [statistics.fmean(values) if any(values) else math.nan for values in seconds]
    known = sorted(
        (entry.label != reference, mean, entry.label) for entry, mean in zip(entries, means, strict=True) if mean > 0
    )
    if not known or len(entries) == 1:
        return []
    _, least, base = known[0]
    ratios = [mean / least if mean > 0 else None for mean in means]
    texts = [NONE if ratio is None else f"{ratio:,.2f}" for ratio in ratios]
    column = Column(f"training time (that of {base} is 1)", texts, {"time_ratio": ratios})
    return [Cost(column, "Training time is wall time of a whole run; it depends on the machine and on what else that did.")]


def budget_column(curves: Sequence[Sequence[Curve]], metric: Measured, budget: float | None) -> list[Cost]:
    """Mean of a metric on validation at the last evaluation at or before a budget; none where nothing was evaluated."""
    if budget is None or not _evaluated(curves):
        return []
    found = [[value for curve in members if (value := at_budget(curve, budget)) is not None] for members in curves]
    unit = f" ({metric.unit})" if metric.unit else ""
    title = f"{metric.short} by {budget:,} decoder calls{unit}"
    column = mean_column(metric, found, [len(members) for members in curves], f"{metric.key}_at_budget", title)
    column.data["budget"] = [budget] * len(curves)
    note = (
        f"By {budget:,} decoder calls: {metric.key} at a run's last evaluation up to there; {NONE} where no run had one by "
        f"then, and (k/n) where only k of n had, over which the mean is."
    )
    return [Cost(column, note)]


def reach_column(curves: Sequence[Sequence[Curve]], metric: Measured, value: float | None) -> list[Cost]:
    """Median decoder calls until validation has a value; none where none is given and the metric is no fraction.

    Raises:
        ResultsError: if the value is not finite, the metric is a fraction, which cannot have it, or it is not known which of
            its values are better.
    """
    goal = REACH[metric.metric.better] if value is None and metric.is_fraction else value
    if goal is None or not _evaluated(curves):
        return []
    _check_goal(metric, goal)
    medians = [calls_to_reach(members, metric.metric, goal) for members in curves]
    written = f"{100 * goal:g}%" if metric.is_fraction else metric.style([goal]).write(goal)
    condition = f"{metric.metric.sign} {written}"
    data: dict[str, Sequence[object]] = {
        "reach": [goal] * len(medians),
        "reach_calls": [each and each.value for each in medians],
        "reach_known": [each and each.known for each in medians],
        "reach_n": [each and each.reached for each in medians],
    }
    heading = f"decoder calls until {metric.short} {condition}"
    return [Cost(Column(heading, list(map(_median, medians)), data), _reach_note(metric, condition, medians))]


def _evaluated(curves: Sequence[Sequence[Curve]]) -> bool:
    return any(curve.calls for members in curves for curve in members)


def _check_goal(metric: Measured, goal: float) -> None:
    if metric.metric.better is None:
        raise ResultsError(f"--reach {goal:g}: whether higher or lower values of {metric.key} are better is not known")
    if metric.is_fraction and not 0 < goal <= 1:
        raise ResultsError(f"--reach {goal:g}: {metric.key} is a fraction, above 0 and at most 1")
    if not math.isfinite(goal):
        raise ResultsError(f"--reach {goal:g}: a number must be finite")


def _median(found: CensoredMedian | None) -> str:
    """``1,234 (4/5)``; ``> 1,234 (1/5)`` of a median that is only known to be above."""
    if found is None:
        return NONE
    above = "" if found.known else "> "
    return f"{above}{found.value:,.0f} ({found.reached}/{found.n})"


def _reach_note(metric: Measured, condition: str, medians: Sequence[CensoredMedian | None]) -> str:
    note = (
        f"Until {metric.key} {condition}: median over seeds of the decoder calls at the first evaluation that has it, late by "
        f"up to an evaluation's interval; (k/n): k of n seeds have it. Where too few do for a median, it is above what "
        f"follows >."
    )
    if any(each and each.value == 0 and each.reached for each in medians):
        note += " It is 0 where a warm start got there, in which no call is counted."
    return note
