"""The points of a figure: one metric of finished runs against another, and the means of both over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from latent.experiment.vocabulary import DECODER_CALLS, joined
from latent.reports.runs import ResultsError, Row, Run, check_metrics, estimator_labels, without_seed
from latent.reports.selection import problem, vocabulary_of
from latent.reports.statistics import mean_and_std
from latent.words import Measured, is_number


class Axes(NamedTuple):
    """What a figure shows.

    Attributes:
        x: the metric across.
        y: the metric upwards.
        level: a metric that is minus the sum of the two.
        remark: what is to be known of their names.
    """

    x: Measured
    y: Measured
    level: Measured | None
    remark: str


def axes(runs: Sequence[Run], x: str | None, y: str | None) -> Axes:
    """The metrics of these keys; for one that is not given, what the tasks of the runs declare to be drawn so.

    That is, the first metric that any task declares to be drawn against another one; else the headline of the first task,
    against the decoder calls of an example. Words are those of the first task that has the metric.
    """
    by_task: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_task[run["configuration"]["task"]].append(run)
    vocabularies = [vocabulary_of(members) for members in by_task.values()]
    vocabulary = joined(vocabularies)
    pairs = [metric for metric in vocabulary.own if metric.against]
    default = (pairs[0].against, pairs[0].name) if pairs else (DECODER_CALLS.name, vocabulary.headline.name)
    across, up = (vocabulary[given or f"test/{name}"] for given, name in zip((x, y), default, strict=True))
    split = across.key.partition("/")[0]
    keys = sorted((across.key, up.key))
    drawn = (each for each in pairs if each.level and keys == sorted((each.key(split), f"{split}/{each.against}")))
    level = next((vocabulary[f"{split}/{metric.level}"] for metric in drawn), None)
    return Axes(across, up, level, vocabulary.remark)


def points(runs: Sequence[Run], x: str, y: str) -> list[Row]:
    """A row for each run that has both metrics, as finite numbers; those without are left out.

    Rows are told apart by their estimators, and by their tasks and data sets where there are several.

    Raises:
        ResultsError: if no run has a metric, or none has both.
    """
    check_metrics(runs, (x, y))
    shown = [run for run in runs if all(is_number(run["summary"].get(metric)) for metric in (x, y))]
    if not shown:
        raise ResultsError(f"no run has both {x!r} and {y!r}")
    labels, tasks = estimator_labels(shown), [problem(run) for run in shown]
    several = len(set(tasks)) > 1
    return [
        {
            "x": run["summary"][x],
            "y": run["summary"][y],
            "estimator": f"{label}, {task}" if several else label,
            "run": run["summary"]["run"],
            "seed": run["summary"]["seed"],
            "configuration": without_seed(run),
            "task": task,
        }
        for run, label, task in zip(shown, labels, tasks, strict=True)
    ]


def means(rows: Sequence[Row]) -> list[Row]:
    """Mean and sample standard deviation of each configuration that has two seeds or more."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["configuration"]].append(row)
    found = []
    for members in groups.values():
        mean: Row = {"estimator": members[0]["estimator"], "seeds": len(members)}
        for axis in ("x", "y"):
            centre, spread = mean_and_std([float(member[axis]) for member in members])
            if spread is not None:
                mean |= {axis: centre, f"{axis}_std": spread, f"{axis}_low": centre - spread, f"{axis}_high": centre + spread}
        if len(members) > 1:
            found.append(mean)
    return found
