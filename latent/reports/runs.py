"""Runs, read back from disk: what figures, tables and reports are made of."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict

from estimators.options import label, nearest
from latent.experiment.run_directory import RunDirectory, RunError, State
from latent.experiment.yaml_source import ConfigurationError
from latent.experiment.yaml_source import read as read_yaml
from latent.words import is_number

Row = dict[str, Any]

HINT = "where it is removed, the sweep of the run writes it anew"
"""What helps where the configuration of a run is damaged."""


class Run(TypedDict):
    """A run: where it is, its state, and what is in its ``config.yaml`` and its ``done.json``.

    ``name`` is ``<experiment>/<run>``; ``summary`` is empty unless the run is finished; ``grid`` is what the grid of a sweep
    sets in it, dotted keys with their values.
    """

    directory: Path
    name: str
    state: State
    configuration: dict[str, Any]
    summary: dict[str, Any]
    grid: dict[str, Any]


class ResultsError(Exception):
    """Folders do not hold what is to be shown; the message says what is missing."""


def read_runs(folders: Iterable[Path], unfinished: bool = False) -> list[Run]:
    """Every finished run in or below some folders, in the order of their names; with ``unfinished``, every run.

    Raises:
        ResultsError: if there is no such folder or no such run, or one run is there twice.
        RunError: if a run's file is damaged or missing.
    """
    folders = list(folders)
    for folder in folders:
        if not folder.is_dir():
            raise ResultsError(f"{folder} is no folder" if folder.exists() else f"there is no folder {folder}")
    kind, file = ("run", "config.yaml") if unfinished else ("finished run", "done.json")
    files = {file, "done.json"}  # a finished run is never passed over, whatever it lacks
    directories = [path for folder in folders for path in run_directories(folder)]
    found = {path.resolve(): path for path in directories if any((path / each).exists() for each in files)}
    if not found:
        raise ResultsError(f"there is no {kind} (runs/*/{file}) in {', '.join(map(str, folders))}")
    runs: dict[str, Run] = {}
    for directory in found.values():
        run = _read_run(directory)
        if run["name"] in runs:  # as a seed of its own, a copy would make the spread over seeds too small
            raise ResultsError(f"the run {run['name']} is there twice: {runs[run['name']]['directory']} and {directory}")
        runs[run["name"]] = run
    return list(runs.values())


def finished(runs: Sequence[Run]) -> list[Run]:
    """The runs that are.

    Raises:
        ResultsError: if none is.
    """
    done = [run for run in runs if run["state"] == "finished"]
    if not done:
        states = Counter(run["state"] for run in runs)
        shown = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        raise ResultsError(f"no run is finished yet: {shown}")
    return done


def run_directories(folder: Path) -> list[Path]:
    """Every ``runs/*`` in or below a folder, or of the folder itself, sorted; what vanishes meanwhile is passed over."""
    found = []
    for path, below, _ in os.walk(folder):
        if Path(path).resolve().name == "runs":
            found += [Path(path) / name for name in below]
            below.clear()  # what a run holds is not looked through
    parent = folder.resolve().parent
    return sorted([folder, *found] if parent.name == "runs" else found)


def _read_run(directory: Path) -> Run:
    files = RunDirectory(directory)
    summary = files.summary()
    state = files.state() if summary is None else "finished"
    try:
        configuration = read_yaml(files.configuration).data
    except ConfigurationError as error:
        what = error.problems[0][1]
        raise RunError(f"{files.configuration} is damaged or missing: {what}; {HINT}") from error
    estimator = configuration.get("estimator")
    if not isinstance(estimator, dict) or not isinstance(estimator.get("name"), str):
        raise RunError(f"{files.configuration} is damaged: it does not name an estimator; {HINT}")
    if not isinstance(configuration.get("task"), str):
        raise RunError(f"{files.configuration} is damaged: it does not name a task; {HINT}")
    return {
        "directory": directory,
        "name": summary["run"] if summary else f"{configuration.get('experiment')}/{directory.name}",
        "state": state,
        "configuration": configuration,
        "summary": summary or {},
        "grid": files.grid(),
    }


def read_rows(run: Run) -> list[Row]:
    """The rows of a run's ``metrics.jsonl``; see :meth:`~latent.experiment.run_directory.RunDirectory.rows`."""
    return RunDirectory(run["directory"]).rows()


def without_seed(run: Run) -> str:
    """What the runs of one configuration that differ in their seed have in common: ``<experiment>/<estimator>-<hash>``."""
    return re.sub(r"-s\d+-(?=[^-/]*$)", "-", run["name"])


def grid_keys(runs: Iterable[Run]) -> set[str]:
    """The dotted keys that the grid of any sweep sets in any of some runs, for validation to choose between their values.

    Estimators, tasks and data sets in a grid are to be compared, not chosen between.
    """
    keys = {key for run in runs for key in run["grid"]}
    return {key for key in keys if key not in ("task", "estimator.name") and not key.startswith("data.")}


def estimator_labels(runs: Sequence[Run], tried: set[str] | None = None) -> list[str]:
    """For each run, its estimator's name with those options that differ between the runs of that name.

    An option that is null is left out: ``sparse_map`` beside ``sparse_map budget=16``. So is one that a sweep's grid sets.
    """
    tried = grid_keys(runs) if tried is None else tried
    blocks = [
        {key: value for key, value in run["configuration"]["estimator"].items() if f"estimator.{key}" not in tried}
        for run in runs
    ]
    options: dict[str, dict[str, set[str]]] = defaultdict(dict)
    for block in blocks:
        options[block["name"]] |= {key: set() for key in block if key != "name"}
    for block in blocks:
        for key, values in options[block["name"]].items():
            values.add(repr(block.get(key)))

    def of(block: dict[str, Any]) -> str:
        differing = [key for key, values in options[block["name"]].items() if len(values) > 1]
        return label(block["name"], {key: block[key] for key in differing if block.get(key) is not None})

    return [of(block) for block in blocks]


def check_metrics(runs: Sequence[Run], metrics: Iterable[str]) -> None:
    """Raise ResultsError if no run has one of some metrics, with those that are spelt alike."""
    names = sorted({name for run in runs for name, value in run["summary"].items() if is_number(value)} - {"seed"})
    for metric in metrics:
        if metric not in names:
            raise ResultsError(f"no run has the metric {metric!r}{_hint(metric, names)}")


def _hint(metric: str, names: Sequence[str]) -> str:
    """Metrics of the same name in another split, else the one that is spelt alike, else those of the test split."""
    same = [name for name in names if name.split("/")[-1] == metric.split("/")[-1]]
    if same:
        ordered = sorted(same, key=lambda name: not name.startswith("test/"))
        return f"; did you mean {' or '.join(map(repr, ordered[:3]))}?"
    of_test = [name for name in names if name.startswith("test/")]
    return nearest(metric, names) or f"; there are: {', '.join(of_test or names)}"
