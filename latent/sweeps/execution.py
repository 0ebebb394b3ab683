"""One run from its directory alone: what every launcher calls, wherever its process is."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latent.experiment import runner
from latent.experiment.configuration import load
from latent.experiment.experiment import prepare
from latent.experiment.run_directory import RunDirectory, RunError
from latent.experiment.vocabulary import Vocabulary
from latent.experiment.yaml_source import ConfigurationError
from latent.files import write_text


class Silent:
    """A reporter that says nothing: who wants to know how a run goes on reads its metrics.jsonl."""

    def start(self, directory: Path, step: int, steps: int, vocabulary: Vocabulary) -> None:
        """Nothing."""

    def advance(self, step: int) -> None:
        """Nothing."""

    def evaluating(self, split: str) -> None:
        """Nothing."""

    def row(self, row: dict[str, Any]) -> None:
        """Nothing."""


def execute_directory(
    run_directory: Path, reporter: runner.Reporter | None = None, stop: threading.Event | None = None
) -> dict[str, Any]:
    """Run what ``config.yaml`` in a run's directory says to its end, from its checkpoint where it has one.

    It depends on nothing else: not on the sweep, nor on other runs. A finished run is not run again.

    Args:
        run_directory: ``<out>/<experiment>/runs/<run>``.
        reporter: who is told how the run goes on.
        stop: what asks the run to stop after the step; without it, the signals SIGINT and SIGTERM do.

    Returns:
        The run's summary.

    Raises:
        RunInUse: if another process works on the run.
        RunError: if the run cannot start or go on; ``error.txt`` in its directory then says why.
        Interrupted: once the run has stopped and written a checkpoint.
    """
    files = RunDirectory(run_directory)
    with files.locked():
        try:
            configuration = load(files.configuration, [])
            experiment = prepare(configuration, run_directory.parents[2])
            if experiment.directory.path != run_directory:
                raise RunError(f"{files.configuration} is not that of this run, but of {experiment.directory.path}")
        except (ConfigurationError, RunError) as error:
            with contextlib.suppress(OSError):
                write_text(files.error, f"{error}\n")
            raise RunError(str(error)) from error
    summary, _ = runner.execute(experiment, reporter or Silent(), stop=stop)
    return summary


def print_to(path: Path) -> None:
    """Let all that the process prints go to the end of a file, not to where it was started, which may be another machine."""
    with path.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)


@contextlib.contextmanager
def printing_to(path: Path) -> Iterator[None]:
    """The same for a while."""
    kept = os.dup(1), os.dup(2)
    print_to(path)
    try:
        yield
    finally:
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)


def log_warnings() -> None:
    """Let warnings of this process appear on its standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
