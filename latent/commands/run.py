"""One run from the command line, and its progress: ``latent run``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from latent.terminal import INTERRUPTED, errors, exits, output, say_error, show_warnings
from latent.words import capital

if TYPE_CHECKING:
    from latent.experiment.vocabulary import Vocabulary


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
        self.vocabulary: Vocabulary | None = None
        self.drawn = 0.0
        self.begun: float | None = None
        self.first = 0

    def start(self, directory: Path, step: int, steps: int, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
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
        assert self.vocabulary is not None  # it has started
        judged = [self.vocabulary.judged(split) for split in ("train", "val")]
        label = self.vocabulary.judged("test").short
        shown = {each.key.partition("/")[0]: each.in_short(row[each.key]) for each in judged if each.key in row}
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
    from latent.experiment import parts
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
    vocabulary = parts.vocabulary(summary["task"])
    for metric in vocabulary.shown("summary"):
        measured = vocabulary[metric.key("test")]
        if measured.key in summary:
            table.add_row(capital(measured.heading), measured.write(summary[measured.key]))
    output.print(table)
    errors.print(f"run directory: {escape(str(experiment.directory.path))}")
