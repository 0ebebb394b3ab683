"""The settings of a run: which keys a configuration has, as one model for each task, and their JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, reduce
from operator import or_
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, Field, TypeAdapter, create_model

from estimators.parts import Registry
from latent.experiment import parts
from latent.experiment.optimizers import OPTIMIZERS
from latent.experiment.options import (
    STRICT,
    Choice,
    Chosen,
    Maker,
    Options,
    available,
    choice,
    choices,
    describe,
    options_model,
)
from latent.experiment.schedules import SCHEDULES
from latent.experiment.yaml_source import Block

Seed = Annotated[int, Field(ge=0, lt=2**63)]


class TrainingSettings(BaseModel):
    """How the parameters are trained, on batches drawn afresh."""

    model_config = STRICT

    steps: int = Field(5000, ge=1, description="Training steps, those of a warm start not counted.")
    batch_size: int = Field(64, ge=1, description="Examples of a step.")
    optimizer: Annotated[Chosen, Choice(OPTIMIZERS, "adam")] = Field(
        "adam", validate_default=True, description="The optimiser and its options."
    )
    learning_rate: float = Field(1e-3, gt=0, description="Learning rate, where the schedule's factor is 1.")
    schedule: Annotated[Chosen, Choice(SCHEDULES, "constant")] = Field(
        "constant", validate_default=True, description="The schedule of the learning rates and its options."
    )
    estimator_learning_rate: float | None = Field(
        None, gt=0, description="Learning rate of the estimator's own parameters; without it, learning_rate."
    )
    warm_start_steps: int = Field(
        0, ge=0, description="Steps before those, in which a task that has a warm start (ssvae) trains on that alone."
    )
    warm_start_learning_rate: float | None = Field(
        None, gt=0, description="Learning rate of the warm start; without it, learning_rate."
    )
    log_every: int = Field(100, ge=1, description="Steps between two rows of metrics, averages of the steps since the last.")
    evaluate_every: int = Field(1000, ge=1, description="Steps between two evaluations on the validation split.")
    checkpoint_every: int = Field(1000, ge=1, description="Steps between two checkpoints; a kill loses at most as many.")
    probe_every: int = Field(0, ge=0, description="Steps between two probes of the estimator's gradient; 0 is never.")
    probe_examples: int = Field(4, ge=1, le=1024, description="Examples that a probe measures the gradient on.")
    probe_draws: int = Field(32, ge=2, description="Independent estimates of the gradient that a probe draws.")


# They decide no result. A probe adds to the rows of metrics, and changes nothing else in them nor in a checkpoint: a run may
# go on with other probes, is comparable with a run that has none, and keeps the hash that it had before there were any.
UNNOTICED = ("checkpoint_every", "probe_every", "probe_examples", "probe_draws")
"""Options of the training that a run's hash leaves out."""


class Tracking(BaseModel):
    """Where metrics go besides the run's metrics.jsonl."""

    model_config = STRICT

    wandb: Literal["online", "offline", "disabled"] | None = Field(
        None,
        description="Mode of Weights & Biases; without it, WANDB_MODE, else online where there is a key, else offline.",
    )
    project: str = Field("discrete-latent", min_length=1, description="Weights & Biases project.")
    entity: str | None = Field(None, description="Weights & Biases entity; without it, the account's default one.")
    tags: list[str] = Field([], description="Tags of the run, besides the task, the estimator and the data set.")


class Sweep(BaseModel):
    """Which runs ``latent sweep`` makes of a file, and how it runs them."""

    model_config = STRICT

    configurations: Annotated[list[str] | dict[str, Block | None], Field(min_length=1)] | None = Field(
        None,
        description="Files to sweep, relative to this one, or a block of files with overrides for each; without it, this file.",
    )
    seeds: Annotated[int, Field(ge=1)] | Annotated[list[Seed], Field(min_length=1)] | None = Field(
        None, description="Number of seeds, from 0 on, or a list of them; without it, the seed of the configuration."
    )
    overrides: Block = Field({}, description="Dotted keys with the value that every run has, as in train.steps: 8000.")
    grid: dict[str, Annotated[list[object], Field(min_length=1)]] = Field(
        {}, description="Dotted keys, each with the values to try; every combination is run with every seed."
    )
    launcher: Literal["local", "ray", "slurm", "debug"] | None = Field(
        None,
        description="Where runs are run: processes here, Ray, Slurm, or this process one after another; without it, local.",
    )
    workers: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Runs at a time; without it, as many as the processors, or the cluster, have room for."
    )
    gpus: float | None = Field(
        None, ge=0, description="Graphics processors of a run, as a fraction where several share one; without it, 1 with cuda."
    )
    slurm: Block = Field(
        {}, description="Parameters of the Slurm jobs, in submitit's names, such as slurm_partition and timeout_min."
    )


