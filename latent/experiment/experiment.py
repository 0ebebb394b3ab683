"""From a configuration to its parts, built and ready to train."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn, optim
from torch.nn.parameter import UninitializedParameter

from estimators import Estimator, OptionError, check_fit, derived_seed
from latent.datasets.base import DataSet
from latent.experiment import parts
from latent.experiment.configuration import Configuration
from latent.experiment.optimizers import groups
from latent.experiment.options import Options, bound
from latent.experiment.run_directory import RunDirectory
from latent.experiment.schedules import Schedule
from latent.experiment.yaml_source import Block, ConfigurationError


class Objective(nn.Module):
    """A task and its estimator as one module, which is what an accelerator's strategy wraps."""

    def __init__(self, task: parts.Task, estimator: Estimator) -> None:
        super().__init__()
        self.task = task
        self.estimator = estimator

    @property
    def network(self) -> nn.Module:
        """The task as the module that it is."""
        return self.get_submodule("task")

    def forward(self, batch: object, generator: torch.Generator, warm: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        if warm and isinstance(self.task, parts.StartedWarm):
            return self.task.warm_start(batch, self.estimator, generator)
        return self.task(batch, self.estimator, generator)


@dataclass
class Experiment:
    """A configuration with its parts built.

    Attributes:
        configuration: complete, with every default.
        objective: the task and the estimator, initialised from the seed.
        optimizer: of their parameters.
        schedule: of the learning rates.
        fabric: device and precision.
        identity: ``<experiment>/<run>``, where the run's name holds the hash of all that decides its results.
        directory: where the run lives.
        digest: that hash, which the runs of other seeds have too.
    """

    configuration: Configuration
    objective: Objective
    optimizer: optim.Optimizer
    schedule: Schedule
    fabric: Fabric
    identity: str
    directory: RunDirectory
    digest: str


def prepare(configuration: Configuration, out: Path, contents: dict[str, DataSet] | None = None) -> Experiment:
    """Build an experiment's parts.

    Args:
        configuration: what to build.
        out: the folder of the results.
        contents: data sets that were built before, which are used again; those that are built are added.

    Raises:
        ConfigurationError: if a part refuses its options, or the device is not there.
    """
    settings = configuration.settings
    torch.set_num_threads(settings.threads)
    fabric = _fabric(configuration)
    contents = {} if contents is None else contents
    key = data_key(configuration)
    if key not in contents:
        contents[key] = _build(configuration, "data", settings.data)
    objective = _objective(configuration, contents[key])
    train, own = settings.train, groups(objective.task.parameters(), objective.estimator.parameters())
    optimizer: optim.Optimizer = _build(configuration, "train.optimizer", train.optimizer, own, train.learning_rate)
    schedule: Schedule = _build(configuration, "train.schedule", train.schedule, train.steps)
    digest = configuration.digest(objective.task.fingerprint)
    directory = directory_of(configuration.data, digest, out)
    identity = f"{settings.experiment}/{directory.path.name}"
    return Experiment(configuration, objective, optimizer, schedule, fabric, identity, directory, digest)


def data_key(configuration: Configuration) -> str:
    """What a data set is kept under, to be used again."""
    return json.dumps([configuration.settings.task, configuration.settings.data.model_dump()])


def _build(configuration: Configuration, block: str, options: Options, *arguments: object) -> Any:
    """The part of a block, made from what it is made from."""
    try:
        return bound(options)(*arguments)
    except OptionError as error:
        raise configuration.error(block, error) from error
    except (RuntimeError, MemoryError, OverflowError, ValueError) as error:  # sizes that no machine has
        reason = (str(error) or type(error).__name__).splitlines()[0]
        mark = configuration.source.mark(tuple(block.split(".")))
        raise ConfigurationError.at(mark, f"{block} cannot be built as configured: {reason[:200]}") from error


def _objective(configuration: Configuration, data: DataSet) -> Objective:
    """Task and estimator, which fit each other, with parameters drawn from the seed."""
    settings = configuration.settings
    part = parts.tasks()[settings.task]
    if settings.train.warm_start_steps and not hasattr(part, "warm_start"):
        raise configuration.error("train", OptionError("warm_start_steps", f"{settings.task} has no warm start; it must be 0"))
    torch.manual_seed(derived_seed("parameters", settings.seed))
    task: parts.Task = _build(configuration, part.section, settings.options_of(part.section), data)
    estimator: Estimator = _build(configuration, "estimator", settings.estimator)
    try:
        check_fit(estimator, task.latent(), settings.estimator.name)
    except OptionError as error:
        raise configuration.error("estimator", error) from error
    try:
        task.check_estimator(estimator)
    except OptionError as error:
        own = type(settings.options_of(part.section)).model_fields
        raise configuration.error(part.section if error.option in own else "estimator", error) from error
    objective = Objective(task, estimator)
    _materialise(objective)
    return objective


def _materialise(objective: Objective) -> None:
    """Give parameters that wait for their first input their size, before an optimiser is made of them."""
    if any(isinstance(parameter, UninitializedParameter) for parameter in objective.parameters()):
        generator = torch.Generator().manual_seed(derived_seed("first batch"))
        objective.eval()
        objective(objective.task.draw(1, generator), generator)


def directory_of(configuration: Block, digest: str, out: Path) -> RunDirectory:
    """Where a run lives below the folder of the results."""
    name = f"{configuration['estimator']['name']}-s{configuration['seed']}-{digest}"
    return RunDirectory(out / configuration["experiment"] / "runs" / name)


def _fabric(configuration: Configuration) -> Fabric:
    kind, _, number = configuration.settings.device.partition(":")
    devices: list[int] | int = [int(number or 0)] if kind == "cuda" else 1
    try:
        fabric = Fabric(
            accelerator=kind,
            devices=devices,
            precision=configuration.settings.precision,
            plugins=[LightningEnvironment()],  # a run is one process, also where Slurm or another scheduler started it
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigurationError.at(
            configuration.source.mark(("device",)),
            f"device: {configuration.settings.device} cannot be used here ({reason}); 'device: cpu' always can",
        ) from error
    if kind == "cuda":  # sums in a fixed order, where CUDA has them
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return fabric
