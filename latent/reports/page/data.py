"""The page's sections: one a problem, with its estimators, their cells of a grid, their seeds, and the curves of those shown.

What is compared is chosen as everywhere in reports, from finished runs alone (:func:`~latent.reports.selection.select`).
Unfinished runs of what was chosen are shown beside them. An estimator of which no run is finished is shown with the cell that
is best so far, and has no line in the table of results.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from latent.experiment.run_directory import RunError
from latent.experiment.vocabulary import TOTAL_DECODER_CALLS, Vocabulary
from latent.reports.page.curves import IN_ALL, PER_CURVE, Curve, History, average, history, kinds, thinned
from latent.reports.runs import Run, without_seed
from latent.reports.selection import Cell, Entry, problem, select, vocabulary_of
from latent.words import Measured

NO_EVALUATION = 1e300
"""The size of validation, of a run that has none yet: all others are better."""


@dataclass(frozen=True)
class Shown:
    """An estimator on the page.

    Attributes:
        label: its name with the options that differ.
        settings: the other keys in which the problem's entries differ.
        cells: the chosen cell first, with all its runs; then the rejected ones, best first.
        validation: of each cell the mean of the headline metric over its finished runs; None without one.
        decided: whether a run is finished, so that the choice is one.
        counted: the runs of the chosen cell that results and mean curves are made of: the finished ones, else those that
            have got as far as an evaluation.
        means, spreads: by kind, over those runs.
    """

    label: str
    settings: dict[str, Any]
    cells: list[Cell]
    validation: list[float | None]
    decided: bool
    counted: list[Run]
    means: dict[str, Curve]
    spreads: dict[str, Curve]


@dataclass(frozen=True)
class Section:
    """A problem, such as ``signal_game on emoji``.

    Attributes:
        vocabulary: the metrics of its task.
        curves: by run and kind, of the chosen cells' runs that have any.
        last_steps: by run.
        thinned: whether curves lack points that the runs have.
    """

    problem: str
    vocabulary: Vocabulary
    shown: list[Shown]
    curves: dict[str, dict[str, Curve]]
    last_steps: dict[str, int]
    thinned: bool

    @property
    def judged(self) -> Measured:
        """The headline metric on validation."""
        return self.vocabulary.judged("val")

    @property
    def runs(self) -> list[Run]:
        """Every run of the problem."""
        return [run for shown in self.shown for cell in shown.cells for run in cell.runs]

    @property
    def has_grid(self) -> bool:
        """Whether a cell was chosen among several."""
        return any(len(shown.cells) > 1 for shown in self.shown)


def sections(runs: Sequence[Run]) -> list[Section]:
    """What is to be shown of runs in any state.

    Raises:
        RunError: if a run's file is damaged.
        ResultsError: if a finished run lacks its headline metric, or there is a choice to make and its task is not known here.
    """
    by_problem: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        _check(run)
        by_problem[problem(run)].append(run)
    return [_section(name, by_problem[name]) for name in sorted(by_problem)]


def _check(run: Run) -> None:
    configuration = run["configuration"]
    for key, kind in (("task", str), ("experiment", str), ("seed", int), ("train", dict)):
        if not isinstance(configuration.get(key), kind):
            raise RunError(f"{run['directory'] / 'config.yaml'} is damaged: it has no {key}")


def _section(name: str, runs: Sequence[Run]) -> Section:
    vocabulary = vocabulary_of(runs)
    judged = vocabulary.judged("val")
    by_name = {run["name"]: run for run in runs}

    @cache
    def read(name: str) -> History:
        return history(by_name[name], vocabulary)

    finished = [run for run in runs if run["state"] == "finished"]
    decided = {cell.runs[0]["name"]: entry for entry in select(finished, runs) for cell in (entry.chosen, *entry.rejected)}
    entries = select([run if run["state"] == "finished" else _so_far(run, read, judged) for run in runs])
    shown = [_shown(entry, decided, by_name, read, _most(len(entries))) for entry in entries]
    chosen = [run["name"] for each in shown for run in each.cells[0].runs]
    most = _most(len(chosen))
    curves = {each: {kind: thinned(curve, most) for kind, curve in read(each).curves.items()} for each in chosen}
    last = {run["name"]: run["summary"].get("step") or read(run["name"]).last_step for run in runs}
    lost = any(len(curve["step"]) > most for each in chosen for curve in read(each).curves.values())
    return Section(name, vocabulary, shown, curves, last, lost)


def _most(curves: int) -> int:
    """The points that each of so many curves may have."""
    return max(2, min(PER_CURVE, IN_ALL // max(1, curves)))


def _so_far(run: Run, read: Callable[[str], History], judged: Measured) -> Run:
    """An unfinished run with its last evaluation for a summary, so that it can be laid out with the finished ones."""
    curve = read(run["name"]).curves["val"]
    values = curve[judged.key]
    none = NO_EVALUATION if judged.metric.better == "lower" else -NO_EVALUATION
    last = float(values[-1]) if len(values) and np.isfinite(values[-1]) else none
    calls = float(curve[TOTAL_DECODER_CALLS.name][-1]) if len(values) else 0.0
    summary = {"seed": run["configuration"]["seed"], judged.key: last, TOTAL_DECODER_CALLS.name: calls}
    return {**run, "summary": summary}


def _shown(
    entry: Entry, decided: dict[str, Entry], by_name: dict[str, Run], read: Callable[[str], History], most: int
) -> Shown:
    """An entry of all runs, with the choice that its finished runs alone have made."""
    cells = [
        Cell(cell.grid, [by_name[run["name"]] for run in cell.runs], cell.validation)
        for cell in (entry.chosen, *entry.rejected)
    ]
    known = next((decided[run["name"]] for cell in cells for run in cell.runs if run["name"] in decided), None)
    order: dict[str, tuple[int, float]] = {}
    if known is not None:
        ranked = (known.chosen, *known.rejected)
        order = {without_seed(cell.runs[0]): (rank, cell.validation) for rank, cell in enumerate(ranked)}
        cells.sort(key=lambda cell: order.get(without_seed(cell.runs[0]), (len(order), 0.0))[0])
    counted = [run for run in cells[0].runs if run["state"] == "finished"]
    counted = counted or [run for run in cells[0].runs if len(read(run["name"]).curves["val"]["step"])]
    means, spreads = {}, {}
    for kind in kinds(entry.vocabulary):
        curves = [read(run["name"]).curves[kind] for run in counted]
        if curves and all(len(curve["step"]) for curve in curves):
            means[kind], spreads[kind] = (thinned(curve, most) for curve in average(curves))
    validation = [order[key][1] if (key := without_seed(cell.runs[0])) in order else None for cell in cells]
    return Shown(entry.label, entry.settings, cells, validation, known is not None, counted, means, spreads)
