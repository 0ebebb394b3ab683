"""The tables of a section, as plain data for the page's template: results, runs, and what configurations differ in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent.experiment.run_directory import SYMBOLS, RunDirectory
from latent.reports.page.data import Section, Shown
from latent.reports.runs import Run
from latent.reports.selection import Cell
from latent.reports.statistics import mean_and_std
from latent.reports.tables.columns import NONE, last_parts, mean_text, numbers, plain
from latent.words import Measured

Link = Callable[[Path], str]
"""The address of a run's file, as the page is to have it."""

IDLE = ("rejected", "no finished seed")
"""What has become of cells whose test metrics nobody is shown."""


@dataclass(frozen=True)
class Value:
    """A mean and a sample standard deviation over seeds; the latter is None of one seed. ``text`` has both, rounded."""

    mean: float
    std: float | None
    text: str


def metrics(section: Section) -> list[Measured]:
    """The columns of the table of results, the headline metric first: those of these metrics that a finished run has."""
    vocabulary = section.vocabulary
    declared = [vocabulary.headline, *(metric for metric in vocabulary.shown("page") if metric is not vocabulary.headline)]
    columns = [vocabulary[metric.key("test")] for metric in declared]
    return [column for column in columns if any(value_of(shown, column) for shown in section.shown)]


def value_of(shown: Shown, metric: Measured) -> Value | None:
    """A metric of the finished runs that stand for an estimator; None without one, and where one of them lacks it."""
    finished = [run for run in shown.counted if run["state"] == "finished"]
    values = numbers(finished, metric.key)
    if not values or len(values) < len(finished):
        return None
    mean, std = mean_and_std(values)
    return Value(mean, std, mean_text(mean, std, metric.style(values)))


def results(section: Section) -> list[dict[str, Any]]:
    """A line for each estimator of which a run is finished, best first."""
    columns = metrics(section)
    lines = [
        {
            "index": index,
            "label": shown.label,
            "settings": _settings(shown.settings | shown.cells[0].grid),
            "seeds": len(shown.counted),
            "values": [value_of(shown, metric) for metric in columns],
        }
        for index, shown in enumerate(section.shown)
        if shown.decided
    ]

    def rank(line: dict[str, Any]) -> float:
        return columns[0].metric.rank(line["values"][0].mean) if columns and line["values"][0] else math.inf

    return sorted(lines, key=rank)


def _settings(settings: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Dotted key, its last part (all of it where two have the same), and value."""
    return [
        (key, short, plain(value)) for (key, value), short in zip(settings.items(), last_parts(list(settings)), strict=True)
    ]


def seeds(section: Section) -> list[int]:
    """The columns of the table of runs."""
    return sorted({run["configuration"]["seed"] for run in section.runs})


def run_lines(section: Section, link: Link) -> list[dict[str, Any]]:
    """A line for each cell, with what stands under each seed: the runs of that seed."""
    return [
        {
            "index": index,
            "label": shown.label,
            "settings": _settings(cell.grid),
            "role": _role(shown, cell),
            "runs": [
                [_run(section, run, link) for run in cell.runs if run["configuration"]["seed"] == seed]
                for seed in seeds(section)
            ],
        }
        for index, shown in enumerate(section.shown)
        for cell in shown.cells
    ]


def _role(shown: Shown, cell: Cell) -> str:
    """What validation has made of a cell."""
    if not shown.decided:
        return "not yet decided"
    if cell is not shown.cells[0]:
        return IDLE[not any(run["state"] == "finished" for run in cell.runs)]
    return "chosen" if len(shown.cells) > 1 else "the only one"


def _run(section: Section, run: Run, link: Link) -> dict[str, Any]:
    files = RunDirectory(run["directory"])
    present = {"error": files.error} if run["state"] == "failed" else {}
    present |= {"metrics": files.metrics, "config": files.configuration}
    links = {name: to for name, path in present.items() if path.exists() and (to := link(path))}
    train = run["configuration"]["train"]
    steps = sum(each for each in (train.get("warm_start_steps"), train.get("steps")) if isinstance(each, int))
    title = f"{run['name']}: {run['state']}, step {section.last_steps[run['name']]:,} of {steps:,}"
    reason = files.last_words()[:500] if run["state"] == "failed" else ""
    return {
        "name": run["name"],
        "state": run["state"],
        "symbol": SYMBOLS[run["state"]],
        "title": f"{title}; {reason}" if reason else title,
        "reason": reason,
        "links": links,
    }


def failures(section: Section, link: Link) -> list[dict[str, Any]]:
    """The failed runs, each with what went wrong."""
    return [_run(section, run, link) for run in section.runs if run["state"] == "failed"]


def differences(section: Section) -> tuple[list[str], list[dict[str, Any]]]:
    """The keys in which cells differ, and a line for each cell, those rejected marked; no keys where none differ."""
    every = [
        (index, shown, cell, validation)
        for index, shown in enumerate(section.shown)
        for cell, validation in zip(shown.cells, shown.validation, strict=True)
    ]
    keys = list(dict.fromkeys(key for _, shown, cell, _ in every for key in [*shown.settings, *cell.grid]))
    lines = []
    for index, shown, cell, validation in every:
        settings = shown.settings | cell.grid
        finished = sum(run["state"] == "finished" for run in cell.runs)
        lines.append(
            {
                "index": index,
                "label": shown.label,
                "values": [plain(settings[key]) if key in settings else NONE for key in keys],
                "finished": finished,
                "validation": NONE if validation is None else section.judged.style([validation]).write(validation),
                "role": _role(shown, cell),
            }
        )
    return keys, lines


def counts(runs: Sequence[Run]) -> list[tuple[str, str, int]]:
    """State, symbol and number of runs, of those states that there are."""
    return [(state, symbol, n) for state, symbol in SYMBOLS.items() if (n := sum(run["state"] == state for run in runs))]
