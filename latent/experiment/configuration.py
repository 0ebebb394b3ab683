"""The configuration of a run: what its keys are, and how a YAML file and the command line become one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model

from estimators import OptionError
from estimators.options import nearest
from latent.experiment import parts
from latent.experiment.yaml_source import ConfigurationError, Override, Source, parse_override, read, with_overrides

Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Training(BaseModel):
    """How the parameters are trained: Adam (Kingma and Ba 2015) on batches drawn afresh."""

    model_config = parts.STRICT

    steps: int = Field(5000, ge=1, description="Training steps, those of a warm start not counted.")
    batch_size: int = Field(64, ge=1, description="Examples of a step.")
    learning_rate: float = Field(1e-3, gt=0, description="Learning rate of Adam.")
    estimator_learning_rate: float | None = Field(
        None, gt=0, description="Learning rate of the estimator's own parameters; without it, learning_rate."
    )
    weight_decay: float = Field(0.0, ge=0, description="Weight of the L2 penalty on the task's parameters, in Adam's gradient.")
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
"""Options of :class:`Training` that a run's hash leaves out."""


class Tracking(BaseModel):
    """Where metrics go besides the run's metrics.jsonl."""

    model_config = parts.STRICT

    wandb: Literal["online", "offline", "disabled"] | None = Field(
        None,
        description="Mode of Weights & Biases; without it, WANDB_MODE, else online where there is a key, else offline.",
    )
    project: str = Field("discrete-latent", min_length=1, description="Weights & Biases project.")
    entity: str | None = Field(None, description="Weights & Biases entity; without it, the account's default one.")
    tags: list[str] = Field([], description="Tags of the run, besides the task, the estimator and the data set.")


class Sweep(BaseModel):
    """Which runs ``latent sweep`` makes of a file, and how it runs them."""

    model_config = parts.STRICT

    configurations: Annotated[list[str] | dict[str, dict[str, Any] | None], Field(min_length=1)] | None = Field(
        None,
        description="Files to sweep, relative to this one, or a block of files with overrides for each; without it, this file.",
    )
    seeds: Annotated[int, Field(ge=1)] | Annotated[list[Seed], Field(min_length=1)] | None = Field(
        None, description="Number of seeds, from 0 on, or a list of them; without it, the seed of the configuration."
    )
    overrides: dict[str, Any] = Field({}, description="Dotted keys with the value that every run has, as in train.steps: 8000.")
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
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
    slurm: dict[str, Any] = Field(
        {}, description="Parameters of the Slurm jobs, in submitit's names, such as slurm_partition and timeout_min."
    )


class Common(BaseModel):
    """Keys that every configuration has."""

    model_config = parts.STRICT

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
    train: Training = Field(default_factory=lambda: Training.model_validate({}), description="Training.")
    tracking: Tracking = Field(default_factory=lambda: Tracking.model_validate({}), description="Tracking.")


def _choice(available: dict[str, parts.Part], name: str | None, description: str) -> Any:
    """A field for one of several parts: that of ``name``, or of whichever the key ``name`` says."""
    if name is not None:
        return (parts.options_model(available[name], name), Field(description=description))
    union = _union([parts.options_model(part, each) for each, part in available.items()], "name")
    return (union, Field(description=description))


def _union(models: list[type[BaseModel]], discriminator: str) -> Any:
    """One of several models, told apart by a key."""
    union: Any = reduce(or_, models)
    return Annotated[union, Field(discriminator=discriminator)] if len(models) > 1 else union


def root_model(task: str, estimator: str | None = None, data: str | None = None) -> type[BaseModel]:
    """The model of a whole configuration of ``task``; of all estimators and data sets where none is named."""
    part: Any = parts.tasks()[task]
    options = parts.options_model(part)
    fields: dict[str, Any] = {
        "task": (Literal[task], Field(description="The task.")),
        "estimator": _choice(parts.estimators(), estimator, "The gradient estimator and its options."),
        "data": _choice(dict(part.datasets), data, "The data set and its options."),
        part.section: (options, Field(default_factory=options, description=f"Options of the task {task}.")),
    }
    return create_model(
        f"{part.__name__}Configuration",
        __base__=Common,
        __doc__=f"An experiment on the task {task}: {parts.describe(part)}",
        **fields,
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file, which may leave to the file it extends whatever it does not say."""
    models = [root_model(task) for task in parts.tasks()]
    sweep = TypeAdapter(Sweep).json_schema()
    schema = TypeAdapter(_union(models, "task")).json_schema()
    schema.pop("discriminator", None)
    if "oneOf" in schema:  # a file that leaves its task to the one that it extends may fit several
        schema["anyOf"] = schema.pop("oneOf")
    roots = [schema["$defs"][model.__name__] for model in models] if len(models) > 1 else [schema]
    for root in roots:
        root.pop("required")
        root["properties"]["extends"] = {
            "type": "string",
            "description": "A file, relative to this one, to start from.",
        }
        root["properties"]["sweep"] = sweep
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


@dataclass(frozen=True)
class Configuration:
    """A valid configuration: ``data`` is complete, with every default; ``source`` knows where each key was written."""

    data: dict[str, Any]
    source: Source

    def error(self, block: str, error: OptionError) -> ConfigurationError:
        """What a part's constructor found wrong, with its place in the configuration."""
        return ConfigurationError.at(self.source.mark((block, error.option)), f"{block}.{error.option}: {error.message}")

    def digest(self, fingerprint: str) -> str:
        """Hash of all that decides results but the seed: no paths, no tracking, no device's number, but the data's content."""
        kept = {key: value for key, value in self.data.items() if key not in ("seed", "experiment", "tracking")}
        kept["device"] = kept["device"].partition(":")[0]
        kept["train"] = {key: value for key, value in kept["train"].items() if key not in UNNOTICED}
        kept["data"] = {key: value for key, value in kept["data"].items() if key != "path"} | {"content": fingerprint}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]


