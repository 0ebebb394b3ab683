"""Columns of a table: each with what is read and what a program reads, and the numbers in them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from latent.experiment.yaml_source import flatten
from latent.reports.runs import Run
from latent.reports.statistics import mean_and_std
from latent.words import Measured, Style, is_number

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


def numbers(runs: Sequence[Run], metric: str) -> list[float]:
    """A metric of the summaries of those runs that have it."""
    return [run["summary"][metric] for run in runs if is_number(run["summary"].get(metric))]


def mean_text(mean: float, spread: float | None, form: Style) -> str:
    """``91.94 ± 0.22``: mean ± sample standard deviation; of one value that alone."""
    return form.write(mean) + ("" if spread is None else f" ± {form.write(spread)}")


def mean_column(
    metric: Measured, groups: Sequence[Sequence[float]], runs: Sequence[int], name: str = "", title: str = ""
) -> Column:
    """Mean ± sample standard deviation of each line's values, with their number where it is not that of the line's runs."""
    written = metric.style(value for group in groups for value in group)
    name, texts, means, spreads = name or metric.key, [], [], []
    for group, n in zip(groups, runs, strict=True):
        mean, spread = mean_and_std(group) if group else (None, None)
        text = NONE if mean is None else mean_text(mean, spread, written)
        texts.append(f"{text} ({len(group)}/{n})" if 0 < len(group) < n else text)
        means.append(mean)
        spreads.append(spread)
    counts = [len(group) for group in groups]
    return Column(title or metric.heading, texts, {f"{name}_mean": means, f"{name}_std": spreads, f"{name}_n": counts})


def setting(run: Run, key: str) -> Any:
    """The value of a dotted key in a run's configuration; an empty text where it has none."""
    return run["grid"][key] if key in run["grid"] else flatten(run["configuration"]).get(key, "")


def last_parts(keys: Sequence[str]) -> list[str]:
    """Dotted keys, each as its last part where no other has the same."""
    last = Counter(key.rpartition(".")[2] for key in keys)
    return [short if last[short := key.rpartition(".")[2]] == 1 else key for key in keys]


def plain(value: Any) -> str:
    """The value of a key, as in YAML, floats without digits that say nothing."""
    if isinstance(value, float):
        return f"{value:g}".replace("-", "−") if value < 0 else f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def setting_columns(runs: Sequence[Run], keys: Sequence[str]) -> list[Column]:
    """A column for each dotted key."""
    columns = []
    for key, short in zip(keys, last_parts(keys), strict=True):
        values = [setting(run, key) for run in runs]
        words = not all(value is None or isinstance(value, int | float) for value in values if value != "")
        shown = short if "." in short else short.replace("_", " ")
        columns.append(Column(shown, [plain(value) for value in values], {key: values}, words))
    return columns
