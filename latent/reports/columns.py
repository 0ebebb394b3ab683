"""Columns of a table: each with what is read and what a program reads, and the numbers in them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from latent.experiment.yaml_source import flatten
from latent.reports.finished import Run, in_words, is_number
from latent.reports.statistics import mean_and_std

NONE = "–"
"""What stands where there is no value."""


@dataclass(frozen=True)
class Column:
    """A column: a text for each line, and values by the names that a CSV file has for them.

    Attributes:
        heading: in words, with the unit.
        texts: one for each line.
        data: names, each with a value for each line; None where there is none.
        words: whether it holds words, not numbers.
    """

    heading: str
    texts: Sequence[str]
    data: dict[str, Sequence[Any]]
    words: bool = False


@dataclass(frozen=True)
class Block:
    """Columns that stand together, below a heading of their own where they have one."""

    columns: Sequence[Column]
    heading: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a line for each entry of one problem.

    Attributes:
        title: the problem.
        labels: a name for each line that no other line has.
        keys: columns that tell the lines apart.
        blocks: the other columns.
        notes: sentences that say how to read it, and what is not in it.
        warnings: those of them that are to be seen first.
    """

    title: str
    labels: Sequence[str]
    keys: Sequence[Column]
    blocks: Sequence[Block]
    notes: Sequence[str]
    warnings: Sequence[str] = ()


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
    largest = max(map(abs, values), default=0.0)
    return Style(1, min(9, max(0, 3 - math.floor(math.log10(largest)))) if largest else 2)


def heading(metric: str) -> str:
    """A metric with its split and unit: ``test success rate, expected (%)``."""
    words, unit = in_words(metric)
    split = "test " if metric.startswith("test/") else ""
    return f"{split}{words} ({unit})" if unit else split + words


def numbers(runs: Sequence[Run], metric: str) -> list[float]:
    """A metric of the summaries of those runs that have it."""
    return [run["summary"][metric] for run in runs if is_number(run["summary"].get(metric))]


def mean_column(metric: str, groups: Sequence[Sequence[float]], runs: Sequence[int], name: str = "", title: str = "") -> Column:
    """Mean ± sample standard deviation of each line's values, with their number where it is not that of the line's runs."""
    written = style(metric, (value for group in groups for value in group))
    name, texts, means, spreads = name or metric, [], [], []
    for group, n in zip(groups, runs, strict=True):
        mean, spread = mean_and_std(group) if group else (None, None)
        text = NONE if mean is None else written.write(mean)
        text += "" if spread is None else f" ± {written.write(spread)}"
        texts.append(f"{text} ({len(group)}/{n})" if 0 < len(group) < n else text)
        means.append(mean)
        spreads.append(spread)
    counts = [len(group) for group in groups]
    return Column(title or heading(metric), texts, {f"{name}_mean": means, f"{name}_std": spreads, f"{name}_n": counts})


def setting(run: Run, key: str) -> Any:
    """The value of a dotted key in a run's configuration; an empty text where it has none."""
    return run["grid"][key] if key in run["grid"] else flatten(run["configuration"]).get(key, "")


def setting_columns(runs: Sequence[Run], keys: Sequence[str]) -> list[Column]:
    """A column for each dotted key, headed by its last part where no other has the same."""
    last = Counter(key.rpartition(".")[2] for key in keys)
    columns = []
    for key in keys:
        short = key.rpartition(".")[2]
        values = [setting(run, key) for run in runs]
        shown = short.replace("_", " ") if last[short] == 1 else key
        words = not all(value is None or isinstance(value, int | float) for value in values if value != "")
        columns.append(Column(shown, [_written(value) for value in values], {key: values}, words))
    return columns


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}".replace("-", "−") if value < 0 else f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
