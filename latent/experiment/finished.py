"""Finished runs, read back from disk: what figures, tables and reports are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict

from estimators.catalogue import label
from latent.experiment.run_directory import RunDirectory, RunError
from latent.experiment.yaml_source import ConfigurationError
from latent.experiment.yaml_source import read as read_yaml


class Run(TypedDict):
    """A finished run: where it is, and what is in its ``config.yaml`` and its ``done.json``."""

    directory: Path
    configuration: dict[str, Any]
    summary: dict[str, Any]


class ResultsError(Exception):
    """Folders do not hold what is to be shown; the message says what is missing."""


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """Every finished run, ``runs/*/done.json``, in or below some folders; those that are not finished are passed over.

    Raises:
        ResultsError: if there is no such folder or no finished run, or one run is there twice.
        RunError: if a finished run's file is damaged or missing.
    """
    folders = list(folders)
    for folder in folders:
        if not folder.is_dir():
            raise ResultsError(f"{folder} is no folder" if folder.exists() else f"there is no folder {folder}")
    found = {file.resolve().parent: file.parent for folder in folders for file in sorted(folder.rglob("done.json"))}
    directories = [shown for path, shown in found.items() if path.parent.name == "runs"]
    if not directories:
        raise ResultsError(f"there is no finished run (runs/*/done.json) in {', '.join(map(str, folders))}")
    runs: dict[str, Run] = {}
    for directory in directories:
        run = _read_run(directory)
        identity = run["summary"]["run"]
        if identity in runs:  # as a seed of its own, a copy would make the spread over seeds too small
            raise ResultsError(f"the run {identity} is there twice: {runs[identity]['directory']} and {directory}")
        runs[identity] = run
    return list(runs.values())


def _read_run(directory: Path) -> Run:
    files = RunDirectory(directory)
    summary = files.summary()
    if summary is None or not isinstance(summary["run"], str):
        raise RunError(f"{files.done} is damaged: it is not a run's summary; --force runs the experiment anew")
    path = directory / "config.yaml"
    try:
        configuration = read_yaml(path).data
    except ConfigurationError as error:
        raise RunError(f"{path} is damaged or missing: {error.problems[0][1]}") from error
    estimator = configuration.get("estimator")
    if not isinstance(estimator, dict) or not isinstance(estimator.get("name"), str):
        raise RunError(f"{path} is damaged: it does not name an estimator")
    return {"directory": directory, "configuration": configuration, "summary": summary}


def without_seed(run: Run) -> str:
    """What the runs of one configuration that differ in their seed have in common: ``<experiment>/<estimator>-<hash>``."""
    return re.sub(r"-s\d+-(?=[^-/]*$)", "-", run["summary"]["run"])


def estimator_labels(runs: Sequence[Run]) -> list[str]:
    """For each run, its estimator's name with those options that differ between the runs of that name.

    An option that is null is left out: ``sparse_map`` beside ``sparse_map budget=16``.
    """
    values: dict[tuple[str, str], set[str]] = {}
    blocks = [run["configuration"]["estimator"] for run in runs]
    keys = {(block["name"], key) for block in blocks for key in block if key != "name"}
    for block in blocks:
        for name, key in keys:
            if name == block["name"]:
                values.setdefault((name, key), set()).add(repr(block.get(key)))
    return [
        label(
            block["name"],
            {key: value for key, value in block.items() if value is not None and len(values.get((block["name"], key), ())) > 1},
        )
        for block in blocks
    ]
