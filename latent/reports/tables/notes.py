"""What a table says below its lines: how cells were chosen, and which runs are not in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from latent.reports.runs import Run, without_seed
from latent.reports.selection import Entry
from latent.words import listed, numbered

MOST_NAMES = 5


def selection_notes(entries: Sequence[Entry]) -> list[str]:
    """The rule by which cells were chosen, of how many, and those that could not compete."""
    groups: dict[tuple[int, tuple[str, ...]], list[str]] = defaultdict(list)
    for entry in entries:
        if entry.rejected:
            groups[len(entry.rejected) + 1, _varied(entry)].append(entry.label)
    if not groups:
        return []
    counts = []
    for (n, keys), labels in groups.items():
        of = f" of {listed(keys)}" if keys else ""
        counts.append(f"{n} cells{of} for {listed(labels)}")
    judged = entries[0].judged
    notes = [
        f"Of a grid's cells only one is shown: of those with the most finished seeds, the one with the "
        f"{judged.metric.superlative} mean of {judged.key} over them. Test is reported for this cell alone: "
        f"{'; '.join(counts)}."
    ]
    behind = Counter({entry.label: _behind(entry) for entry in entries})
    if behind.total():
        shown = ", ".join(f"{label}: {n}" for label, n in behind.items() if n)
        notes.append(f"Cells with fewer finished seeds than the one chosen did not compete ({shown}).")
    without = [entry.label for entry in entries if _without_grid(entry)]
    if without:
        notes.append(
            f"Some cells of {listed(without)} differ in nothing that a grid sets, but in their experiment's name or the "
            f"content of their data: if they are not alternatives to choose between, tabulate them apart."
        )
    return notes


def _varied(entry: Entry) -> tuple[str, ...]:
    """The keys of grids in which an entry's cells differ."""
    grids = [cell.grid for cell in (entry.chosen, *entry.rejected)]
    keys = dict.fromkeys(key for grid in grids for key in grid)
    return tuple(key for key in keys if len({repr(grid.get(key)) for grid in grids}) > 1)


def _behind(entry: Entry) -> int:
    return sum(len(cell.runs) < len(entry.chosen.runs) for cell in entry.rejected)


def _without_grid(entry: Entry) -> bool:
    return len({repr(sorted(cell.grid.items())) for cell in (entry.chosen, *entry.rejected)}) <= len(entry.rejected)


def unfinished_notes(entries: Sequence[Entry], unfinished: Sequence[Run]) -> list[str]:
    """For each configuration with failed or unfinished seeds, how many; no number of the table counts them."""
    states: dict[str, Counter[str]] = defaultdict(Counter)
    for run in unfinished:
        states[without_seed(run)]["failed" if run["state"] == "failed" else "unfinished"] += 1
    notes = []
    for entry in entries:
        own = states.pop(without_seed(entry.chosen.runs[0]), Counter())
        if own:
            notes.append(f"{entry.label}: {_states(own, len(entry.chosen.runs) + own.total())}; n counts finished seeds.")
        others: Counter[str] = Counter()
        for cell in entry.rejected:
            others += states.pop(without_seed(cell.runs[0]), Counter())
        if others:
            finished = sum(len(cell.runs) for cell in entry.rejected)
            notes.append(f"{entry.label}, cells not chosen: {_states(others, finished + others.total())}.")
    if states:
        total = sum(states.values(), Counter())
        names = sorted(states)
        shown = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
        subject = "configuration has" if len(states) == 1 else "configurations have"
        notes.append(f"{len(states)} {subject} no finished seed ({_states(total, total.total())}): {shown}.")
    return notes


def _states(states: Counter[str], seeds: int) -> str:
    """``1 of 5 seeds failed, 1 is unfinished``."""
    said = [
        (states["failed"], "failed"),
        (states["unfinished"], "is unfinished" if states["unfinished"] == 1 else "are unfinished"),
    ]
    (first, words), *rest = [(count, words) for count, words in said if count]
    return ", ".join([f"{first} of {numbered(seeds, 'seed')} {words}", *(f"{count} {words}" for count, words in rest)])
