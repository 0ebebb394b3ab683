"""The command line: ``latent run``, ``latent certify``, ``latent list``, ``latent schema``, ``latent plot``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from latent.commands import data, listing, page, sweep, table, wandb
from latent.terminal import (
    FAILED,
    INTERRUPTED,
    errors,
    exits,
    output,
    say_error,
    show_warnings,
)
from latent.words import capital, heading, in_short, in_words, numbered, write

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Experiments on discrete latent variables and emergent communication.\n\n"
    "Start with `latent run configs/signal_game/sparsemax.yaml`.",
)
app.add_typer(data.app, name="data")
app.add_typer(wandb.app, name="wandb")
app.command("sweep")(sweep.sweep)
app.command("table")(table.table)
app.command("report")(page.report)
app.command("serve")(page.serve)
app.command("list")(listing.list_parts)


SUMMARY = (
    "test/success_rate",
    "test/expected_success_rate",
    "test/accuracy",
    "test/expected_accuracy",
    "test/elbo",
    "test/distortion",
    "test/argmax_distortion",
    "test/rate",
    "test/log_likelihood",
    "test/bits_per_dim",
    "test/decoder_calls",
    "total_decoder_calls",
    "test/messages_in_use",
    "test/entropy",
    "step",
    "time/seconds",
)
"""What `latent run` shows of a summary, in this order."""


class _Progress:
    """A progress bar on a terminal; elsewhere a line at each evaluation."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:>6,}/{task.total:,}"),
            TextColumn("{task.fields[headline]}  calls {task.fields[calls]}  {task.fields[speed]} steps/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            refresh_per_second=4,
        )
        self.task = self.bar.add_task("training", start=False, headline="", calls="  –  ", speed="  –", visible=False)
        self.metric = ""
        self.drawn = 0.0
        self.begun: float | None = None
        self.first = 0

    def start(self, directory: Path, step: int, steps: int, headline: str) -> None:
        self.metric = headline
        goes_on = f" (going on after step {step:,})" if step else ""
        self.console.print(f"run directory: {escape(str(directory))}{goes_on}")
        self.bar.update(self.task, total=steps, completed=step, visible=True)
        self.bar.start_task(self.task)
        self.bar.start()

    def advance(self, step: int) -> None:
        now = time.monotonic()
        if self.begun is None:  # the first step is not timed: what precedes it took its time
            self.begun, self.first = now, step
        elif now - self.drawn > 0.2:
            self.drawn = now
            self.bar.update(self.task, completed=step, speed=f"{(step - self.first) / (now - self.begun):.0f}")

    def row(self, row: dict[str, Any]) -> None:
        label = in_words(self.metric)[0].partition(",")[0]
        shown = {
            split: in_short(self.metric, row[key]) for split in ("train", "val") if (key := f"{split}/{self.metric}") in row
        }
        calls = f"{row['train/decoder_calls']:.2f}"
        self.bar.update(
            self.task,
            completed=row["step"],
            description="training",
            headline=f"{label} {shown.get('train', '–')}",
            calls=calls,
        )
        if self.bar.disable and "val" in shown:
            train = f"{label} in training {shown['train']}, " if "train" in shown else f"{label} "
            self.console.print(f"step {row['step']:,}: {train}validation {shown['val']}, calls {calls}")

    def evaluating(self, split: str) -> None:
        self.bar.update(self.task, description=f"evaluating on {split}")

    def stop(self) -> None:
        self.bar.stop()


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="YAML file of the experiment.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]", help="Overrides, such as seed=3 estimator.temperature=0.5."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run anew, whatever an earlier run left.")] = False,
) -> None:
    """Run one experiment with one seed.

    The run's directory is `OUT/EXPERIMENT/runs/ESTIMATOR-sSEED-HASH`. The same command resumes an unfinished run, and prints
    the summary of a finished one. Exit codes: 0 finished, 1 failed, 2 wrong configuration, 130 interrupted.

    Examples:

    - `latent run configs/signal_game/dense.yaml seed=3`
    - `latent run configs/signal_game/gumbel.yaml estimator.temperature=0.5 train.steps=1000`
    - `latent run configs/signal_game/sparsemax.yaml data.name=features data.path=features.npz --json`
    """
    from latent.experiment.configuration import load
    from latent.experiment.experiment import prepare
    from latent.experiment.run_directory import RunError
    from latent.experiment.runner import Interrupted, execute
    from latent.experiment.yaml_source import ConfigurationError

    show_warnings()
    progress = _Progress(errors)
    try:
        with exits((ConfigurationError,), (RunError,)):
            experiment = prepare(load(config, overrides or []), out)
            summary, finished_before = execute(experiment, progress, force)
    except Interrupted as stopped:
        say_error(stopped)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        progress.stop()
    if finished_before:
        errors.print(f"already finished (--force runs it anew): {escape(str(experiment.directory.path))}")
    if as_json:
        print(json.dumps(summary, indent=2))
        return
    table = Table("", summary["run"], title=f"{summary['task']}: {summary['estimator']}, seed {summary['seed']}")
    for key in SUMMARY:
        if key in summary:
            table.add_row(capital(heading(key)), write(key, summary[key]))
    output.print(table)
    errors.print(f"run directory: {escape(str(experiment.directory.path))}")


