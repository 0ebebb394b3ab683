"""Files for other programs: a table, all runs, and curves of validation, as CSV with numbers as they are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from latent.experiment.yaml_source import flatten
from latent.files import write_atomically
from latent.reports.runs import Row
from latent.reports.selection import Entry
from latent.reports.tables.budget import evaluation_rows
from latent.reports.tables.columns import Table
from latent.reports.tables.table import setting_keys
from latent.words import is_number


def table_rows(tables: Sequence[Table]) -> list[Row]:
    """A row for each line of each table: problem, label, settings, and every value, fractions as fractions."""
    rows = []
    for table in tables:
        columns = [*table.keys, *(column for block in table.blocks for column in block.columns)]
        data = {name: values for column in columns for name, values in column.data.items()}
        rows += [
            {"problem": table.title} | {name: values[i] for name, values in data.items()} for i in range(len(table.labels))
        ]
    return rows


def run_rows(entries: Sequence[Entry]) -> list[Row]:
    """A row for each finished run: its entry, whether its cell is the chosen one, settings, grid, seed and summary."""
    keys = setting_keys(entries)
    rows = []
    for entry in entries:
        for cell in (entry.chosen, *entry.rejected):
            for run in cell.runs:
                flat = flatten(run["configuration"]) | run["grid"]
                names: Row = {"problem": entry.problem, "label": entry.label, "chosen": cell is entry.chosen}
                names |= {"run": run["name"], "grid": json.dumps(run["grid"]), "seed": run["summary"]["seed"]}
                settings = {key: flat.get(key) for key in keys}
                rows.append(names | settings | {name: value for name, value in run["summary"].items() if is_number(value)})
    return rows


def curve_names(entries: Sequence[Entry]) -> list[str]:
    """The columns of :func:`curve_rows`."""
    there = {name for entry in entries for run in entry.chosen.runs for name in run["summary"]}
    compared = [metric.key("val") for entry in entries for metric in entry.vocabulary.of_task("validation")]
    training = [metric.key("train") for entry in entries for metric in entry.vocabulary.shown("training")]
    metrics = [metric for metric in dict.fromkeys((*compared, *training)) if metric in there]
    return ["problem", "label", "seed", "step", "total_decoder_calls", *metrics]


def curve_rows(entries: Sequence[Entry]) -> Iterator[Row]:
    """A row for each evaluation on validation of each run of the chosen cells, one run after another.

    Raises:
        RunError: if a run's metrics are damaged.
    """
    metrics = curve_names(entries)[3:]
    for entry in entries:
        for run in entry.chosen.runs:
            names: Row = {"problem": entry.problem, "label": entry.label, "seed": run["summary"]["seed"]}
            for row in evaluation_rows(run, entry.judged.key):
                yield names | {metric: row[metric] for metric in metrics if metric in row}


def table_csv(tables: Sequence[Table]) -> str:
    """The lines of all tables as CSV."""
    rows = table_rows(tables)
    stream = io.StringIO(newline="")
    _write(stream, names_of(rows), rows)
    return stream.getvalue()


def names_of(rows: Sequence[Row]) -> list[str]:
    """Every name that one of the rows has, in order."""
    return list(dict.fromkeys(name for row in rows for name in row))


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Row]) -> None:
    """Write rows to a file as they come, whole or not at all.

    Raises:
        OSError: if the file cannot be written.
    """

    def write(stream: Any) -> None:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        _write(text, names, rows)
        text.flush()
        text.detach()

    write_atomically(path, write)


def _write(stream: Any, names: Sequence[str], rows: Iterable[Row]) -> None:
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _plain(value) for name, value in row.items()})


def _plain(value: Any) -> Any:
    """``true`` and ``false`` as in a configuration, and lists as JSON."""
    return json.dumps(value) if isinstance(value, bool | list | dict) else value
