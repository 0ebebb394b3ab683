"""Entries against a reference: paired differences over the seeds that both have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from estimators.options import nearest
from latent.reports.runs import ResultsError
from latent.reports.selection import Entry
from latent.reports.statistics import CONFIDENCE, PairedDifference, holm, paired_difference, smallest_p
from latent.reports.tables.columns import NONE, Block, Column
from latent.words import Measured, Style, is_number, numbered

FEW = 5
"""Seeds below which it is warned of: with four, no sign-flip test can have a p-value below 0.125."""


MOST_NAMES = 3


def check_reference(entries: Sequence[Entry], reference: str | None) -> None:
    """Raise ResultsError if no entry has the label, with the labels that there are."""
    labels = sorted({entry.label for entry in entries})
    if reference is not None and reference not in labels:
        hint = nearest(reference, labels)
        raise ResultsError(f"there is no entry {reference!r}{hint}; there are: {', '.join(map(repr, labels))}")


def compare(entries: Sequence[Entry], reference: str, metric: Measured) -> tuple[Block, list[str], list[str]]:
    """The columns of a comparison with the entry that has the label ``reference``; also notes, and warnings.

    Raises:
        ResultsError: if SciPy is not installed.
    """
    base = next(i for i, entry in enumerate(entries) if entry.label == reference)
    values = [_by_seed(entry, metric.key) for entry in entries]
    shared = [sorted(own.keys() & values[base].keys()) for own in values]
    found = [
        paired_difference([own[seed] for seed in seeds], [values[base][seed] for seed in seeds])
        if i != base and len(seeds) > 1
        else None
        for i, (own, seeds) in enumerate(zip(values, shared, strict=True))
    ]
    adjusted = iter(holm([difference.p for difference in found if difference]))
    corrected = [next(adjusted) if difference else None for difference in found]
    counts = [None if i == base else len(seeds) for i, seeds in enumerate(shared)]
    written = metric.style(value for own in values for value in own.values())
    columns = _columns(found, corrected, counts, metric.unit, written)
    others = [(entry.label, count) for entry, count in zip(entries, counts, strict=True) if count is not None]
    words = metric.heading.partition(" (")[0]
    return Block(columns, f"Difference from {reference} in {words}"), _notes(reference, corrected), _warnings(reference, others)


def _by_seed(entry: Entry, metric: str) -> dict[int, float]:
    runs = [run["summary"] for run in entry.chosen.runs]
    return {summary["seed"]: summary[metric] for summary in runs if is_number(summary.get(metric))}


def _columns(
    found: Sequence[PairedDifference | None],
    corrected: Sequence[float | None],
    counts: Sequence[int | None],
    unit: str,
    form: Style,
) -> list[Column]:
    in_unit = f" ({unit})".replace("%", "percentage points") if unit else ""
    shared = [NONE if count is None else str(count) for count in counts]
    differences = [NONE if each is None else form.write(each.mean, "+") for each in found]
    intervals = [NONE if each is None else f"[{form.write(each.low, '+')}, {form.write(each.high, '+')}]" for each in found]
    low, high = [each and each.low for each in found], [each and each.high for each in found]
    p_values = [each.p if each else None for each in found]
    return [
        Column("shared seeds", shared, {"shared_seeds": counts}),
        Column(
            f"mean difference{in_unit}",
            differences,
            {"difference_mean": [each and each.mean for each in found]},
        ),
        Column(f"{100 * CONFIDENCE:g} % confidence interval", intervals, {"difference_low": low, "difference_high": high}),
        Column("p", [_p(p) for p in p_values], {"p": p_values}),
        Column("p, Holm", [_p(p) for p in corrected], {"p_holm": corrected}),
    ]


def _p(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"


def _notes(reference: str, corrected: Sequence[float | None]) -> list[str]:
    count = sum(p is not None for p in corrected)
    return [
        f"Differences from {reference} are paired by seed: mean, Student's {100 * CONFIDENCE:g} % confidence interval, p of "
        f"the two-sided sign-flip permutation test, which with n seeds is 2^(1−n) or more, and p after Holm's correction for "
        f"{numbered(count, 'comparison')}."
    ]


def _warnings(reference: str, counts: Sequence[tuple[str, int]]) -> list[str]:
    groups: dict[int, list[str]] = defaultdict(list)
    for label, count in counts:
        if count < FEW:
            groups[count].append(label)
    warnings = []
    for count, labels in sorted(groups.items(), reverse=True):
        named = ", ".join(labels) if len(labels) <= MOST_NAMES else f"{len(labels)} of {len(counts)} entries"
        limit = f"p cannot be below {smallest_p(count):g}" if count > 1 else "too few to compare"
        seeds = numbered(count, "seed") if count else "no seeds"
        warnings.append(f"{reference} shares {seeds} with {named}: {limit}.")
    return warnings
