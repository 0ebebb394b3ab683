"""The configuration of a run: what its keys are, and how a YAML file and the command line become one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import ErrorDetails

from estimators import OptionError
from estimators.options import nearest
from estimators.parts import Registry
from latent.experiment import parts
from latent.experiment.optimizers import OPTIMIZERS
from latent.experiment.options import (
    STRICT,
    Choice,
    Chosen,
    Options,
    available,
    choice,
    choice_of,
    choices,
    default_names,
    describe,
    option_keys,
    options_model,
)
from latent.experiment.schedules import SCHEDULES
from latent.experiment.yaml_source import (
    Block,
    ConfigurationError,
    Key,
    Mark,
    Override,
    Source,
    laid_over,
    parse_override,
    read,
    read_layers,
    with_overrides,
)

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
    fields: dict[str, Any] = {
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
    parts: Mapping[str, Callable[..., object]]


def places() -> list[Place]:
    """Every place where configurations name a part, at any depth."""
    tasks = parts.tasks()
    found: dict[tuple[str, Registry[Any]], dict[str, None]] = {}
    for task in tasks:
        for key, chosen in choices(root_model(task)):
            found.setdefault((key, chosen.registry), {})[task] = None
    inside = [
        Place(f"{key}.name", registry.kind, list(users) if len(users) < len(tasks) else [], available(registry))
        for (key, registry), users in found.items()
    ]
    return [Place("task", "task", [], tasks), *sorted(inside, key=lambda place: place.key.startswith("train."))]


@dataclass(frozen=True)
class Configuration:
    """A valid configuration, complete with every default; ``source`` knows where each key was written."""

    settings: Settings
    source: Source

    @cached_property
    def data(self) -> Block:
        """The configuration as plain data."""
        return self.settings.model_dump()

    def error(self, block: str, error: OptionError) -> ConfigurationError:
        """What the constructor of a part, or of one inside it, found wrong, with its place in the configuration."""
        dotted = f"{block}.{error.option}"
        return ConfigurationError.at(self.source.mark(tuple(dotted.split("."))), f"{dotted}: {error.message}")

    def in_full(self, path: Key, value: object) -> object:
        """A value that was given for a key, with a block for every name that stands for one."""
        return _in_full(value, reduce(lambda block, key: block[key], path, self.data))

    def digest(self, fingerprint: str) -> str:
        """Hash of all that decides results but the seed: no paths, no tracking, no device's number, but the data's content."""
        kept = {key: value for key, value in self.data.items() if key not in ("seed", "experiment", "tracking")}
        kept["device"] = kept["device"].partition(":")[0]
        kept["train"] = {key: value for key, value in kept["train"].items() if key not in UNNOTICED}
        kept["data"] = {key: value for key, value in kept["data"].items() if key != "path"} | {"content": fingerprint}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]


def _in_full(given: Any, complete: Any) -> Any:
    if isinstance(complete, dict):
        block = {"name": given} if isinstance(given, str) else given
        return {key: _in_full(value, complete.get(key)) for key, value in block.items()}
    return given


def load(path: Path, overrides: Sequence[str | Override]) -> Configuration:
    """Read a configuration file with overrides, ``KEY=VALUE`` where they are text.

    Raises:
        ConfigurationError: with the place of every mistake, and what would have been right.
    """
    layers = read_layers(path)
    source, sweep = _without_sweep(laid_over(Source(), layers))
    if "configurations" in sweep.data:
        raise ConfigurationError.at(sweep.mark(("configurations",)), "this is a sweep of several files; latent sweep runs it")
    given = [parse_override(each) if isinstance(each, str) else each for each in overrides]
    task = _task(with_overrides(source, [each for each in given if each[0][:1] == ("task",)]))
    model = root_model(task)
    source, _ = _without_sweep(laid_over(Source(default_names(model)), layers))
    source = with_overrides(source, given)
    try:
        return Configuration(model.model_validate(source.data), source)
    except ValidationError as error:
        raise ConfigurationError([_problem(source, model, problem) for problem in error.errors()]) from None


def read_sweep(path: Path) -> tuple[Source, Source]:
    """Read a configuration file without its block ``sweep``, and that block.

    Raises:
        ConfigurationError: if a file is missing, unreadable or wrong.
    """
    return _without_sweep(read(path))


def _without_sweep(source: Source) -> tuple[Source, Source]:
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
        problems = error.errors()
    described = {}
    for problem in problems:
        key, *below = (str(part) for part in problem["loc"])
        mark, message = _problem(block, Sweep, problem)
        if (key, *below) not in block.marks:  # it is none of several things that it could have been
            mark, message = block.mark((key,)), f"{key}: got {_shown(block.data[key])}"
        meaning = Sweep.model_fields[key].description if key in Sweep.model_fields else ""
        described[message] = (mark, f"sweep.{message}{f'. {meaning}' * bool(meaning)}")
    raise ConfigurationError(list(described.values()))


def _task(source: Source) -> str:
    """The task that a configuration names, known to exist."""
    task, available = source.data.get("task"), parts.tasks()
    if task is None:
        raise ConfigurationError.at(source.mark(("task",)), f"task is missing; one of: {', '.join(available)}")
    if not isinstance(task, str) or task not in available:
        raise ConfigurationError.at(source.mark(("task",)), _unknown("task", "task", task, available))
    return task


def _unknown(dotted: str, kind: str, name: object, available: Mapping[str, object]) -> str:
    close = nearest(str(name), available)
    return f"{dotted}: there is no {kind} {_shown(name)}{close}; one of: {', '.join(available)}"


def _place(model: type[BaseModel], location: Sequence[int | str]) -> tuple[Key, type[BaseModel] | None, Choice | None]:
    """Where in a configuration an error is: its keys, and the model of the block around it, or what is to be chosen there."""
    path: list[str] = []
    inside: type[BaseModel] | None = model
    around, chosen = inside, None
    steps = iter(map(str, location))
    for step in steps:
        path.append(step)
        field = inside.model_fields.get(step) if inside else None
        around, chosen = inside, choice_of(field)
        if chosen is not None:
            inside = chosen.models.get(next(steps, ""))  # the name of the part comes next in an error's location
            chosen = chosen if inside is None else None
        else:
            kind = field.annotation if field else None
            inside = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    return tuple(path), around, chosen


def _problem(source: Source, model: type[BaseModel], error: ErrorDetails) -> tuple[Mark, str]:
    """One of pydantic's errors, as a mark and a message in the words of a configuration."""
    path, block, chosen = _place(model, error["loc"])
    dotted = ".".join(path)
    if chosen is not None:
        return _no_choice(source, path, chosen, error["input"])
    if error["type"] == "extra_forbidden" and block is not None:
        keys = sorted(block.model_fields)
        place = f" in {'.'.join(path[:-1])}" if path[:-1] else ""
        known = f"keys{place}: {', '.join(keys)}" if keys else f"{'.'.join(path[:-1])} has no options"
        inside = [key for key in option_keys(block) if key.endswith(f".{path[-1]}")]
        hint = f"; did you mean {inside[0]!r}?" if inside else nearest(path[-1], keys)
        return source.mark(path), f"{dotted}: unknown key {path[-1]!r}{hint}; {known}"
    if error["type"] == "missing":
        return source.mark(path), f"{dotted} is missing"
    message = error["msg"].replace("Input should be", "must be").replace("String should", "must")
    message = message.replace("List should", "must").replace("Value should", "must").removesuffix(" after validation, not 0")
    if error["type"] == "model_type":
        message = "must be a block of keys"
    if error["type"] == "string_pattern_mismatch":
        meaning = model.model_fields[path[0]].description or ""
        message = f"{meaning.rstrip('.')}; must match {error['ctx']['pattern']}"
    return source.mark(path), f"{dotted}: {message}, got {_shown(error['input'])}"


def _no_choice(source: Source, path: Key, chosen: Choice, value: object) -> tuple[Mark, str]:
    """What is wrong where a part is to be chosen, and none is."""
    dotted, available = ".".join(path), chosen.models
    if value is None or (isinstance(value, dict) and "name" not in value):
        return source.mark((*path, "name")), f"{dotted}.name is missing; one of: {', '.join(available)}"
    if isinstance(value, dict):
        return source.mark((*path, "name")), _unknown(f"{dotted}.name", chosen.registry.kind, value["name"], available)
    first = next(iter(available))
    message = f"{dotted} must be a block with a name, such as '{path[-1]}: {{name: {first}}}', or that name alone"
    return source.mark(path), f"{message}, got {_shown(value)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
