"""The configuration of a run: how a YAML file and the command line become one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path

from pydantic import ValidationError

from estimators import OptionError
from latent.experiment import parts
from latent.experiment.options import default_names
from latent.experiment.overrides import Override, parse_override, with_overrides
from latent.experiment.problems import problem, shown, unknown
from latent.experiment.settings import UNNOTICED, Settings, Sweep, root_model
from latent.experiment.yaml_source import Block, ConfigurationError, Key, Source, laid_over, read, read_layers


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


def _in_full(given: object, complete: object) -> object:
    if isinstance(given, str) and isinstance(complete, dict):
        return {"name": given}
    if isinstance(given, dict) and isinstance(complete, dict):
        return {key: _in_full(value, complete.get(key)) for key, value in given.items()}
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
        raise ConfigurationError([problem(source, model, each) for each in error.errors()]) from None


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
    for each in problems:
        key, *below = (str(part) for part in each["loc"])
        mark, message = problem(block, Sweep, each)
        if (key, *below) not in block.marks:  # it is none of several things that it could have been
            mark, message = block.mark((key,)), f"{key}: got {shown(block.data[key])}"
        meaning = Sweep.model_fields[key].description if key in Sweep.model_fields else ""
        described[message] = (mark, f"sweep.{message}. {meaning}" if meaning else f"sweep.{message}")
    raise ConfigurationError(list(described.values()))


def _task(source: Source) -> str:
    """The task that a configuration names, known to exist."""
    task, available = source.data.get("task"), parts.tasks()
    if task is None:
        raise ConfigurationError.at(source.mark(("task",)), f"task is missing; one of: {', '.join(available)}")
    if not isinstance(task, str) or task not in available:
        raise ConfigurationError.at(source.mark(("task",)), unknown("task", "task", task, available))
    return task
