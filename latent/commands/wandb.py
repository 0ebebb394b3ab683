"""The command line's part on Weights & Biases: ``latent wandb export``, ``latent wandb workspace``."""

from __future__ import annotations

import shlex
import signal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress

from latent.terminal import FAILED, INTERRUPTED, errors, exits, interrupt, say_error, show_warnings
from latent.words import numbered

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Bring finished runs into Weights & Biases, and compare them there.",
)


class Mode(str, Enum):
    """Of W&B."""

    online = "online"
    offline = "offline"


class By(str, Enum):
    """What runs are grouped by."""

    configuration = "configuration"
    estimator = "estimator"


ResultsArgument = typer.Argument(metavar="RESULTS", help="Folders that hold finished runs, at any depth.", show_default=False)
ProjectOption = typer.Option(metavar="NAME", help="W&B project, in the place of the runs' own.", show_default=False)
EntityOption = typer.Option(metavar="NAME", help="W&B entity, in the place of the runs' own.", show_default=False)


@app.command()
def export(
    results: Annotated[list[Path], ResultsArgument],
    mode: Annotated[
        Mode | None,
        typer.Option(help="Mode of W&B; without it, WANDB_MODE, else online where there is a key.", show_default=False),
    ] = None,
    project: Annotated[str | None, ProjectOption] = None,
    entity: Annotated[str | None, EntityOption] = None,
    force: Annotated[bool, typer.Option("--force", help="Export again what W&B has already.")] = False,
) -> None:
    """Replay finished runs into Weights & Biases, each once.

    A run arrives as live tracking sends it, whether or not it was tracked: all rows of its metrics, its pictures, its summary
    and its configuration, under the same id and in the same group. A run that W&B has already is passed over, online also
    where live tracking sent all of it; one that was run anew since replaces the run of its id.

    Offline, where there is no key or no network, the files go to the folders `wandb` of the runs, and the command that uploads
    them is printed. What was exported where is noted in each run's `wandb.json`.
    Exit codes: 0 W&B has every run, 1 a run could not be exported or its files are damaged, 2 nothing to export or W&B is
    disabled, 130 interrupted.

    Examples:

    - `latent wandb export results/signal_game`
    - `latent wandb export results --mode offline --project estimators`
    """
    from latent.experiment.run_directory import RunError
    from latent.experiment.tracking import TrackingError
    from latent.reports.runs import ResultsError, read_runs
    from latent.reports.wandb import export as wandb_export
    from latent.reports.wandb import notes as wandb_notes

    show_warnings()
    before = signal.signal(signal.SIGTERM, interrupt)
    done: list[wandb_export.Exported] = []
    failed = 0
    bars = Progress(*Progress.get_default_columns(), console=errors, disable=not errors.is_terminal, transient=True)
    try:
        with exits((ResultsError, TrackingError), (RunError,)), bars as progress:
            runs = read_runs(results)
            to = wandb_export.destination(mode.value if mode else None, project, entity)
            bar = progress.add_task("exporting", total=len(runs))
            for result in wandb_export.export_all(runs, to, force):
                progress.advance(bar)
                if isinstance(result, wandb_export.Exported):
                    done.append(result)
                else:
                    failed += 1
                    say_error(result)
    except KeyboardInterrupt:
        say_error(f"interrupted; {numbered(len(done), 'run')} done, and the same command goes on with the others")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    _say_what_was_done(done)
    waiting = wandb_notes.waiting(run["directory"] for run in runs)
    if waiting:
        errors.print(f"to upload {numbered(len(waiting), 'run')}:")
        print(wandb_notes.sync_command(waiting))
    if failed:
        raise typer.Exit(FAILED)


def _say_what_was_done(done: list[Any]) -> None:
    for mode in ("online", "offline"):
        for project in sorted({note.project for note, sent in done if sent and note.mode == mode}):
            number = sum(sent and (note.mode, note.project) == (mode, project) for note, sent in done)
            errors.print(f"exported {mode}: {numbered(number, 'run')} to the project {escape(project)}")
    already = sum(not sent for _, sent in done)
    if already:
        errors.print(f"already exported: {numbered(already, 'run')} (--force exports again)")


@app.command()
def workspace(
    results: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RESULTS", help="Folders of the runs that it is for; without, all tasks.", show_default=False),
    ] = None,
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="W&B project.", show_default="that of the runs, else discrete-latent")
    ] = None,
    entity: Annotated[
        str | None, typer.Option(metavar="NAME", help="W&B entity.", show_default="that of the runs, else the account's")
    ] = None,
    by: Annotated[By, typer.Option(help="What a line of a chart is: mean and band are over its runs.")] = By.configuration,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the workspace to this JSON file, and do not save it.")
    ] = None,
    load: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the workspace of such a file.", show_default=False)
    ] = None,
) -> None:
    """Make a Weights & Biases workspace that compares estimators.

    Its charts: the headline metric on validation over decoder calls and over steps, support size and entropy in training, test
    metrics against decoder calls, what else a task declares, and the quality of the gradient where it is probed. A line is the
    mean over the seeds of a configuration, with a band of ± one standard deviation; with `--by estimator`, over all runs of an
    estimator with the same options, which is right where no other setting differs. With RESULTS, it has the charts of what
    those runs measure, and of a sweep's grid it shows the cells that validation chose.

    The workspace is saved as a new view of the project, and its address printed. Without a key of W&B, it is written to
    `wandb_workspace.json` instead, to be saved with `--load` where there is one.
    Needs `pip install 'discrete-latent[wandb]'`.
    Exit codes: 0 saved or written, 1 a run's file is damaged or W&B failed, 2 wrong input.

    Examples:

    - `latent wandb workspace results/signal_game`
    - `latent wandb workspace results/vae --out vae.json`, and elsewhere `latent wandb workspace --load vae.json`
    """
    from latent.experiment.run_directory import RunError
    from latent.experiment.tracking import TrackingError
    from latent.reports.runs import ResultsError, finished, read_runs
    from latent.reports.wandb import workspace as wandb_workspace

    show_warnings()
    with exits((ResultsError, wandb_workspace.WorkspaceError), (RunError, TrackingError)):
        if load is not None and (results or out):
            raise wandb_workspace.WorkspaceError("--load saves the workspace of a file: neither RESULTS nor --out goes with it")
        if load is not None:
            made = wandb_workspace.read(load, project, entity)
        else:
            every = read_runs(results, unfinished=True) if results else []
            runs = finished(every) if results else []
            made = wandb_workspace.build(runs, *wandb_workspace.place(runs, project, entity), by is By.estimator, every)
        obstacle = wandb_workspace.why_not_to_save()
        if load is not None and obstacle:
            raise TrackingError(f"{obstacle}: the workspace cannot be saved")
        if out is None and not obstacle:
            address = wandb_workspace.save(made)
            errors.print("saved the workspace:")
            print(address)
            return
        file = out or Path("wandb_workspace.json")
        wandb_workspace.write(made, file)
    reason = f"{obstacle}; " if obstacle and out is None else ""
    errors.print(f"{reason}wrote the workspace to {escape(str(file))}; where W&B has a key, this saves it:")
    print(f"latent wandb workspace --load {shlex.quote(str(file))}")