class Common(BaseModel):
    """Keys that every configuration has."""

    model_config = STRICT

    experiment: str = Field(
        "default",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Name of the folder that groups runs to compare.",
    )
    seed: Seed = Field(0, description="Seed of the parameters, the training games and the estimator.")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda, or one of several as in cuda:1.")
    precision: Literal["32-true", "64-true", "bf16-mixed"] = Field(
        "32-true", description="Arithmetic: single, double, or bfloat16 autocast."
    )
    threads: int = Field(1, ge=1, le=1024, description="CPU threads; results depend on it in the last bits.")
    train: TrainingSettings = Field(default_factory=lambda: TrainingSettings.model_validate({}), description="Training.")
    tracking: Tracking = Field(default_factory=lambda: Tracking.model_validate({}), description="Tracking.")


class Settings(Common):
    """A whole configuration, checked. That of a task has a block with the task's options besides."""

    task: str
    estimator: Chosen
    data: Chosen

    def options_of(self, section: str) -> Options:
        """The task's own options, from its block."""
        options: Options = getattr(self, section)
        return options


def root_model(task: str) -> type[Settings]:
    """The model of the configurations of ``task``."""
    return _root_model(task, parts.tasks()[task])


@cache
def _root_model(task: str, part: type[parts.Task]) -> type[Settings]:
    datasets, options = part.datasets, options_model(part)
    if not isinstance(datasets, Registry):
        datasets = Registry("data set", datasets)
    fields: Block = {
        "task": (Literal[task], Field(description="The task.")),
        "estimator": choice(parts.ALL_ESTIMATORS, None, "The gradient estimator and its options."),
        "data": choice(datasets, None, "The data set and its options."),
        part.section: (options, Field(default_factory=options, description=f"Options of the task {task}.")),
    }
    description = f"An experiment on the task {task}: {describe(part)}"
    return create_model(f"{part.__name__}Configuration", __base__=Settings, __doc__=description, **fields)


def json_schema() -> Block:
    """The JSON Schema of a configuration file, which may leave to the file it extends whatever it does not say."""
    models = [root_model(task) for task in parts.tasks()]
    sweep = TypeAdapter(Sweep).json_schema()
    schema = TypeAdapter(reduce(or_, models)).json_schema()  # a file that leaves its task to another may fit several
    for root in (schema["$defs"][model.__name__] for model in models):
        root.pop("required")
        root["properties"]["extends"] = {
            "type": "string",
            "description": "A file, relative to this one, to start from.",
        }
        root["properties"]["sweep"] = sweep
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class Place(NamedTuple):
    """Where configurations name a part.

    Attributes:
        key: the dotted key.
        kind: what a part there is called.
        tasks: the tasks that have the key, where not all have it with the same parts.
        parts: the parts that can be named there, those of other distributions too.
    """

    key: str
    kind: str
    tasks: list[str]
    parts: Mapping[str, Maker]


def places() -> list[Place]:
    """Every place where configurations name a part, at any depth."""
    tasks = parts.tasks()
    found: dict[tuple[str, Registry[Maker]], dict[str, None]] = {}
    for task in tasks:
        for key, chosen in choices(root_model(task)):
            found.setdefault((key, chosen.registry), {})[task] = None
    inside = [
        Place(f"{key}.name", registry.kind, list(users) if len(users) < len(tasks) else [], available(registry))
        for (key, registry), users in found.items()
    ]
    return [Place("task", "task", [], tasks), *sorted(inside, key=lambda place: place.key.startswith("train."))]
