"""Overrides: single keys that are laid over a configuration, from the command line or from a sweep."""

from __future__ import annotations

from collections.abc import Iterable

from latent.experiment.yaml_source import Block, ConfigurationError, Key, Mark, Source, parse

Override = tuple[Key, Source]
"""A key's path, and a mapping that holds nothing but that key."""


def override(path: Key, value: object, mark: Mark) -> Override:
    """One key set to a value, which was written at ``mark``."""
    data: Block = {path[-1]: value}
    for part in reversed(path[:-1]):
        data = {part: data}
    return path, Source(data, {path: mark})


def parse_override(text: str) -> Override:
    """Read one ``KEY=VALUE`` of the command line, with a dotted key and a YAML value.

    Raises:
        ConfigurationError: if there is no ``=``, or the value is not YAML.
    """
    origin = Mark(f"command line, {text[:200]!r}")
    key, separator, value = text.partition("=")
    path = split_key(key)
    if not separator or not path:
        raise ConfigurationError.at(origin, "an override is written KEY=VALUE, as in train.steps=1000")
    return override(path, parse_value(value, origin), origin)


def split_key(key: str) -> Key:
    """The parts of a dotted key; empty, if one of them is."""
    path = tuple(key.strip().split("."))
    return path if all(path) else ()


def parse_value(text: str, origin: Mark) -> object:
    """Read one YAML value that was written at ``origin``.

    Raises:
        ConfigurationError: if it is not YAML, or more than a value.
    """
    try:
        content = parse(f"value: {text}", "").data
    except ConfigurationError as error:
        raise ConfigurationError.at(origin, error.problems[0][1]) from error
    if len(content) > 1:
        raise ConfigurationError.at(origin, "an override sets one key; give others as arguments of their own")
    return content["value"]


def with_overrides(source: Source, overrides: Iterable[Override]) -> Source:
    """``source`` with every override laid over it at once, so that their order does not matter.

    Raises:
        ConfigurationError: if two overrides set the same key, or one sets a block and another a key in it.
    """
    together = Source()
    given: list[Key] = []
    for path, single in (_named(source, *each) for each in overrides):
        for other in given:
            if path[: len(other)] == other or other[: len(path)] == path:
                message = f"{'.'.join(path)} and {'.'.join(other)} cannot both be given"
                raise ConfigurationError.at(single.marks[path], message)
        given.append(path)
        together = together.merged_with(single)
    return source.merged_with(together)


def _named(source: Source, path: Key, single: Source) -> Override:
    """An override whose value is the name alone of a block that has one sets the block's ``name``."""
    block, value = _at(source.data, path), _at(single.data, path)
    if isinstance(value, str) and isinstance(block, dict) and "name" in block:
        return override((*path, "name"), value, single.marks[path])
    return path, single


def _at(data: object, path: Key) -> object:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data
