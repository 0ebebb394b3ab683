"""The table of a problem: a line for each entry, with test metrics of its chosen cell and what they took to get."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from estimators.options import label
from latent.reports.runs import ResultsError, Run, check_metrics, finished
from latent.reports.selection import Cell, Entry, problem, select
from latent.reports.tables.budget import curve
from latent.reports.tables.columns import Block, Column, Table, mean_column, numbers, setting_columns
from latent.reports.tables.comparison import check_reference, compare
from latent.reports.tables.costs import budget_column, reach_column, time_column
from latent.reports.tables.notes import selection_notes, unfinished_notes
from latent.words import Measured

SPREAD = "Mean ± sample standard deviation over n finished seeds; a single seed has no spread."


@dataclass(frozen=True)
class Request:
    """What a table is to show.

    Attributes:
        metrics: names of a summary; without them, those that the task declares for tables.
        budget: decoder calls at which validation is compared; without it, those of the cheapest entry.
        reach: value of the headline metric on validation to reach.
        reference: label of the entry to compare the others with.
    """

    metrics: Sequence[str] = ()
    budget: int | None = None
    reach: float | None = None
    reference: str | None = None


def tables(runs: Sequence[Run], request: Request) -> list[Table]:
    """A table for each problem, from all its runs, finished or not.

    Raises:
        ResultsError: if no run is finished, no run has a metric, there is no entry of the reference's label, a fraction cannot
            reach the value asked for, or SciPy is needed and not installed.
        RunError: if a run's metrics are damaged.
    """
    check_metrics(finished(runs), request.metrics)
    entries = select(finished(runs), runs)
    check_reference(entries, request.reference)
    return [_table(members, of_problem(runs, name), request) for name, members in by_problem(entries).items()]


def cell_tables(runs: Sequence[Run], metrics: Sequence[str]) -> list[Table]:
    """A table for each problem with a line for each cell of each grid, on validation alone.

    Raises:
        ResultsError: if no run is finished, or a metric is not one of validation or no run has it.
    """
    for metric in metrics:
        if not metric.startswith("val/"):
            raise ResultsError(f"cells are compared on validation alone, and {metric} is no metric of it; name some val/...")
    check_metrics(finished(runs), metrics)
    entries = select(finished(runs), runs)
    return [_cells(members, of_problem(runs, name), metrics) for name, members in by_problem(entries).items()]


def of_problem(runs: Sequence[Run], name: str) -> list[Run]:
    """The runs of a problem that are not finished."""
    return [run for run in runs if run["state"] != "finished" and problem(run) == name]


def without_table(runs: Sequence[Run], made: Sequence[Table]) -> list[str]:
    """Problems of which no run is finished."""
    return sorted({problem(run) for run in runs} - {table.title for table in made})


def by_problem(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Entries by problem, in their order."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.problem].append(entry)
    return groups


def setting_keys(entries: Sequence[Entry]) -> list[str]:
    """Dotted keys in which entries differ, or which their grids set."""
    found = dict.fromkeys(key for entry in entries for key in (*entry.settings, *entry.chosen.grid))
    grids = {key for entry in entries for key in entry.chosen.grid}
    return [key for key in found if key in grids or len({repr(entry.settings.get(key)) for entry in entries}) > 1]


def _table(entries: Sequence[Entry], unfinished: Sequence[Run], request: Request) -> Table:
    runs = [entry.chosen.runs for entry in entries]
    vocabulary, judged = entries[0].vocabulary, entries[0].judged
    metrics = list(request.metrics or (metric.key("test") for metric in vocabulary.of_task("table")))
    beside = [key for metric in vocabulary.of_runner("table") if (key := metric.key("test")) not in metrics]
    curves = [[curve(run, judged.key) for run in members] for members in runs]
    calls = [max(found) for members in runs if (found := numbers(members, "total_decoder_calls"))]  # so no seed loses its end
    costs = [
        *time_column(entries, request.reference),
        *budget_column(curves, judged, request.budget or min(calls, default=None)),
        *reach_column(curves, judged, request.reach),
    ]
    labels = [entry.label for entry in entries]
    blocks = [
        Block([*_mean_columns(runs, [vocabulary[key] for key in (*metrics, *beside)]), *(cost.column for cost in costs)]),
    ]
    notes = [
        *filter(None, [vocabulary.remark]),
        SPREAD,
        *selection_notes(entries),
        *unfinished_notes(entries, unfinished),
        *(cost.note for cost in costs),
    ]
    warnings: list[str] = []
    if request.reference in labels:
        block, remarks, warnings = compare(entries, request.reference, vocabulary[metrics[0]])
        blocks.append(block)
        notes += [*remarks, *warnings]
    elif request.reference is not None:
        notes.append(f"There is no {request.reference} here to compare with.")
    keys = _keys([(entry, entry.chosen) for entry in entries], labels)
    return Table(entries[0].problem, labels, keys, blocks, notes, warnings)


def _mean_columns(runs: Sequence[Sequence[Run]], metrics: Sequence[Measured]) -> list[Column]:
    """The number of runs of each line, and means of those metrics that there are."""
    counts = [len(members) for members in runs]
    groups = [(metric, [numbers(members, metric.key) for members in runs]) for metric in metrics]
    means = [mean_column(metric, values, counts) for metric, values in groups if any(values)]
    return [Column("n", [str(count) for count in counts], {"n": counts}), *means]


def _keys(members: Sequence[tuple[Entry, Cell]], labels: Sequence[str]) -> list[Column]:
    """Estimator and settings of each line; labels have settings in them only where the columns do not tell lines apart."""
    columns = setting_columns([cell.runs[0] for _, cell in members], setting_keys([entry for entry, _ in members]))
    lines = list(zip((entry.estimator for entry, _ in members), *(column.texts for column in columns), strict=True))
    names = [line[0] for line in lines] if len(set(lines)) == len(lines) else labels
    return [Column("estimator", names, {"label": labels}, words=True), *columns]


def _cells(entries: Sequence[Entry], unfinished: Sequence[Run], metrics: Sequence[str]) -> Table:
    cells = [(entry, cell) for entry in entries for cell in (entry.chosen, *entry.rejected)]
    runs = [cell.runs for _, cell in cells]
    marks = [cell is entry.chosen for entry, cell in cells]
    vocabulary, judged = entries[0].vocabulary, entries[0].judged
    shown = [*(metrics or (metric.key("val") for metric in vocabulary.of_task("validation")))]
    shown += [key for metric in vocabulary.of_runner("validation") if (key := metric.key("val")) not in shown]
    columns = [
        Column("chosen", ["yes" if mark else "" for mark in marks], {"chosen": marks}, words=True),
        *_mean_columns(runs, [vocabulary[key] for key in shown]),
    ]
    labels = [label(entry.label, cell.grid) for entry, cell in cells]
    notes = [
        f"Chosen is the cell with the {judged.metric.superlative} mean of {judged.key} among those with the most finished "
        f"seeds, and of equal ones that with fewer decoder calls. "
        "Test is reported for chosen cells alone, in the table without --cells.",
        SPREAD,
        *unfinished_notes(entries, unfinished),
    ]
    keys = _keys(cells, labels)
    return Table(entries[0].problem, labels, keys, [Block(columns, "All cells, on validation")], notes)
