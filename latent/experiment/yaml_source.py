"""YAML with a location for every value: read safely, merged along ``extends``, overridden from the command line.

Only plain data is read. Numbers follow YAML 1.2, so that ``1e-3`` is a float and ``no`` a string; duplicate keys, tags, merge
keys, and aliases that grow without bound are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 1 << 20
MOST_VALUES = 10_000
MOST_DEPTH = 32
MOST_DIGITS = 18

Key = tuple[str, ...]

Block = dict[str, Any]
"""A mapping of plain data, as YAML and JSON hold it."""


@dataclass(frozen=True)
class Mark:
    """Where a value was written: a file with line and column from 1, or the command line."""

    source: str
    line: int = 0
    column: int = 0
    text: str = ""

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


class ConfigurationError(Exception):
    """One or more mistakes in a configuration, each with its place; ``problems`` holds (mark, message) pairs."""

    def __init__(self, problems: Iterable[tuple[Mark, str]]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(f"{mark}: {message}" for mark, message in self.problems))

    @classmethod
    def at(cls, mark: Mark, message: str) -> ConfigurationError:
        """One mistake."""
        return cls([(mark, message)])


@dataclass
class Source:
    """A mapping of plain data and the mark of each of its keys, by path; ``()`` is the mark of the whole."""

    data: Block = field(default_factory=dict)
    marks: dict[Key, Mark] = field(default_factory=dict)

    def mark(self, key: Key) -> Mark:
        """The mark of ``key`` or of what was written below it, else of the innermost block around it."""
        for path, mark in self.marks.items():
            if key and path[: len(key)] == key:
                return mark
        while key and key not in self.marks:
            key = key[:-1]
        return self.marks.get(key, Mark("configuration"))

    def merged_with(self, child: Source) -> Source:
        """``child`` laid over this: blocks merge key by key, but one whose ``name`` changes is replaced whole.

        A name alone, laid over a block that has a name or under any block, is the block with that name.
        """
        data, marks = dict(self.data), dict(self.marks)
        if () in child.marks:
            marks[()] = child.marks[()]
        for key, value in child.data.items():
            blocks = _blocks(data.get(key), value)
            if blocks is not None:
                old, new = Source(blocks[0], self.within(key).marks), Source(blocks[1], child.within(key).marks)
                inner = old.merged_with(new)
                data[key] = inner.data
            else:
                marks = {path: mark for path, mark in marks.items() if path[:1] != (key,)}
                inner = child.within(key)
                data[key] = value
            marks.update({(key, *path): mark for path, mark in inner.marks.items()})
        return Source(data, marks)

    def within(self, key: str) -> Source:
        """The block below ``key``, with paths relative to it."""
        value = self.data.get(key)
        marks = {path[1:]: mark for path, mark in self.marks.items() if path[:1] == (key,)}
        return Source(value if isinstance(value, dict) else {}, marks)


def _blocks(old: object, new: object) -> tuple[Block, Block] | None:
    """What is to be merged where one value is laid over another; None where the new one replaces it."""
    if isinstance(old, str) and isinstance(new, dict):
        old = {"name": old}
    if isinstance(new, str) and isinstance(old, dict) and "name" in old:
        new = {"name": new}
    if not isinstance(old, dict) or not isinstance(new, dict):
        return None
    names = {block["name"] for block in (old, new) if isinstance(block.get("name"), str)}
    return (old, new) if len(names) <= 1 else None


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars as YAML 1.2's core schema does."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


class _Reader:
    """Turns one document's nodes into plain data and marks."""

    def __init__(self, source: str, text: str) -> None:
        self.source = source
        self.lines = text.splitlines()
        self.marks: dict[Key, Mark] = {}
        self.values = 0

    def mark(self, position: yaml.Mark) -> Mark:
        text = self.lines[position.line] if position.line < len(self.lines) else ""
        return Mark(self.source, position.line + 1, position.column + 1, text)

    def fail(self, node: yaml.Node, message: str) -> ConfigurationError:
        return ConfigurationError.at(self.mark(node.start_mark), message)

    def read(self, node: yaml.Node, path: Key = (), depth: int = 0) -> object:
        self.values += 1
        if self.values > MOST_VALUES:
            raise self.fail(node, f"more than {MOST_VALUES} values once aliases are expanded; refused")
        if depth > MOST_DEPTH:
            raise self.fail(node, f"nested deeper than {MOST_DEPTH} levels; refused")
        self.marks.setdefault(path, self.mark(node.start_mark))
        kind = {"mapping": "map", "sequence": "seq"}.get(getattr(node, "id", ""))
        if kind and node.tag != f"tag:yaml.org,2002:{kind}":
            raise self.fail(node, f"the tag {node.tag!r} is not read; write plain values")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, str(i)), depth + 1) for i, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Key, depth: int) -> Block:
        result: Block = {}
        for key_node, value_node in node.value:
            key, here = key_node.value, (*path, key_node.value)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.startswith("!"):
                raise self.fail(key_node, "a key must be a plain word")
            if key in result:
                raise self.fail(key_node, f"the key {key!r} is given twice; the first time in line {self.marks[here].line}")
            if key == "<<":
                raise self.fail(key_node, "merge keys are not read; use 'extends: other.yaml'")
            self.marks[here] = self.mark(key_node.start_mark)
            result[key] = self.read(value_node, here, depth + 1)
        return result

    def _scalar(self, node: yaml.Node) -> object:
        kind, value = node.tag.removeprefix("tag:yaml.org,2002:"), node.value
        try:
            if kind == "int":
                digits = value.lstrip("+-")
                if len(digits) > MOST_DIGITS:
                    raise self.fail(node, f"a whole number of more than {MOST_DIGITS} digits is not read")
                return int(value, 0) if digits[:2] in ("0o", "0x") else int(value)
            if kind == "float":
                return float(value.lower().replace(".inf", "inf").replace(".nan", "nan"))
            if kind == "bool":
                return {"true": True, "false": False}[value.lower()]
        except (ValueError, KeyError) as error:
            raise self.fail(node, f"{value!r} is not a {kind}") from error
        if kind in ("null", "str"):
            return None if kind == "null" else value
        raise self.fail(node, f"the tag {node.tag!r} is not read; write plain values")


