"""One experiment, one seed: train it to its end, and go on where an earlier process was stopped."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from latent.experiment import checkpoint
from latent.experiment.experiment import Experiment
from latent.experiment.metrics import MetricsLog, gradient_norms
from latent.experiment.run_directory import Row, RunDirectory, RunError, Summary
from latent.experiment.tracking import WandbSink
from latent.experiment.training import Diverged, Training
from latent.experiment.vocabulary import Vocabulary, declared_by
from latent.files import write_text

ADVICE = "A lower train.learning_rate may help"


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint lets the same command go on."""


class Reporter(Protocol):
    """Who is told how a run goes on."""

    def start(self, directory: Path, step: int, steps: int, vocabulary: Vocabulary) -> None:
        """Training starts, or goes on, after ``step`` of ``steps``; the metrics of its rows are those of ``vocabulary``."""

    def advance(self, step: int) -> None:
        """A step is done."""

    def evaluating(self, split: str) -> None:
        """An evaluation starts, which can take long."""

    def row(self, row: Row) -> None:
        """A row of metrics has been written; of those, with the means that training has."""


def execute(
    experiment: Experiment, reporter: Reporter, force: bool = False, stop: threading.Event | None = None
) -> tuple[Summary, bool]:
    """Run an experiment to its end, from its checkpoint where it has one.

    Args:
        experiment: what to run.
        reporter: who is told how it goes on.
        force: whether to forget what an earlier run left.
        stop: what asks the run to stop after the step; without it, the signals SIGINT and SIGTERM do.

    Returns:
        The summary, and whether the run had been finished before.

    Raises:
        RunError: if the run cannot go on; its directory then says why in ``error.txt``.
        Interrupted: after it was asked to stop, once a checkpoint is written.
    """
    directory = experiment.directory
    if not force and (summary := directory.summary()) is not None:
        return summary, True
    with directory.locked():
        try:
            if force:
                directory.clear()
            return _Run(experiment, reporter).to_its_end(stop), False
        except Interrupted:  # no error: the run goes on when it is asked to
            raise
        except RunError as error:
            _record(directory, f"{error}\n")
            raise
        except OSError as error:
            _record(directory, traceback.format_exc())
            raise RunError(f"cannot write to {directory.path}: {error.strerror or error}") from error
        except Exception as error:
            _record(directory, traceback.format_exc())
            raise RunError(f"{type(error).__name__}: {error}; the traceback is in {directory.error}") from error


def _record(directory: RunDirectory, text: str) -> None:
    """Leave a note of what went wrong, where the disk allows."""
    with contextlib.suppress(OSError):
        write_text(directory.error, text)


