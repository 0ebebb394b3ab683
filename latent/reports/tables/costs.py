"""Columns of what results took to get: training time, validation at a budget of decoder calls, and calls until a value."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from latent.reports.runs import ResultsError
from latent.reports.selection import Entry
from latent.reports.tables.budget import Curve, at_budget, calls_to_reach
from latent.reports.tables.columns import NONE, Column, mean_column, numbers
from latent.words import in_words, style

REACH = 0.9
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


def budget_column(curves: Sequence[Sequence[Curve]], headline: str, budget: float | None) -> list[Cost]:
    """Mean of a metric on validation at the last evaluation at or before a budget; none where nothing was evaluated."""
    if budget is None or not any(curve.calls for members in curves for curve in members):
        return []
    metric = f"val/{headline}"
    found = [[value for curve in members if (value := at_budget(curve, budget)) is not None] for members in curves]
    words, unit = in_words(metric)
    title = f"{words.partition(',')[0]} by {budget:,} decoder calls" + f" ({unit})" * bool(unit)
    column = mean_column(metric, found, [len(members) for members in curves], f"{metric}_at_budget", title)
    column.data["budget"] = [budget] * len(curves)
    note = (
        f"By {budget:,} decoder calls: {metric} at a run's last evaluation up to there; {NONE} where no run had one by then, "
        f"and (k/n) where only k of n had, over which the mean is."
    )
    return [Cost(column, note)]


def reach_column(curves: Sequence[Sequence[Curve]], headline: str, value: float | None) -> list[Cost]:
    """Median decoder calls until validation has a value; none where none is given and the metric is no fraction.

    Raises:
        ResultsError: if the value is not finite, or the metric is a fraction, which cannot be so large.
    """
    metric = f"val/{headline}"
    words, unit = in_words(metric)
    value = REACH if value is None and unit == "%" else value
    if value is None or not any(curve.calls for members in curves for curve in members):
        return []
    if not math.isfinite(value) or (unit == "%" and not 0 < value <= 1):
        limits = f"{metric} is a fraction, above 0 and at most 1" if unit == "%" else "a number must be finite"
        raise ResultsError(f"--reach {value:g}: {limits}")
    medians = [calls_to_reach(members, value) for members in curves]
    texts = [
        NONE if each is None else f"{'' if each.known else '> '}{each.value:,.0f} ({each.reached}/{each.n})" for each in medians
    ]
    written = f"{100 * value:g}%" if unit == "%" else style(metric, [value]).write(value)
    data: dict[str, Sequence[object]] = {
        "reach": [value] * len(medians),
        "reach_calls": [each and each.value for each in medians],
        "reach_known": [each and each.known for each in medians],
        "reach_n": [each and each.reached for each in medians],
    }
    note = (
        f"Until {metric} ≥ {written}: median over seeds of the decoder calls at the first evaluation that has it, late by up "
        f"to an evaluation's interval; (k/n): k of n seeds have it. Where too few do for a median, it is above what follows >."
    )
    warm = any(each and each.value == 0 and each.reached for each in medians)
    note += " It is 0 where a warm start got there, in which no call is counted." if warm else ""
    return [Cost(Column(f"decoder calls until {words.partition(',')[0]} ≥ {written}", texts, data), note)]
