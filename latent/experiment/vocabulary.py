"""The metrics of the runs of a task: those that the task declares, and those that the runner adds to any.

Whoever writes a metric for people to read asks the vocabulary of its task for it; nothing about a metric is said elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from latent.words import SPLITS, Measured, Metric, Place, bare

DECODER_CALLS = Metric(
    "decoder_calls",
    "decoder calls per example",
    shown=("summary", "table", "page", "training", "bars"),
    decimals=2,
    logarithmic=True,
    remark="The size of the support, where an estimator sums over it.",
)
TOTAL_DECODER_CALLS = Metric(
    "total_decoder_calls",
    "decoder calls in training",
    shown=("summary", "table", "page", "validation"),
    decimals=0,
    of_run=True,
    logarithmic=True,
    remark="Decoder calls of the whole training so far.",
)
SECONDS = Metric(
    "time/seconds", "training time", "s", of_run=True, remark="In seconds, as each run measured it on its machine."
)
STEP = Metric("step", "steps", decimals=0, of_run=True)
PROBE = (
    Metric(
        "probe/variance",
        "variance of the gradient, relative",
        shown=("curve",),
        of_run=True,
        logarithmic=True,
        remark="Over the squared length of the exact gradient. Zeros, which exact gradients have, are not drawn.",
    ),
    Metric(
        "probe/cosine",
        "cosine of the gradient, with the exact one",
        shown=("curve",),
        of_run=True,
        remark="Mean cosine between the estimates and the exact gradient.",
    ),
    Metric(
        "probe/bias",
        "bias of the gradient, relative",
        shown=("curve",),
        of_run=True,
        remark="Distance of the mean estimate from the exact gradient, relative; "
        "below √(variance / draws) it is within chance.",
    ),
)
RUNNER = (
    DECODER_CALLS,
    TOTAL_DECODER_CALLS,
    Metric(
        "entropy",
        "entropy of q",
        "nats",
        shown=("summary", "training"),
        remark="Of the distribution that the encoder gives, in nats.",
    ),
    STEP,
    SECONDS,
    Metric("grad_norm/*", "grad norm, *", shown=(), of_run=True),
    *PROBE,
)
"""What the runner adds to the metrics of any task."""
HEADLINE_IN: tuple[Place, ...] = ("summary", "table", "page", "validation")


class Declares(Protocol):
    """What declares metrics: a task, or its class."""

    metrics: ClassVar[tuple[Metric, ...]]
    headline: ClassVar[str]


@dataclass(frozen=True)
class Vocabulary:
    """Metrics by their keys and by the places where they are shown.

    Args:
        own: what the task declares.
        headline: the one that the task is judged by.
        remark: what is to be known of the metrics, where the task is not there to declare them.

    Raises:
        ValueError: if two metrics have one name, or one that is named is not among them.
    """

    own: tuple[Metric, ...]
    headline: Metric
    remark: str = ""

    def __post_init__(self) -> None:
        names = [metric.name for metric in self.own]
        for metric in self.own:
            if names.count(metric.name) > 1:
                raise ValueError(f"the metric {metric.name!r} is declared twice")
            for other in (metric.against, metric.level):
                if other and other not in names:
                    raise ValueError(f"the metric {metric.name!r} names {other!r}, which is not declared")

    def __getitem__(self, key: str) -> Measured:
        """The metric of a key; by its bare name, where nobody declares it."""
        split, _, rest = key.partition("/")
        name = rest if split in SPLITS else key
        known = {metric.name: metric for metric in (*RUNNER, *self.own)}
        families = (metric for metric in known.values() if metric.name.endswith("/*") and key.startswith(metric.name[:-1]))
        return (known.get(name) or next(families, None) or bare(name)).of(key)

    def judged(self, split: str) -> Measured:
        """The headline metric on a split."""
        return self[self.headline.key(split)]

    def of_task(self, place: Place) -> list[Metric]:
        """What the task declares to be shown in a place."""
        return [each for each in self.own if place in each.shown or (each is self.headline and place in HEADLINE_IN)]

    def of_runner(self, place: Place) -> list[Metric]:
        """What the runner adds to it."""
        names = {metric.name for metric in self.own}
        return [metric for metric in RUNNER if place in metric.shown and metric.name not in names]

    def shown(self, place: Place) -> list[Metric]:
        """All that is shown in a place, in its order."""
        return [*self.of_task(place), *self.of_runner(place)]


def declared_by(task: Declares | type[Declares]) -> Vocabulary:
    """The vocabulary of a task that is at hand.

    Raises:
        TypeError: if it does not declare metrics.
        ValueError: if it declares them wrongly; the message says what is wrong.
    """
    metrics, headline = getattr(task, "metrics", None), getattr(task, "headline", None)
    if not isinstance(metrics, tuple) or not all(isinstance(metric, Metric) for metric in metrics):
        raise TypeError("it has no tuple `metrics` of what it measures, latent.words.Metric each")
    judged = next((metric for metric in metrics if metric.name == headline), None)
    if judged is None:
        raise ValueError(f"its headline {headline!r} is none of its metrics: {', '.join(metric.name for metric in metrics)}")
    if judged.better is None:
        raise ValueError(f"of its headline {headline!r} it does not say whether higher or lower is better")
    return Vocabulary(metrics, judged)


def undeclared(task: str, summaries: Iterable[Iterable[str]] = ()) -> Vocabulary:
    """The vocabulary of a task that is not installed here: bare names, the first one of validation for the headline.

    Args:
        task: its name.
        summaries: names of what its runs have measured, which is all that is known of it.
    """
    keys = list(dict.fromkeys(key for names in summaries for key in names))
    names = dict.fromkeys(key.partition("/")[2] for key in keys if key.startswith(("val/", "test/")))
    runners = {metric.name for metric in RUNNER}
    own = tuple(Metric(name, bare(name).words, shown=("summary", "table", "page")) for name in names if name not in runners)
    judged = next((metric for metric in own if metric.key("val") in keys), DECODER_CALLS)
    remark = (
        f"The task {task!r} is not installed here: its metrics go by their bare names, and {judged.name}, the first that its "
        f"runs measure, stands for the one that it is judged by."
    )
    return Vocabulary(own, judged, remark)


def joined(vocabularies: Sequence[Vocabulary]) -> Vocabulary:
    """The metrics of several tasks; of one name, those of the first that has it."""
    own = {metric.name: metric for each in reversed(vocabularies) for metric in each.own}
    order = dict.fromkeys(metric.name for each in vocabularies for metric in each.own)
    remark = " ".join(dict.fromkeys(each.remark for each in vocabularies if each.remark))
    return Vocabulary(tuple(own[name] for name in order), vocabularies[0].headline, remark)