@app.command("certify")
def certify_estimators(
    estimators: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ESTIMATOR [KEY=VALUE]...]...", help="Names of estimators, each with options; all without."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every certificate as JSON.")] = False,
) -> None:
    """Compare estimators' expected gradients with the exact ones, on a fixed family of small problems.

    Where an estimator's draws are finite, all their outcomes are enumerated in float64: its bias and variance are exact. Where
    its noise is continuous, random draws are tested until a planted bias of 5 % would be found with 99 % probability. Biased
    estimators are compared with their exact bias. Estimators of other distributions are certified through their entry points.

    Columns: largest relative bias of the gradients of encoder and decoder; relative variance of the encoder's gradient
    (median over problems); decoder calls of an example.
    Exit codes: 0 every unbiased one is, and every biased one has its known bias; 1 one fails; 2 no such estimator or option.

    Examples:

    - `latent certify`
    - `latent certify reinmax straight_through`
    - `latent certify score_function samples=3 baseline=leave_one_out --json`
    """
    import torch

    from estimators import OptionError
    from estimators.certificates.problems import FAMILY
    from latent.experiment import certificates
    from latent.experiment.yaml_source import ConfigurationError

    torch.set_num_threads(1)
    with exits((OptionError, ConfigurationError)):
        chosen = certificates.entries(estimators or [])
        for entry in chosen if estimators else []:
            certificates.build(*entry)
    rows, failed = [], []
    with Progress(*Progress.get_default_columns(), console=errors, disable=not errors.is_terminal, transient=True) as progress:
        bar = progress.add_task("certifying", total=len(chosen) * len(FAMILY))
        for name, options in chosen:
            try:
                rows.append(certificates.row(name, options, lambda: progress.advance(bar)))
            except (certificates.CertificateError, OptionError) as error:
                failed.append(name)
                say_error(error)
    if as_json:
        print(json.dumps([row.as_json() for row in rows], indent=2))
    else:
        _show_certificates(rows, certificates.COLUMNS)
    wrong = [row for row in rows if not row.passed]
    for row in wrong:
        say_error(f"not what it declares: {row.estimator}: {row.verdict}")
    if wrong or failed:
        raise typer.Exit(FAILED)


def _show_certificates(rows: list[Any], columns: tuple[str, ...]) -> None:
    """A table for each kind of latent."""
    for space in sorted({row.space for row in rows}, reverse=True):
        table = Table(title=f"{space} latent", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
        for column in columns:
            first = column == "estimator"
            left = first or column == "unbiased"
            table.add_column(column, justify="left" if left else "right", min_width=25 if first else None, overflow="fold")
        for row in rows:
            if row.space == space:
                table.add_row(*row.cells(), style=None if row.passed else "bold red")
        output.print(table)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a configuration file, for editors."""
    from latent.experiment.configuration import json_schema

    print(json.dumps(json_schema(), indent=2))


@app.command()
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
