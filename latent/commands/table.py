"""The command line's tables of finished runs: ``latent table``."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from latent.terminal import WrongInput, errors, exits, output
from latent.words import numbered

if TYPE_CHECKING:
    from latent.reports.tables.columns import Table


class Format(str, Enum):
    """How a table is written."""

    rich = "rich"
    md = "md"
    latex = "latex"
    csv = "csv"


SUFFIXES = {".md": Format.md, ".tex": Format.latex, ".csv": Format.csv}
PAGE = 100
"""Characters of a line of a terminal's table that goes to a file."""


def table(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS", help="Folders that hold runs, at any depth.", show_default=False),
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="A metric of the summaries; may be given again.", show_default="by task"),
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="How it is written.", show_default="by suffix of --out, else rich")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A .md, .tex or .csv file to write it to.")] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            metavar="CALLS",
            min=1,
            help="Compare validation at so many decoder calls.",
            show_default="what the entry with the fewest has made",
        ),
    ] = None,
    reach: Annotated[
        float | None,
        typer.Option(
            metavar="VALUE", help="Count decoder calls until validation has this value.", show_default="0.9 of a fraction"
        ),
    ] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Compare the others with this entry, seed by seed.")
    ] = None,
    cells: Annotated[bool, typer.Option("--cells", help="All cells of the grids, on validation alone.")] = False,
    runs_file: Annotated[
        Path | None, typer.Option("--runs", metavar="FILE", help="Also write every finished run to a CSV file.")
    ] = None,
    curves_file: Annotated[
        Path | None, typer.Option("--curves", metavar="FILE", help="Also write the validation curves to a CSV file.")
    ] = None,
) -> None:
    """Tabulate finished runs: a table for each task and data set, a line for each estimator.

    Runs that differ in their seed are one line: mean ± sample standard deviation over n seeds. Of a sweep's grid a line shows
    the one cell with the best mean of the headline metric on validation; test is reported for no other.

    Columns: estimator, with the options that differ; settings that differ; n; metrics on test; decoder calls per example and in
    training; training time as a ratio to the fastest entry's, or to that of --compare; validation at one budget of decoder
    calls; decoder calls until validation has a value (of fractions, 90 %). What is not in the table, such as
    failed seeds, is said below it. --compare adds paired differences with confidence intervals and permutation tests; it needs
    `pip install 'discrete-latent[report]'`.

    A file that is there is replaced.
    Exit codes: 0 written, 1 a run's file is damaged, 2 nothing to tabulate, or it cannot be tabulated or written as asked for.

    Examples:

    - `latent table results/signal_game`
    - `latent table results/signal_game --compare dense --out table.md`
    - `latent table results/vae --metric test/decoder_calls --metric test/entropy --format latex`
    - `latent table results/sweep --cells`
    - `latent table results --out table.csv --runs runs.csv --curves curves.csv`
    """
    from latent.experiment.run_directory import RunError
    from latent.reports.runs import ResultsError, finished, read_runs
    from latent.reports.selection import select
    from latent.reports.tables import exports
    from latent.reports.tables.table import Request, cell_tables, tables, without_table

    metrics = list(dict.fromkeys(metric or []))
    with exits((ResultsError,), (RunError,)):
        form = _format(form, out)
        if cells and (budget is not None or reach is not None or compare is not None):
            raise WrongInput("--cells is of validation at the end of training: it goes without --budget, --reach and --compare")
        runs = read_runs(results, unfinished=True)
        made = cell_tables(runs, metrics) if cells else tables(runs, Request(metrics, budget, reach, compare))
        entries = select(finished(runs), runs) if runs_file or curves_file else []
        if runs_file:
            rows = exports.run_rows(entries)
            _write(runs_file, lambda path: exports.write_csv(path, exports.names_of(rows), rows))
        if curves_file:
            _write(curves_file, lambda path: exports.write_csv(path, exports.curve_names(entries), exports.curve_rows(entries)))
        _put(made, form, out)
    for made_table in made:
        for warning in made_table.warnings:
            errors.print(f"[yellow]warning:[/] {escape(f'{made_table.title}: {warning}')}")
    for name in without_table(runs, made):
        errors.print(f"no run is finished, and there is no table: {escape(name)}")
    lines = sum(len(made_table.labels) for made_table in made)
    for path, what in ((out, numbered(lines, "line")), (runs_file, "runs"), (curves_file, "curves")):
        if path:
            errors.print(f"{what}: {escape(str(path))}")


def _format(form: Format | None, out: Path | None) -> Format:
    if form is None and out is not None and out.suffix.lower() not in SUFFIXES:
        raise WrongInput(f"{out}: the suffix must be one of {', '.join(SUFFIXES)}, or --format must be given")
    return form or (SUFFIXES[out.suffix.lower()] if out else Format.rich)


def _put(made: Sequence[Table], form: Format, out: Path | None) -> None:
    """Write tables to a file, or print them."""
    from latent.files import write_text
    from latent.reports.tables import exports, markup

    if form is Format.rich and out is None:
        markup.show(made, output)
        return
    if form is Format.rich:
        stream = io.StringIO()
        markup.show(made, Console(file=stream, width=PAGE, highlight=False, emoji=False))
        text = stream.getvalue()
    else:
        text = {Format.md: markup.to_markdown, Format.latex: markup.to_latex, Format.csv: exports.table_csv}[form](made)
    if out:
        _write(out, lambda path: write_text(path, text))
    else:
        print(text, end="")
    if form is Format.csv:  # which has no place for them
        for each in made:
            for note in each.notes[: len(each.notes) - len(each.warnings)]:  # those are said in any case
                errors.print(f"{each.title}: {note}", style="dim", markup=False)


def _write(path: Path, write: Callable[[Path], object]) -> None:
    try:
        write(path)
    except OSError as error:
        raise WrongInput(f"cannot write to {path}: {error.strerror or error}") from error
