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
from torch import Tensor, nn

from estimators import Estimator, OptionError, check_fit, derived_seed
from latent.experiment import parts
from latent.experiment.configuration import Configuration
from latent.experiment.run_directory import RunDirectory
from latent.experiment.yaml_source import ConfigurationError


class Objective(nn.Module):
    """A task and its estimator as one module, which is what an accelerator's strategy wraps."""

    def __init__(self, task: Any, estimator: Estimator) -> None:
        super().__init__()
        self.task = task
        self.estimator = estimator

    def forward(self, batch: Any, generator: torch.Generator, warm: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        objective: tuple[Tensor, dict[str, Tensor]]
        objective = (
            self.task.warm_start(batch, self.estimator, generator) if warm else self.task(batch, self.estimator, generator)
        )
        return objective


@dataclass
class Experiment:
    """A configuration with its parts built.

    Attributes:
        configuration: complete, with every default.
        objective: the task and the estimator, initialised from the seed.
        fabric: device and precision.
        identity: ``<experiment>/<run>``, where the run's name holds the hash of all that decides its results.
        directory: where the run lives.
        digest: that hash, which the runs of other seeds have too.
    """

    configuration: dict[str, Any]
    objective: Objective
    fabric: Fabric
    identity: str
    directory: RunDirectory
    digest: str


def prepare(configuration: Configuration, out: Path, contents: dict[str, Any] | None = None) -> Experiment:
    """Build an experiment's parts.

    Args:
        configuration: what to build.
        out: the folder of the results.
        contents: data sets that were built before, which are used again; those that are built are added.

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
        except (RuntimeError, MemoryError, OverflowError, ValueError) as error:  # sizes that no machine has
            reason = (str(error) or type(error).__name__).splitlines()[0]
            mark = configuration.source.mark((block,))
            raise ConfigurationError.at(mark, f"{block} cannot be built as configured: {reason[:200]}") from error

    task_part: Any = parts.tasks()[data["task"]]
    if data["train"]["warm_start_steps"] and not hasattr(task_part, "warm_start"):
        raise configuration.error("train", OptionError("warm_start_steps", f"{data['task']} has no warm start; it must be 0"))
    contents = {} if contents is None else contents
    key = json.dumps([data["task"], data["data"]])
    if key not in contents:
        contents[key] = build("data", task_part.datasets[data["data"]["name"]])
    torch.manual_seed(derived_seed("parameters", data["seed"]))
    task = build(task_part.section, task_part, contents[key])
    estimator = build("estimator", parts.estimators()[data["estimator"]["name"]])
    try:
        check_fit(estimator, task.latent(), data["estimator"]["name"])
    except OptionError as error:
        raise configuration.error("estimator", error) from error
    try:
        task.check_estimator(estimator)
    except OptionError as error:
        block = task_part.section if error.option in data[task_part.section] else "estimator"
        raise configuration.error(block, error) from error
    digest = configuration.digest(task.fingerprint)
    directory = directory_of(data, digest, out)
    identity = f"{data['experiment']}/{directory.path.name}"
    return Experiment(data, Objective(task, estimator), fabric, identity, directory, digest)


def directory_of(configuration: dict[str, Any], digest: str, out: Path) -> RunDirectory:
    """Where a run lives below the folder of the results."""
    name = f"{configuration['estimator']['name']}-s{configuration['seed']}-{digest}"
    return RunDirectory(out / configuration["experiment"] / "runs" / name)


def _fabric(configuration: Configuration) -> Fabric:
    kind, _, number = configuration.data["device"].partition(":")
    devices: Any = [int(number or 0)] if kind == "cuda" else 1
    try:
        fabric = Fabric(
            accelerator=kind,
            devices=devices,
            precision=configuration.data["precision"],
            plugins=[LightningEnvironment()],  # a run is one process, also where Slurm or another scheduler started it
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigurationError.at(
            configuration.source.mark(("device",)),
            f"device: {configuration.data['device']} cannot be used here ({reason}); 'device: cpu' always can",
        ) from error
    if kind == "cuda":  # sums in a fixed order, where CUDA has them
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return fabric
