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
    x: Annotated[str, typer.Option("--x", metavar="NAME", help="The metric across.")] = "test/rate",
    y: Annotated[str, typer.Option("--y", metavar="NAME", help="The metric upwards.")] = "test/distortion",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .svg, .png, .pdf, .html or .json file.", show_default="rate_distortion.svg"),
    ] = None,
) -> None:
    """Draw finished runs: one metric of their summaries against another, a mark for each run.

    Without options, the distortion of VAEs against their rate, with lines of constant ELBO. Metrics are those that
    `latent run --json` prints. Colour and shape tell the estimators apart, each named with the options in which the runs
    differ. Where a configuration has several seeds, a larger mark is their mean, with bars of ± one standard deviation.

    The suffix of FILE decides: an image, an HTML page that needs no network, or a Vega-Lite specification (.json) to restyle.
    A file that is there is replaced. Needs `pip install 'discrete-latent[report]'`.
    Exit codes: 0 written, 1 a run's file is damaged, 2 nothing to draw, or it cannot be drawn or written as asked for.

    Examples:

    - `latent plot results/vae`
    - `latent plot results/vae results/bit_vector_vae --out vaes.html`
    - `latent plot results/signal_game --x total_decoder_calls --y test/success_rate --out calls.png`
    """
    from latent.experiment.run_directory import RunError
    from latent.reports.figures import figures
    from latent.reports.figures.points import points
    from latent.reports.runs import ResultsError, finished, read_runs
    from latent.reports.selection import chosen

    out = out or Path(figures.default_name(x, y))
    with exits((ResultsError, figures.FigureError), (RunError,)):
        figures.check_suffix(out)
        every = read_runs(results, unfinished=True)
        done = finished(every)
        runs = chosen(done, every)
        rows = points(runs, x, y)
        figures.write(figures.scatter(rows, x, y), out)
    if len(runs) < len(done):
        errors.print(f"left out: {numbered(len(done) - len(runs), 'run')} of cells of a grid that validation did not choose")
    if len(rows) < len(runs):
        errors.print(f"left out: {len(runs) - len(rows)} of {numbered(len(runs), 'run')}, which lack {escape(f'{x} or {y}')}")
    errors.print(f"{numbered(len(rows), 'run')}: {escape(str(out))}")
