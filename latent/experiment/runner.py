"""One experiment, one seed: prepare it, train it, and go on where an earlier process was stopped."""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from estimators import Estimator, OptionError
from latent.experiment import checkpoint, parts
from latent.experiment.configuration import Configuration
from latent.experiment.metrics import MetricsLog, RunningMeans, gradient_norms
from latent.experiment.run_directory import RunDirectory, RunError
from latent.experiment.tracking import WandbSink
from latent.experiment.yaml_source import ConfigurationError


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint lets the same command go on."""


class Reporter(Protocol):
    """Who is told how a run goes on."""

    def start(self, directory: Path, step: int, steps: int) -> None:
        """Training starts, or goes on, after ``step`` of ``steps``."""

    def advance(self, step: int) -> None:
        """A step is done."""

    def row(self, row: dict[str, Any]) -> None:
        """A row of metrics has been written."""


class Objective(nn.Module):
    """A task and its estimator as one module, which is what an accelerator's strategy wraps."""

    def __init__(self, task: Any, estimator: Estimator) -> None:
        super().__init__()
        self.task = task
        self.estimator = estimator

    def forward(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        objective: tuple[Tensor, dict[str, Tensor]] = self.task(batch, self.estimator, generator)
        return objective


@dataclass
class Experiment:
    """A configuration with its parts built: ready to run."""

    configuration: dict[str, Any]
    objective: Objective
    fabric: Fabric
    identity: str
    directory: RunDirectory


def prepare(configuration: Configuration, out: Path) -> Experiment:
    """Build an experiment's parts.

    Raises:
        ConfigurationError: if a part refuses its options, or the device is not there.
    """
    data = configuration.data
    torch.set_num_threads(data["threads"])
    fabric = _fabric(configuration)

    def build(block: str, part: Any, *arguments: Any) -> Any:
        options = {key: value for key, value in data[block].items() if key != "name"}
        try:
            return part(*arguments, **options)
        except OptionError as error:
            raise configuration.error(block, error) from error

    task_part: Any = parts.tasks()[data["task"]]
    content = build("data", task_part.datasets[data["data"]["name"]])
    torch.manual_seed(data["seed"])
    task = build(task_part.section, task_part, content)
    estimator = build("estimator", parts.estimators()[data["estimator"]["name"]])
    try:
        task.check_estimator(estimator)
    except OptionError as error:
        raise configuration.error(task_part.section, error) from error
    name = f"{data['estimator']['name']}-s{data['seed']}-{configuration.digest(task.fingerprint)}"
    directory = RunDirectory(out / data["experiment"] / "runs" / name)
    return Experiment(data, Objective(task, estimator), fabric, f"{data['experiment']}/{name}", directory)


def _fabric(configuration: Configuration) -> Fabric:
    kind, _, number = configuration.data["device"].partition(":")
    devices: Any = [int(number or 0)] if kind == "cuda" else 1
    try:
        return Fabric(accelerator=kind, devices=devices, precision=configuration.data["precision"])
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigurationError.at(
            configuration.source.mark(("device",)),
            f"device: {configuration.data['device']} cannot be used here ({reason}); 'device: cpu' always can",
        ) from error


def execute(experiment: Experiment, reporter: Reporter, force: bool = False) -> tuple[dict[str, Any], bool]:
    """Run an experiment to its end, from its checkpoint where it has one.

    Returns:
        The summary, and whether the run had been finished before.

    Raises:
        RunError: if the run cannot go on; its directory then says why in ``error.txt``.
        Interrupted: after a signal to stop, once a checkpoint is written.
    """
    directory = experiment.directory
    if not force and (summary := directory.summary()) is not None:
        return summary, True
    with directory.locked():
        try:
            if force:
                directory.clear()
            return _Training(experiment, reporter).run(), False
        except (RunError, Interrupted) as error:
            _record(directory, f"{error}\n")
            raise
        except OSError as error:
            raise RunError(f"cannot write to {directory.path}: {error.strerror or error}") from error
        except Exception as error:
            _record(directory, traceback.format_exc())
            raise RunError(f"{type(error).__name__}: {error}; the traceback is in {directory.error}") from error


def _record(directory: RunDirectory, text: str) -> None:
    """Leave a note of what went wrong, where the disk allows."""
    try:
        directory.error.write_text(text)
    except OSError:
        return


class _Training:
    """The state of a run and the loop that advances it."""

    def __init__(self, experiment: Experiment, reporter: Reporter) -> None:
        self.experiment = experiment
        self.reporter = reporter
        self.settings = experiment.configuration["train"]
        self.directory = experiment.directory
        self.objective = experiment.objective
        self.task, self.estimator = self.objective.task, self.objective.estimator
        self.optimizer = torch.optim.Adam(
            self.objective.parameters(),
            lr=self.settings["learning_rate"],
            fused=experiment.fabric.device.type in ("cpu", "cuda"),
        )
        self.module, self.stepper = experiment.fabric.setup(self.objective, self.optimizer)
        device = experiment.fabric.device
        seed = experiment.configuration["seed"]
        self.generators = {  # streams of their own, so that no estimator changes which games are drawn
            "batches": torch.Generator().manual_seed(seed),
            "estimator": torch.Generator(device).manual_seed(seed + (1 << 63)),
        }
        self.step = 0
        self.seconds = 0.0
        self.total_decoder_calls = torch.zeros((), dtype=torch.int64, device=device)
        self.means = RunningMeans(device)
        self.before: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        rows = self._restore()
        self.directory.begin(self.experiment.configuration)
        self.reporter.start(self.directory.path, self.step, self.settings["steps"])
        sink = WandbSink(self.experiment.configuration, self.directory.path, self.experiment.identity, rows)
        exit_code = 1
        summary: dict[str, Any] = {}
        try:
            with MetricsLog(self.directory.metrics) as self.metrics, _stop_signals() as stop:
                self.clock = time.monotonic() - self.seconds
                while self.step < self.settings["steps"]:
                    self._advance(sink)
                    if stop.is_set() and self.step < self.settings["steps"]:
                        self._save()
                        raise Interrupted(f"stopped after step {self.step}; the same command goes on from there")
                summary = self._summary()
            self.directory.finish(summary)
            exit_code = 0
        finally:
            sink.close(summary, exit_code)
        return summary

    def _advance(self, sink: WandbSink) -> None:
        """One step, and whatever is due after it: a row of metrics, an evaluation, a checkpoint."""
        step, steps = self.step + 1, self.settings["steps"]
        self.before = self._volatile_state()
        objective, metrics = self._forward(step)
        self.optimizer.zero_grad(set_to_none=True)
        self.experiment.fabric.backward(objective)
        last = step == steps
        due = {name: last or step % self.settings[f"{name}_every"] == 0 for name in ("log", "evaluate", "checkpoint")}
        row: dict[str, Any] = gradient_norms(self.task) if due["log"] or due["evaluate"] else {}
        self.stepper.step()
        self.step = step
        self.total_decoder_calls += metrics["decoder_calls"].sum()
        self.means.add(metrics)
        self.reporter.advance(step)
        if due["log"] or due["evaluate"]:
            row |= {f"train/{name}": value for name, value in self.means.pop().items()}
            row |= self._evaluate("val") if due["evaluate"] else {}
            row |= self._evaluate("test") if last else {}
            row = {"step": step, X_TOTAL: int(self.total_decoder_calls)} | row
            row["time/seconds"] = self.seconds = time.monotonic() - self.clock
            self.metrics.write(row)
            sink.log(row)
            self.reporter.row(row)
        if due["checkpoint"]:
            self._save()

    def _forward(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        self.module.train()
        try:
            batch = self.task.draw(self.settings["batch_size"], self.generators["batches"])
            objective, metrics = self.module(batch, self.generators["estimator"])
            if not torch.isfinite(objective):
                raise FloatingPointError(f"the objective is {float(objective.detach())}")
        except FloatingPointError as error:
            self._save(self.before)
            raise RunError(
                f"training diverged in step {step}: {error}. A lower train.learning_rate may help; the state before "
                f"that step is in {self.directory.checkpoint}"
            ) from error
        return objective, metrics

    def _evaluate(self, split: str) -> dict[str, float]:
        self.module.eval()
        with self.experiment.fabric.autocast():
            metrics: dict[str, float] = self.task.evaluate(split, self.estimator)
        return {f"{split}/{name}": value for name, value in metrics.items()}

    def _volatile_state(self) -> dict[str, Any]:
        """What a forward pass changes, copied."""
        return {
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "default_generator": torch.get_rng_state(),
            "estimator_buffers": {name: buffer.clone() for name, buffer in self.estimator.named_buffers()},
        }

    def _save(self, volatile: dict[str, Any] | None = None) -> None:
        self.metrics.flush()
        state = {
            "step": self.step,
            "seconds": time.monotonic() - self.clock,
            "total_decoder_calls": self.total_decoder_calls,
            "metrics_size": self.directory.metrics.stat().st_size,
            "means": self.means.state(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **(volatile or self._volatile_state()),
        }
        checkpoint.save(self.directory.checkpoint, self.experiment.identity, state)

    def _restore(self) -> list[dict[str, Any]]:
        """Go back to the checkpoint, where there is one; returns the rows of metrics up to it."""
        if not self.directory.checkpoint.exists():
            return self.directory.rewind(0)
        state = checkpoint.load(self.directory.checkpoint, self.experiment.identity)
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, buffer in self.estimator.named_buffers():
            buffer.copy_(state["estimator_buffers"][name])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        torch.set_rng_state(state["default_generator"])
        self.means.restore(state["means"])
        self.total_decoder_calls.copy_(state["total_decoder_calls"])
        self.step, self.seconds = state["step"], state["seconds"]
        return self.directory.rewind(state["metrics_size"])

    def _summary(self) -> dict[str, Any]:
        """The last row of metrics, with what names the run."""
        configuration = self.experiment.configuration
        row = self.directory.rewind(self.directory.metrics.stat().st_size)[-1]
        return {
            "run": self.experiment.identity,
            "task": configuration["task"],
            "estimator": configuration["estimator"]["name"],
            "seed": configuration["seed"],
            **row,
        }


X_TOTAL = "total_decoder_calls"


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one acts as it always does."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(number, previous[signal.Signals(number)])

    for number in previous:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
