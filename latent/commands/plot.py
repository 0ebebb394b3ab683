"""Figures of finished runs from the command line: ``latent plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from latent.terminal import errors, exits
from latent.words import numbered


def plot(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS", help="Folders that hold finished runs, at any depth.", show_default=False),
    ],
    x: Annotated[
        str | None, typer.Option("--x", metavar="NAME", help="The metric across.", show_default="that of the task")
    ] = None,
    y: Annotated[
        str | None, typer.Option("--y", metavar="NAME", help="The metric upwards.", show_default="that of the task")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .svg, .png, .pdf, .html or .json file.", show_default="X_Y.svg"),
    ] = None,
) -> None:
    """Draw finished runs: one metric of their summaries against another, a mark for each run.

    Without options, the two metrics that the runs' task has drawn against each other, as VAEs have; of other tasks, the metric
    that it is judged by against the decoder calls of an example. Where a third one is minus the sum of the two, lines show
    where it is constant. Metrics are those that `latent run --json` prints. Colour and shape tell the estimators apart, each
    named with the options in which the runs differ. Where a configuration has several seeds, a larger mark is their mean, with
    bars of ± one standard deviation.

    The suffix of FILE decides: an image, an HTML page that needs no network, or a Vega-Lite specification (.json) to restyle.
    A file that is there is replaced. Needs `pip install 'discrete-latent[report]'`.
    Exit codes: 0 written, 1 a run's file is damaged, 2 nothing to draw, or it cannot be drawn or written as asked for.

    Examples:

    - `latent plot results/vae`
    - `latent plot results/vae results/bit_vector_vae --out vaes.html`
    - `latent plot results/signal_game --x total_decoder_calls --out calls.png`
    """
    from latent.experiment.run_directory import RunError
    from latent.reports.figures import figures
    from latent.reports.figures.points import axes, points
    from latent.reports.runs import ResultsError, finished, read_runs
    from latent.reports.selection import chosen

    with exits((ResultsError, figures.FigureError), (RunError,)):
        if out is not None:
            figures.check_suffix(out)
        every = read_runs(results, unfinished=True)
        done = finished(every)
        runs = chosen(done, every)
        across, up, level, remark = axes(runs, x, y)
        rows = points(runs, across.key, up.key)
        out = out or Path(figures.default_name(across.key, up.key))
        figures.write(figures.scatter(rows, across, up, level), out)
    if remark:
        errors.print(escape(remark))
    if len(runs) < len(done):
        errors.print(f"left out: {numbered(len(done) - len(runs), 'run')} of cells of a grid that validation did not choose")
    if len(rows) < len(runs):
        lacking = escape(f"{across.key} or {up.key}")
        errors.print(f"left out: {len(runs) - len(rows)} of {numbered(len(runs), 'run')}, which lack {lacking}")
    errors.print(f"{numbered(len(rows), 'run')}: {escape(str(out))}")
