"""The command line's part on the report page: ``latent report``, ``latent serve``."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.markup import escape

from latent.terminal import WrongInput, errors, exits
from latent.words import numbered


def report(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS", help="Folders that hold runs, at any depth.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("report.html"),
    figures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write every chart there, as SVG and PDF, for papers.", show_default=False),
    ] = None,
    links: Annotated[
        bool, typer.Option(help="Link to the files of runs; without, the page can go where these are not.")
    ] = True,
) -> None:
    """Write one HTML page of what runs show, finished or not: tables, interactive charts, and every run's state.

    A section for each task and data set. Charts: the metric that the task is judged by on validation, against decoder calls,
    steps and time, as means over seeds with bands of ± one sample standard deviation and single seeds; test results against
    decoder calls; decoder calls, entropy and probes of the gradient in training; and what else the task declares to be drawn.
    Tables: test results, which sort; every run's state, with links to its files; what configurations differ in. Of a
    sweep's grid, the cell is shown that is best on validation.

    The page is one file that needs no network; links to runs are relative to it. Long curves are thinned. A file that is there
    is replaced. Needs `pip install 'discrete-latent[report]'`.
    Exit codes: 0 written, 1 a run's file is damaged, 2 nothing to show, or it cannot be written.

    Examples:

    - `latent report results`
    - `latent report results/signal_game --out results/signal_game/report.html`
    - `latent report results/vae results/ssvae --figures figures`
    """
    from latent.experiment.run_directory import RunError
    from latent.files import write_text
    from latent.reports.figures.figures import FigureError
    from latent.reports.page import drawings, page
    from latent.reports.page.data import sections
    from latent.reports.runs import ResultsError, read_runs

    with exits((ResultsError, FigureError), (RunError,)):
        page.check_libraries()
        runs = read_runs(results, unfinished=True)
        found = sections(runs)
        text = page.page(page.build(found, runs, lambda file: quote(os.path.relpath(file, out.parent)) if links else ""))
        drawn = drawings.write_figures(found, figures) if figures is not None else []
        try:
            write_text(out, text)
        except OSError as error:
            raise WrongInput(f"cannot write to {out}: {error.strerror or error}") from error
    if drawn:
        errors.print(f"{numbered(len(drawn), 'figure')}: {escape(str(figures))}")
    errors.print(f"{numbered(len(runs), 'run')}: {escape(str(out))}")


def serve(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS", help="Folders that hold runs, or will, at any depth.", show_default=False),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 is any free one.")] = 8000,
    every: Annotated[float, typer.Option(min=0.5, metavar="SECONDS", help="How often an open page looks for news.")] = 5.0,
) -> None:
    """Show the page of `latent report` in a browser, live while runs train.

    An open page looks every few seconds whether files of runs have changed, and shows what is new as it showed the rest: what
    is hidden, sorted, opened and scrolled to stays so. Where a run's file is damaged the page says so, and goes on with what it
    had. It links to every run's `config.yaml`, `metrics.jsonl` and `error.txt`.

    Only this machine is served (127.0.0.1), and nothing is written. From elsewhere: `ssh -L 8000:localhost:8000 MACHINE`.
    Needs `pip install 'discrete-latent[report]'`. Ctrl-C stops.
    Exit codes: 0 stopped, 2 no such folder, or the port is taken.

    Examples:

    - `latent serve results`
    - `latent serve results/signal_game --port 8080 --every 2`
    """
    from latent.reports.figures.figures import FigureError
    from latent.reports.page import page
    from latent.reports.page.serve import bind

    with exits((FigureError,)):
        page.check_libraries()
        for folder in results:
            if not folder.is_dir():
                raise WrongInput(f"{folder} is no folder" if folder.exists() else f"there is no folder {folder}")
        try:
            server = bind(results, port, every)
        except OSError as error:
            taken = f"port {port} is taken; --port names another one, and --port 0 takes any that is free"
            failure = f"cannot listen on port {port}: {error.strerror or error}"
            raise WrongInput(taken if error.errno == errno.EADDRINUSE else failure) from error
    with server:
        errors.print(f"http://127.0.0.1:{server.server_port}/ shows {escape(', '.join(map(str, results)))}; Ctrl-C stops")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            errors.print("stopped")
