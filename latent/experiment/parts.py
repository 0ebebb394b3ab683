"""Estimators and tasks by name, and what the runner asks of a task.

Other distributions add parts through entry points, of the groups ``discrete_latent.estimators`` and ``discrete_latent.tasks``,
and of those of the registries that tasks choose data sets and the parts inside them from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from estimators import ESTIMATORS, Estimator, Space
from estimators.expectations import Evaluation
from estimators.parts import Registry
from games import SignalGame
from latent.experiment.options import available
from latent.experiment.vocabulary import Vocabulary, declared_by, undeclared
from latent.models import VAE, BitVectorVAE, Reparameterization, SemiSupervisedVAE
from latent.words import Metric

Batch = Any
"""What a task draws and reads; each has a type of its own."""


class Task(Protocol):
    """What the runner asks of a task; a task is also an ``nn.Module``, made from a data set and its own options."""

    section: ClassVar[str]
    """The block of a configuration that holds the task's options."""
    datasets: ClassVar[Mapping[str, Callable[..., Any]]]
    """The data sets that the task can be trained on, by name."""
    fingerprint: str
    """Hash of the data set's content."""
    metrics: ClassVar[tuple[Metric, ...]]
    """What it measures, in the order in which it is shown."""
    headline: ClassVar[str]
    """The name of the one that it is judged by."""

    def latent(self) -> Space:
        """An example of the latent variable: estimators that ask for what it cannot do are refused."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained."""

    def check_estimator(self, estimator: Estimator) -> None:
        """Raise OptionError if the estimator cannot train this task."""

    def draw(self, batch_size: int, generator: Generator) -> Batch:
        """A training batch."""

    def evaluate(self, split: str, estimator: Estimator) -> Evaluation:
        """Metrics of ``val`` or ``test``, and what its examples are."""

    def pictures(self, estimator: Estimator) -> dict[str, Tensor]:
        """Pictures to look at, by name: ``[H, W]`` uint8 each; none, where there is nothing to see."""

    def __call__(self, batch: Batch, estimator: Estimator, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective, and metrics of each example, ``decoder_calls`` among them."""


@runtime_checkable
class StartedWarm(Protocol):
    """A task that has steps of another objective before the others."""

    def warm_start(self, batch: Batch, estimator: Estimator, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """What calling the task returns, of that objective."""


CONTINUOUS: dict[str, Callable[..., Estimator]] = {"reparameterization": Reparameterization}
"""Estimators of latents that are not discrete, which no certificate enumerates."""

ALL_ESTIMATORS = Registry("estimator", {**ESTIMATORS, **CONTINUOUS}, group="discrete_latent.estimators")

TASKS = Registry[type[Task]](
    "task",
    {"signal_game": SignalGame, "vae": VAE, "bit_vector_vae": BitVectorVAE, "ssvae": SemiSupervisedVAE},
    group="discrete_latent.tasks",
    check=declared_by,
)


def estimators() -> dict[str, Callable[..., Estimator]]:
    """Estimators by name, those of other distributions too."""
    return available(ALL_ESTIMATORS)


def tasks() -> dict[str, type[Task]]:
    """Tasks by name, those of other distributions too."""
    return available(TASKS)


def vocabulary(task: str, summaries: Iterable[Iterable[str]] = ()) -> Vocabulary:
    """The metrics of the runs of a task, by its name; ``summaries`` have those of its runs, should the task not be here."""
    part = tasks().get(task)
    return undeclared(task, summaries) if part is None else declared_by(part)
