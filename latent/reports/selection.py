"""What a table or a page compares: configurations with their seeds, and of a sweep's grid only the cell that validation chose.

Runs that differ in their seed are a *cell*. Cells that differ only in keys that the grid of a sweep sets are one *entry*: its
cell with the best mean of the headline metric on validation is the chosen one, and its test metrics alone are reported. A
key of any grid is one of the whole problem: a run of no sweep competes with those of the grid.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from latent.experiment import parts
from latent.experiment.settings import UNNOTICED
from latent.experiment.vocabulary import Vocabulary
from latent.experiment.yaml_source import flatten
from latent.reports.runs import ResultsError, Run, estimator_labels, grid_keys, without_seed
from latent.words import Measured, is_number

NO_SETTINGS = (
    "task",
    "experiment",
    "seed",
    "estimator.",
    "data.name",
    "data.path",
    "tracking.",
    *(f"train.{name}" for name in UNNOTICED),
)
"""Keys of a configuration, and beginnings of keys, that do not tell two entries of one problem apart."""


@dataclass(frozen=True)
class Cell:
    """Finished runs that differ in their seeds, in the order of these.

    Attributes:
        grid: their values of the keys that grids set, dotted; empty without a sweep.
        runs: at least one.
        validation: mean over seeds of the headline metric on validation at the end of training.
    """

    grid: dict[str, Any]
    runs: list[Run]
    validation: float


@dataclass(frozen=True)
class Entry:
    """A line of a table and a colour of a chart: an estimator with its options, and what was chosen for it.

    Attributes:
        label: ``estimator``, with settings where that alone would not be unique in the problem.
        estimator: its name with the options that differ.
        problem: task and data set, as in ``signal_game on emoji``.
        vocabulary: the metrics of the problem's task, with the headline that the choice is made by.
        settings: the other keys of the configuration in which entries of the problem differ, dotted, with their values.
        chosen: the best cell by validation.
        rejected: the other cells, best first.
    """

    label: str
    estimator: str
    problem: str
    vocabulary: Vocabulary
    settings: dict[str, Any]
    chosen: Cell
    rejected: list[Cell]

    @property
    def judged(self) -> Measured:
        """The headline metric on validation."""
        return self.vocabulary.judged("val")


def problem(run: Run) -> str:
    """The task and the data set of a run, as in ``signal_game on emoji``."""
    task, data = run["configuration"]["task"], run["configuration"].get("data")
    return f"{task} on {data['name']}" if isinstance(data, dict) and "name" in data else str(task)


def select(runs: Sequence[Run], among: Sequence[Run] | None = None) -> list[Entry]:
    """The entries of finished runs, by problem and label; ``among`` all runs, whose grids and differences count too.

    Of the cells of one entry, those compete that have the most finished seeds: a mean over fewer would be easier to win with,
    and a cell with a failed seed has no claim. Ties go to the cell that made fewer decoder calls.

    Raises:
        ResultsError: if a run lacks the metric that the choice is made by, or a choice is to be made by one of which it is not
            known which values are better.
    """
    by_problem, every = _by_problem(runs), _by_problem(runs if among is None else among)
    return [entry for name in sorted(by_problem) for entry in _entries(name, by_problem[name], every[name])]


def _by_problem(runs: Sequence[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[problem(run)].append(run)
    return groups


def chosen(runs: Sequence[Run], among: Sequence[Run] | None = None) -> list[Run]:
    """Finished runs without those of cells of a grid that validation did not choose; ``among`` as in :func:`select`."""
    if not grid_keys(runs if among is None else among):
        return list(runs)
    names = {run["name"] for entry in select(runs, among) for run in entry.chosen.runs}
    return [run for run in runs if run["name"] in names]


def vocabulary_of(runs: Sequence[Run]) -> Vocabulary:
    """The metrics of the task of some runs, which have the same one."""
    return parts.vocabulary(runs[0]["configuration"]["task"], (measured(run) for run in runs))


def measured(run: Run) -> list[str]:
    """The names of what a run has measured, if it is finished."""
    return [name for name, value in run["summary"].items() if is_number(value) and name != "seed"]


def _entries(name: str, runs: list[Run], every: list[Run]) -> list[Entry]:
    vocabulary, tried = vocabulary_of(runs), grid_keys(every)
    told = zip(estimator_labels(every, tried), _differing([_settings(run) for run in every]), strict=True)
    words = dict(zip((run["name"] for run in every), told, strict=True))
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        apart = {key: value for key, value in words[run["name"]][1].items() if key not in tried}
        block = {key: value for key, value in run["configuration"]["estimator"].items() if f"estimator.{key}" not in tried}
        groups[json.dumps([block, apart], sort_keys=True)].append(run)
    entries = []
    for members in groups.values():
        chosen, rejected = _choose(members, vocabulary, tried)
        label, settings = words[chosen.runs[0]["name"]]
        entries.append(Entry(label, label, name, vocabulary, settings, chosen, rejected))
    return sorted(_told_apart(entries, tried), key=lambda entry: entry.label)


def _settings(run: Run) -> dict[str, Any]:
    flat = flatten(run["configuration"])
    flat |= {"device": device.partition(":")[0]} if isinstance(device := flat.get("device"), str) else {}
    return {key: value for key, value in flat.items() if not any(key == no or key.startswith(no) for no in NO_SETTINGS)}


def _differing(settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = list(dict.fromkeys(key for each in settings for key in each))
    kept = [key for key in keys if len({json.dumps(each.get(key), sort_keys=True) for each in settings}) > 1]
    return [{key: each.get(key) for key in kept} for each in settings]


def _choose(runs: list[Run], vocabulary: Vocabulary, tried: set[str]) -> tuple[Cell, list[Cell]]:
    by_cell: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_cell[without_seed(run)].append(run)
    judged = vocabulary.judged("val")
    cells = [_cell(members, judged, tried) for members in by_cell.values()]
    if len(cells) > 1 and judged.metric.better is None:
        both = " and ".join(cell.runs[0]["name"] for cell in cells[:2])
        what = f"which {judged.name} is better is not known. {vocabulary.remark}"
        raise ResultsError(f"no choice can be made between {both}: {what}".strip())
    most = max(len(cell.runs) for cell in cells)

    def rank(cell: Cell) -> tuple[bool, float, float]:
        calls = statistics.fmean(run["summary"].get("total_decoder_calls", 0) for run in cell.runs)
        return len(cell.runs) < most, judged.metric.rank(cell.validation), calls

    ranked = sorted(cells, key=rank)
    return ranked[0], ranked[1:]


def _cell(runs: list[Run], judged: Measured, tried: set[str]) -> Cell:
    values = [run["summary"].get(judged.key, math.nan) for run in runs]
    for run, value in zip(runs, values, strict=True):
        if not is_number(value) and judged.metric.better is not None:
            raise ResultsError(f"the run {run['name']} has no {judged.key}, a number that runs are chosen by")
    ordered = sorted(runs, key=lambda run: run["summary"]["seed"])
    grid = {key: value for key, value in flatten(ordered[0]["configuration"]).items() if key in tried}
    return Cell(grid, ordered, statistics.fmean(values))


def _told_apart(entries: list[Entry], tried: set[str]) -> list[Entry]:
    """Add settings to the labels of entries that would have the same one."""
    same: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        same[entry.label].append(entry)
    result = []
    for label, members in same.items():
        for member, own in zip(members, _differing([member.settings for member in members]), strict=True):
            words = " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in own.items() if key not in tried)
            result.append(replace(member, label=f"{label} {words}".strip()) if len(members) > 1 else member)
    return result
