"""Metrics and counts in words: names, units, and how values are written, wherever people read them.

A metric's name has its split before it, as in ``val/success_rate``; one without a split is of the whole run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

WORDS = {
    "rate": ("rate", "nats"),
    "distortion": ("distortion", "nats"),
    "argmax_distortion": ("distortion of the most likely state", "nats"),
    "elbo": ("ELBO", "nats"),
    "log_likelihood": ("log-likelihood", "nats"),
    "entropy": ("entropy of q", "nats"),
    "bits_per_dim": ("bits per dimension", ""),
    "success_rate": ("success rate, most likely message", "%"),
    "expected_success_rate": ("success rate, expected", "%"),
    "accuracy": ("accuracy, most likely label", "%"),
    "expected_accuracy": ("accuracy, expected", "%"),
    "decoder_calls": ("decoder calls per example", ""),
    "total_decoder_calls": ("decoder calls in training", ""),
    "messages_in_use": ("messages in use", ""),
    "time/seconds": ("training time", "s"),
    "step": ("steps", ""),
}
"""Metrics without their split, in words and with their units; ``%`` are fractions of one."""
SPLITS = {"test": "", "val": "validation ", "train": "training "}


def in_words(metric: str) -> tuple[str, str]:
    """A metric's name and its unit: ``("validation rate", "nats")``; that of the test split is not said."""
    split, _, name = metric.partition("/")
    if split not in SPLITS:
        split, name = "test", metric
    words, unit = WORDS.get(name, (name.replace("/", ", ").replace("_", " "), ""))
    return SPLITS[split] + words, unit


def title(metric: str) -> str:
    """A metric as the title of an axis: ``validation rate (nats)``."""
    words, unit = in_words(metric)
    return f"{words} ({unit})" if unit not in ("", "%") else words  # ticks have percent signs of their own


def heading(metric: str) -> str:
    """A metric with its split and unit: ``test success rate, expected (%)``."""
    words, unit = in_words(metric)
    split = "test " if metric.startswith("test/") else ""
    return f"{split}{words} ({unit})" if unit else split + words


def capital(words: str) -> str:
    """Words with a capital letter, as they begin a heading."""
    return words[:1].upper() + words[1:]


def numbered(count: int, word: str) -> str:
    """``1 run``, ``1,200 runs``."""
    return f"{count:,} {word}{'s' * (count != 1)}"


class Style(NamedTuple):
    """How the values of a metric are written: the factor of its unit, and decimals."""

    factor: float
    decimals: int

    def write(self, value: float, sign: str = "-") -> str:
        """A value with thousands separators and a minus that is as long as a plus; ``sign`` is of :class:`str.format`."""
        text = f"{self.factor * value:{sign},.{self.decimals}f}"
        zero = not text.strip("+-0.,")
        return (text.lstrip("+-") if zero else text).replace("-", "−")


def style(metric: str, values: Iterable[float]) -> Style:
    """Per cent with two decimals, nats and decoder calls too, whole numbers whole, others with four digits."""
    name, (_, unit) = metric.rpartition("/")[2], in_words(metric)
    if unit == "%":
        return Style(100, 2)
    if name in ("total_decoder_calls", "step"):
        return Style(1, 0)
    if unit or name in ("decoder_calls", "bits_per_dim"):
        return Style(1, 3 if name == "bits_per_dim" else 2)
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return Style(1, min(9, max(0, 3 - math.floor(math.log10(largest)))) if largest else 2)


def write(metric: str, value: float) -> str:
    """A value of one run, on its own."""
    counted = isinstance(value, int) and not in_words(metric)[1]
    return f"{value:,}".replace("-", "−") if counted else style(metric, [value]).write(value)


def in_short(metric: str, value: float) -> str:
    """A value as progress shows it, with one decimal and its per cent: ``83.5%``."""
    unit = in_words(metric)[1]
    return f"{value:.1%}" if unit == "%" else f"{value:.1f}" if unit else f"{value:.4g}"


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