def parse(text: str, source: str) -> Source:
    """Read one document.

    Raises:
        ConfigurationError: if it is not YAML, or not a mapping of plain data.
    """
    reader = _Reader(source, text)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = reader.mark(error.problem_mark) if error.problem_mark else Mark(source)
        raise ConfigurationError.at(mark, f"this is not YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError.at(Mark(source), f"this is not YAML: {error}") from error
    if node is None:
        return Source(marks={(): Mark(source, 1, 1)})
    data = reader.read(node)
    if not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else f"the value {data!r}"
        raise ConfigurationError.at(reader.mark(node.start_mark), f"must be a mapping of keys to values, but it is {kind}")
    return Source(data, reader.marks)


def read(path: Path) -> Source:
    """Read a file, laid over what it extends.

    Raises:
        ConfigurationError: if a file is missing, unreadable or wrong, or extends itself.
    """
    return laid_over(Source(), read_layers(path))


def laid_over(source: Source, layers: Iterable[Source]) -> Source:
    """Layers over a source, each over those before it."""
    return reduce(Source.merged_with, layers, source)


def read_layers(path: Path, seen: tuple[Path, ...] = ()) -> list[Source]:
    """Read a file and what it extends, which comes before it.

    Raises:
        ConfigurationError: if a file is missing, unreadable or wrong, or extends itself.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigurationError.at(Mark(str(path)), f"is larger than {MOST_BYTES} bytes; this is no configuration")
        source = parse(content.decode("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError.at(Mark(str(path)), f"cannot be read: {reason}") from error
    if "extends" not in source.data:
        return [source]
    parent, mark = source.data.pop("extends"), source.marks.pop(("extends",))
    if not isinstance(parent, str):
        raise ConfigurationError.at(mark, f"extends: must name a file, got {parent!r}")
    target = path.parent / parent
    try:
        if not target.is_file():
            raise FileNotFoundError
        if target.resolve() in (path.resolve(), *seen):
            raise ConfigurationError.at(mark, f"extends: {parent} extends this file in turn")
    except (OSError, ValueError) as error:
        raise ConfigurationError.at(mark, f"extends: there is no file {str(target)[:200]!r}") from error
    if len(seen) > MOST_DEPTH:
        raise ConfigurationError.at(mark, f"extends: more than {MOST_DEPTH} files extend each other")
    return [*read_layers(target, (*seen, path.resolve())), source]


def flatten(data: Mapping[str, object], prefix: str = "") -> Block:
    """Nested mappings to dotted keys."""
    flat: Block = {}
    for key, value in data.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
