"""Options of parts: pydantic models made from constructors, which give a schema, a check, and the part with its options.

A part is a class or function; its options are its keyword-only parameters, with their types, defaults and documentation.
Nothing about an option is written anywhere else. An option that is a part itself is annotated with the
:class:`~estimators.parts.Registry` that it is chosen from; it is a block with a ``name`` and options, and a name alone stands
for the block with that name.
"""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, ClassVar, Literal

import docstring_parser
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from estimators.parts import Part, Registry, made_by
from latent.experiment.yaml_source import Block

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

Maker = Callable[..., Any]
"""A part: a class or function that makes anything."""

log = logging.getLogger(__name__)


class Options(BaseModel):
    """The options of a part, checked."""

    model_config = STRICT
    part_: ClassVar[Maker]
    """What the options are of; with a name that no option has."""


class Chosen(Options):
    """A part that is one of several: its name and its options."""

    name: str


@dataclass(frozen=True)
class Choice:
    """Marks a field as a part that is chosen from a registry, and tells pydantic how: as a block, or as its name alone.

    Attributes:
        registry: what it is chosen from; the parts of other distributions are added.
        default: the name of the part that a block without a name is about.
    """

    registry: Registry[Maker]
    default: str | None = None

    @property
    def models(self) -> dict[str, type[Chosen]]:
        """The options of each part that there is."""
        return {name: options_model(part, name) for name, part in available(self.registry).items()}

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        blocks = {name: handler.generate_schema(model) for name, model in self.models.items()}
        return core_schema.no_info_before_validator_function(self._as_block, core_schema.tagged_union_schema(blocks, "name"))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        blocks = handler(schema)["oneOf"]
        complete = [
            name for name, model in self.models.items() if not any(map(FieldInfo.is_required, model.model_fields.values()))
        ]
        return {"anyOf": [*([{"enum": complete}] if complete else []), *blocks]}

    def _as_block(self, value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and value.get("name") is None:
            named = {"name": self.default} if self.default else {}
            return {**named, **{key: each for key, each in value.items() if key != "name"}}
        return value


def choice(registry: Registry[Maker], default: str | None, description: str) -> tuple[object, FieldInfo]:
    """The type and the field of a part that is chosen from a registry, as ``create_model`` takes them."""
    field = Field(default, validate_default=True, description=description) if default else Field(description=description)
    return Annotated[Chosen, Choice(registry, default)], field


def choice_of(field: FieldInfo | None) -> Choice | None:
    """What a field is chosen from, if it is a part."""
    return next((each for each in (field.metadata if field else ()) if isinstance(each, Choice)), None)


def bound(options: Options) -> Maker:
    """A part with its options, and the parts inside it with theirs; to be called with what it is made from."""
    given = {key: bound(value) if isinstance(value, Options) else value for key, value in options}
    if isinstance(options, Chosen):
        del given["name"]
    return partial(options.part_, **given)


def describe(part: Maker) -> str:
    """The first sentence of a part's docstring."""
    return (docstring_parser.parse(inspect.getdoc(part) or "").short_description or "").replace("``", "")


@typing.overload
def options_model(part: Maker) -> type[Options]: ...
@typing.overload
def options_model(part: Maker, name: str) -> type[Chosen]: ...
@cache
def options_model(part: Maker, name: str = "") -> type[Options]:
    """A pydantic model of a part's options; with ``name``, also of the key ``name`` that chooses the part.

    Raises:
        TypeError: if an option cannot be read: it is not keyword-only, or it is a part without a name as its default.
    """
    documented = {p.arg_name: p.description for p in docstring_parser.parse(inspect.getdoc(part) or "").params}
    hints = typing.get_type_hints(part.__init__ if inspect.isclass(part) else part, include_extras=True)
    fields: Block = {}
    if name:
        fields["name"] = (Literal[name], Field(name, description=describe(part)))
    for option in inspect.signature(part).parameters.values():
        if option.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and option.default is not inspect.Parameter.empty:
            raise TypeError(f"the option {option.name!r} must be keyword-only")
        if option.kind is inspect.Parameter.KEYWORD_ONLY:
            description = " ".join((documented.get(option.name) or "").replace("``", "").split())
            fields[option.name] = _field(option, hints[option.name], description)
    title = "".join(word.title() for word in (name or getattr(part, "__name__", "part")).split("_"))
    base = Chosen if name else Options
    model: type[Options] = create_model(title, __base__=base, __doc__=describe(part), **fields)
    model.part_ = staticmethod(part)
    return model


def _field(option: inspect.Parameter, kind: Any, description: str) -> tuple[object, FieldInfo]:
    default = ... if option.default is inspect.Parameter.empty else option.default
    registry = next((each for each in getattr(kind, "__metadata__", ()) if isinstance(each, Registry)), None)
    if registry is None:
        TypeAdapter[object](kind)  # refuses what cannot be checked
        return kind, Field(default, description=description)
    if default is not ... and not isinstance(default, str):
        raise TypeError(f"the option {option.name!r} is a {registry.kind}: its default must be a name")
    return choice(registry, None if default is ... else default, description)


def choices(model: type[BaseModel], prefix: str = "", around: frozenset[Choice] = frozenset()) -> Iterator[tuple[str, Choice]]:
    """Every place where a part is chosen, by its dotted key, at any depth; ``around`` holds the choices around it."""
    for key, field in model.model_fields.items():
        found = choice_of(field)
        if found is not None:
            yield f"{prefix}{key}", found
            inside = [] if found in around else found.models.values()  # a part may hold one of its own kind
            for inner in inside:
                yield from choices(inner, f"{prefix}{key}.", around | {found})
        elif inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            yield from choices(field.annotation, f"{prefix}{key}.", around)


def option_keys(model: type[BaseModel]) -> list[str]:
    """Dotted keys of the options of all parts inside a block, at any depth."""
    models = [(key, inner) for key, chosen in choices(model) for inner in chosen.models.values()]
    return [f"{key}.{option}" for key, inner in models for option in inner.model_fields if option != "name"]


def complete_default(field: FieldInfo) -> object:
    """The default of an option as a complete configuration has it."""
    found = choice_of(field)
    return found.models[found.default].model_validate({}).model_dump() if found and found.default else field.default


def default_names(model: type[BaseModel]) -> Block:
    """A block with a ``name`` wherever a part is chosen: the default's, or None."""
    names: Block = {}
    for key, field in model.model_fields.items():
        found = choice_of(field)
        if found is not None:
            names[key] = {"name": found.default, **(default_names(found.models[found.default]) if found.default else {})}
        elif inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            names[key] = default_names(field.annotation)
    return {key: value for key, value in names.items() if value}


UNUSABLE = "%s: the entry point %r cannot be used: %s: %s"


@cache
def available(registry: Registry[Part]) -> dict[str, Part]:
    """The parts of a registry, and those that other distributions add; one whose name is taken is left out, with a warning."""
    parts = dict(registry)
    for entry, part in _of_others(registry.group, registry.family) if registry.group else ():
        if not _makes(part, registry.makes):
            continue
        if entry.name in parts:
            log.warning("%s: the entry point %r is ignored: its name is taken", entry.name, entry.value)
            continue
        try:
            if registry.check is not None:
                registry.check(part)
        except (TypeError, ValueError) as error:
            log.warning(UNUSABLE, entry.name, entry.value, type(error).__name__, error)
            continue
        parts[entry.name] = typing.cast("Part", part)
    return parts


@cache
def _of_others(group: str, family: type) -> list[tuple[EntryPoint, Maker]]:
    """What other distributions add to a group; what cannot be used is left out, with a warning."""
    parts = []
    for entry in entry_points(group=group):
        try:
            part = entry.load()
            options_model(part)
            if not _makes(part, family):
                raise TypeError(f"it makes no {family.__name__}: be a subclass, or a function annotated to return one")
        except Exception as error:  # of a distribution that this one knows nothing of
            log.warning(UNUSABLE, entry.name, entry.value, type(error).__name__, error)
            continue
        parts.append((entry, part))
    return parts


def _makes(part: Maker, kind: type) -> bool:
    made = made_by(part)
    return kind is object or (inspect.isclass(made) and issubclass(made, kind))
