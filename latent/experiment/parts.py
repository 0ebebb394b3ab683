"""Parts by name: estimators, tasks and data sets, and the options that their constructors declare.

A part is a class or function; its options are its keyword-only parameters, with their types, defaults and documentation.
Nothing about an option is written anywhere else. Other distributions add parts through the entry points of the groups
``discrete_latent.estimators`` and ``discrete_latent.tasks``.
"""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal, Protocol

import docstring_parser
from pydantic import BaseModel, ConfigDict, Field, create_model
from torch import Generator, Tensor

from estimators import ESTIMATORS, Estimator, Space
from games import SignalGame
from latent.experiment.vocabulary import Vocabulary, declared_by, undeclared
from latent.models import VAE, BitVectorVAE, Reparameterization, SemiSupervisedVAE
from latent.words import Metric

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Task(Protocol):
    """What the runner asks of a task; a task is also an ``nn.Module``, made from a data set and its own options."""

    section: str
    """The block of a configuration that holds the task's options."""
    datasets: Mapping[str, Callable[..., Any]]
    """The data sets that the task can be trained on, by name."""
    space: type[Space]
    """The kind of latent that its scores are of."""
    fingerprint: str
    """Hash of the data set's content."""
    metrics: tuple[Metric, ...]
    """What it measures, in the order in which it is shown."""
    headline: str
    """The name of the one that it is judged by."""

    def check_estimator(self, estimator: Estimator) -> None:
        """Raise OptionError if the estimator cannot train this task."""

    def draw(self, batch_size: int, generator: Generator) -> Any:
        """A training batch."""

    def evaluate(self, split: str, estimator: Estimator) -> dict[str, float]:
        """Metrics of ``val`` or ``test``."""

    def pictures(self, estimator: Estimator) -> dict[str, Tensor]:
        """Pictures to look at, by name: ``[H, W]`` uint8 each; none, where there is nothing to see."""

    def __call__(self, batch: Any, estimator: Estimator, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective, and metrics of each example, ``decoder_calls`` among them.

        A task that can be started warm has a method ``warm_start(batch, estimator, generator)`` that returns the same.
        """


Part = Callable[..., Any]

CONTINUOUS: dict[str, Part] = {"reparameterization": Reparameterization}
"""Estimators of latents that are not discrete, which no certificate enumerates."""

log = logging.getLogger(__name__)


def _with_entry_points(
    built_in: Mapping[str, Part], group: str, check: Callable[[Any], object] = lambda part: None
) -> dict[str, Part]:
    """The parts that come with this distribution, and those of others; one that cannot be used is left out, with a warning."""
    parts = dict(built_in)
    for entry in entry_points(group=group):
        if entry.name in parts:
            log.warning("%s: the entry point %r is ignored: its name is taken", entry.name, entry.value)
            continue
        try:
            part = entry.load()
            options_model(part)
            check(part)
        except Exception as error:  # of a distribution that this one knows nothing of
            log.warning("%s: the entry point %r cannot be used: %s: %s", entry.name, entry.value, type(error).__name__, error)
            continue
        parts[entry.name] = part
    return parts


@cache
def estimators() -> dict[str, Part]:
    """Estimators by name."""
    return _with_entry_points({**ESTIMATORS, **CONTINUOUS}, "discrete_latent.estimators")


@cache
def tasks() -> dict[str, Part]:
    """Tasks by name."""
    built_in = {
        "signal_game": SignalGame,
        "vae": VAE,
        "bit_vector_vae": BitVectorVAE,
        "ssvae": SemiSupervisedVAE,
    }
    return _with_entry_points(built_in, "discrete_latent.tasks", declared_by)


def vocabulary(task: str, summaries: Iterable[Iterable[str]] = ()) -> Vocabulary:
    """The metrics of the runs of a task, by its name; ``summaries`` have those of its runs, should the task not be here."""
    part: Any = tasks().get(task)
    return undeclared(task, summaries) if part is None else declared_by(part)


def describe(part: Part) -> str:
    """The first sentence of a part's docstring."""
    return (docstring_parser.parse(inspect.getdoc(part) or "").short_description or "").replace("``", "")


@cache
def options_model(part: Part, name: str = "") -> type[BaseModel]:
    """A pydantic model of a part's options; with ``name``, also of the key ``name`` that chooses the part."""
    documented = {p.arg_name: p.description for p in docstring_parser.parse(inspect.getdoc(part) or "").params}
    hints = typing.get_type_hints(part.__init__ if inspect.isclass(part) else part)
    fields: dict[str, Any] = {}
    if name:
        fields["name"] = (Literal[name], Field(description=describe(part)))
    for option in inspect.signature(part).parameters.values():
        if option.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and option.default is not inspect.Parameter.empty:
            raise TypeError(f"the option {option.name!r} must be keyword-only")
        if option.kind is inspect.Parameter.KEYWORD_ONLY:
            default = ... if option.default is inspect.Parameter.empty else option.default
            description = " ".join((documented.get(option.name) or "").replace("``", "").split())
            fields[option.name] = (hints[option.name], Field(default, description=description))
    title = "".join(word.title() for word in (name or getattr(part, "__name__", "part")).split("_"))
    return create_model(title, __config__=STRICT, __doc__=describe(part), **fields)
