"""What is wrong with a configuration, with its place and in its own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from estimators.options import nearest
from latent.experiment.options import Choice, choice_of, option_keys
from latent.experiment.yaml_source import Key, Mark, Source


def unknown(dotted: str, kind: str, name: object, available: Mapping[str, object]) -> str:
    """That there is no part of that name, and which there are."""
    close = nearest(str(name), available)
    return f"{dotted}: there is no {kind} {shown(name)}{close}; one of: {', '.join(available)}"


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


def problem(source: Source, model: type[BaseModel], error: ErrorDetails) -> tuple[Mark, str]:
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
    if error["type"] == "string_pattern_mismatch" and block is not None:
        meaning = block.model_fields[path[-1]].description or ""
        message = f"{meaning.rstrip('.')}; must match {error['ctx']['pattern']}"
    return source.mark(path), f"{dotted}: {message}, got {shown(error['input'])}"


def _no_choice(source: Source, path: Key, chosen: Choice, value: object) -> tuple[Mark, str]:
    """What is wrong where a part is to be chosen, and none is."""
    dotted, available = ".".join(path), chosen.models
    if value is None or (isinstance(value, dict) and "name" not in value):
        return source.mark((*path, "name")), f"{dotted}.name is missing; one of: {', '.join(available)}"
    if isinstance(value, dict):
        return source.mark((*path, "name")), unknown(f"{dotted}.name", chosen.registry.kind, value["name"], available)
    first = next(iter(available))
    message = f"{dotted} must be a block with a name, such as '{path[-1]}: {{name: {first}}}', or that name alone"
    return source.mark(path), f"{message}, got {shown(value)}"


def shown(value: object) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