class _Run:
    """Training with everything around it: rows of metrics, evaluations, checkpoints, and signals to stop."""

    def __init__(self, experiment: Experiment, reporter: Reporter) -> None:
        self.experiment = experiment
        self.reporter = reporter
        self.directory = experiment.directory
        self.settings = experiment.configuration.settings.train
        self.steps = self.settings.warm_start_steps + self.settings.steps
        self.training = Training(experiment)
        self.begun = time.monotonic()
        self.pictures: dict[str, Path] = {}

    def to_its_end(self, stop: threading.Event | None) -> Summary:
        rows = self._restore()
        configuration, steps = self.experiment.configuration.data, self.steps
        self.directory.begin(configuration)
        self.reporter.start(self.directory.path, self.training.step, steps, declared_by(self.training.task))
        sink = WandbSink(configuration, self.directory.path, self.experiment.identity, rows)
        summary: Summary = {}
        try:
            with MetricsLog(self.directory.metrics) as log, _stop_signals(stop) as stop:
                while self.training.step < steps:
                    row = self._advance(log)
                    if row:
                        rows.append(row)
                        sink.log(row)
                        sink.show(self.pictures, int(row["step"]))
                        if "train/decoder_calls" in row:  # a row of a probe alone has no progress to show
                            self.reporter.row(row)
                    if stop.is_set() and self.training.step < steps:
                        self._save(log)
                        raise Interrupted(f"stopped after step {self.training.step}; the same command goes on from there")
            summary = self._summary(rows[-1])
            self.directory.finish(summary)
        finally:
            sink.close(summary, exit_code=0 if summary else 1)
        return summary

    def _advance(self, log: MetricsLog) -> Row:
        """One step and what is due after it; returns the row of metrics that it wrote, if any.

        Raises:
            RunError: if training diverges; the checkpoint then is of the last sound state.
        """
        try:
            self.training.train_step()
        except Diverged as error:
            where = ""
            if self.training.is_finite():
                self._save(log)
                where = f"; the state before that step is in {self.directory.checkpoint}"
            raise RunError(f"{error}. {ADVICE}{where}") from error
        step = self.training.step
        last = step == self.steps
        every = {
            "log": self.settings.log_every,
            "evaluate": self.settings.evaluate_every,
            "checkpoint": self.settings.checkpoint_every,
        }
        due = {name: last or step % steps == 0 for name, steps in every.items()}
        self.reporter.advance(step)
        row = self._metrics(due["evaluate"], last) if due["log"] or due["evaluate"] else {}
        row |= self._probe()
        self.pictures = self._draw_pictures() if due["evaluate"] else {}
        if row:
            row = {"step": step, "total_decoder_calls": int(self.training.total_decoder_calls), **row}
            row["time/seconds"] = self._seconds()
            log.write(row)
        if due["checkpoint"]:
            self._save(log)
        return row

    def _metrics(self, evaluate: bool, last: bool) -> Row:
        """Means of the steps since the last call, norms of gradients, and evaluations."""
        row: Row = {f"train/{name}": value for name, value in self.training.means.pop().items()}
        row |= gradient_norms(self.training.objective.network)
        try:
            for split in ("val", "test"):
                if last or (evaluate and split == "val"):
                    self.reporter.evaluating(split)
                    row |= self.training.evaluate(split)
        except Diverged as error:
            raise RunError(f"{error}. {ADVICE}") from error
        return row

    def _draw_pictures(self) -> dict[str, Path]:
        pictures = self.training.pictures().items()
        return {name: self.directory.picture(name, self.training.step, pixels) for name, pixels in pictures}

    def _probe(self) -> dict[str, float]:
        """Metrics of a probe, where one is due. It leaves the means of the steps alone: they do not depend on it.

        In a warm start there is none: the estimator has no part in it.
        """
        every, step = self.settings.probe_every, self.training.step
        if not every or step % every or step <= self.settings.warm_start_steps:
            return {}
        return self.training.probe(self.settings.probe_examples, self.settings.probe_draws)

    def _seconds(self) -> float:
        return time.monotonic() - self.begun

    def _save(self, log: MetricsLog) -> None:
        if not self.training.is_finite():
            raise RunError(f"the parameters are not finite after step {self.training.step}, which is not saved. {ADVICE}")
        state = {"training": self.training.state(), "metrics_size": log.sync(), "seconds": self._seconds()}
        checkpoint.save(self.directory.checkpoint, self.experiment.identity, state)

    def _restore(self) -> list[Row]:
        """Go back to the checkpoint, where there is one; returns the rows of metrics up to it."""
        if not self.directory.checkpoint.exists():
            return self.directory.rewind(0)
        state = checkpoint.load(self.directory.checkpoint, self.experiment.identity)
        self.training.restore(state["training"])
        self.begun = time.monotonic() - state["seconds"]
        return self.directory.rewind(state["metrics_size"])

    def _summary(self, row: Row) -> Summary:
        """The last row of metrics, with what names the run."""
        settings = self.experiment.configuration.settings
        names = {"task": settings.task, "estimator": settings.estimator.name}
        return {"run": self.experiment.identity, **names, "seed": settings.seed, **row}


@contextmanager
def _stop_signals(given: threading.Event | None) -> Iterator[threading.Event]:
    """The event that is given, else one that the first SIGINT or SIGTERM sets; a second one acts as it always does."""
    stop = given or threading.Event()
    if given is not None or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, previous[signal.Signals(number)])

    for number in previous:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