def load(path: Path, overrides: Sequence[str | Override]) -> Configuration:
    """Read a configuration file with overrides, ``KEY=VALUE`` where they are text.

    Raises:
        ConfigurationError: with the place of every mistake, and what would have been right.
    """
    source, sweep = read_sweep(path)
    if "configurations" in sweep.data:
        raise ConfigurationError.at(sweep.mark(("configurations",)), "this is a sweep of several files; latent sweep runs it")
    source = with_overrides(source, [parse_override(each) if isinstance(each, str) else each for each in overrides])
    available: Any = parts.tasks()
    task = _chosen(source, ("task",), available, "task")
    estimator = _chosen(source, ("estimator", "name"), parts.estimators(), "estimator")
    data = _chosen(source, ("data", "name"), available[task].datasets, "data set")
    model = root_model(task, estimator, data)
    try:
        resolved = model.model_validate(source.data)
    except ValidationError as error:
        raise ConfigurationError([_problem(source, model, dict(problem)) for problem in error.errors()]) from None
    return Configuration(resolved.model_dump(), source)


def read_sweep(path: Path) -> tuple[Source, Source]:
    """Read a configuration file without its block ``sweep``, and that block.

    Raises:
        ConfigurationError: if a file is missing, unreadable or wrong.
    """
    source = read(path)
    sweep = source.within("sweep")
    if not isinstance(source.data.pop("sweep", {}), dict):
        raise ConfigurationError.at(source.mark(("sweep",)), "sweep must be a block of keys")
    marks = {key: mark for key, mark in source.marks.items() if key[:1] != ("sweep",)}
    return Source(source.data, marks), sweep


def sweep_settings(block: Source) -> Sweep:
    """Check a block ``sweep``.

    Raises:
        ConfigurationError: with the place of every mistake.
    """
    try:
        return Sweep.model_validate(block.data)
    except ValidationError as error:
        problems: list[dict[str, Any]] = [dict(problem) for problem in error.errors()]
    described = {}
    for problem in problems:
        key, *below = (str(part) for part in problem["loc"])
        mark, message = _problem(block, Sweep, problem)
        if (key, *below) not in block.marks:  # it is none of several things that it could have been
            mark, message = block.mark((key,)), f"{key}: got {_shown(block.data[key])}"
        meaning = Sweep.model_fields[key].description if key in Sweep.model_fields else ""
        described[message] = (mark, f"sweep.{message}. {meaning}" if meaning else f"sweep.{message}")
    raise ConfigurationError(list(described.values()))


def _chosen(source: Source, path: tuple[str, ...], available: Any, kind: str) -> str:
    """The part named at ``path``, known to exist."""
    block = source.data.get(path[0])
    if len(path) > 1 and block is not None and not isinstance(block, dict):
        example = f"{path[0]}: {{name: {next(iter(available))}}}"
        message = f"{path[0]} must be a block with a name, such as '{example}', got {_shown(block)}"
        raise ConfigurationError.at(source.mark(path[:1]), message)
    value = block.get(path[1]) if len(path) > 1 and block else block
    dotted = ".".join(path)
    if value is None:
        raise ConfigurationError.at(source.mark(path), f"{dotted} is missing; one of: {', '.join(available)}")
    if not isinstance(value, str) or value not in available:
        message = (
            f"{dotted}: there is no {kind} {_shown(value)}{nearest(str(value), available)}; one of: {', '.join(available)}"
        )
        raise ConfigurationError.at(source.mark(path), message)
    return value


def _problem(source: Source, model: Any, error: dict[str, Any]) -> Any:
    """One of pydantic's errors, as a mark and a message in the words of a configuration."""
    path = tuple(map(str, error["loc"]))
    dotted = ".".join(path)
    if error["type"] == "extra_forbidden":
        for key in path[:-1]:
            model = model.model_fields[key].annotation
        keys = sorted(model.model_fields)
        place = f" in {'.'.join(path[:-1])}" if path[:-1] else ""
        known = f"keys{place}: {', '.join(keys)}" if keys else f"{'.'.join(path[:-1])} has no options"
        return source.mark(path), f"{dotted}: unknown key {path[-1]!r}{nearest(path[-1], keys)}; {known}"
    if error["type"] == "missing":
        return source.mark(path), f"{dotted} is missing"
    message = error["msg"].replace("Input should be", "must be").replace("String should", "must")
    message = message.replace("List should", "must").replace("Value should", "must").removesuffix(" after validation, not 0")
    if error["type"] == "model_type":
        message = "must be a block of keys"
    if error["type"] == "string_pattern_mismatch":
        message = f"{model.model_fields[path[0]].description.rstrip('.')}; must match {error['ctx']['pattern']}"
    return source.mark(path), f"{dotted}: {message}, got {_shown(error['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
