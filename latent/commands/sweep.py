"""The command line of sweeps: ``latent sweep``."""

from __future__ import annotations

import contextlib
import re
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from latent.terminal import (
    FAILED,
    INTERRUPTED,
    errors,
    exits,
    interrupt,
    output,
    say_error,
    show_warnings,
)
from latent.words import numbered

if TYPE_CHECKING:
    from latent.experiment.overrides import Override
    from latent.sweeps.board import Board, Standing
    from latent.sweeps.plan import PlannedRun

OVERRIDE = re.compile(r"[A-Za-z_][\w.]*\s*=|=")
"""How an override begins; a file of such a name is given as ``./NAME``."""


def sweep(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG... [KEY=VALUE]...",
            help="YAML files of experiments or of sweeps, and overrides for every run.",
            show_default=False,
        ),
    ],
    seeds: Annotated[
        str | None, typer.Option(metavar="N|LIST", help="10: seeds 0 to 9; 3,5,7: these.", show_default="that of CONFIG")
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V1,V2,...", help="Values to try; with several --grid, every combination.", show_default=False
        ),
    ] = None,
    launcher: Annotated[
        str | None, typer.Option(metavar="local|ray|slurm|debug", help="Where runs are run.", show_default="local")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time.", show_default="as there are processors; on a cluster, no limit")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray: the cluster to use, or auto.", show_default="a local one is started")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan: runs, states, estimated time; run nothing.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run those again that have failed before, or whose files are damaged.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Run all anew, whatever earlier runs left.")] = False,
) -> None:
    """Run every combination of configurations, grid cells and seeds, each once.

    Finished runs are recognised by the hash of their configuration and data, and are not run again. Whatever dies in between
    (a run, this command, the machine): the same command goes on, from the checkpoints. Several commands may share the
    work of one sweep.

    Launchers: `local`, processes of this machine with one thread each; `ray`, a Ray cluster (needs
    `pip install 'discrete-latent[ray]'`); `slurm`, job arrays (needs `pip install 'discrete-latent[slurm]'`); `debug`, this
    process, one run after another.

    A file may have a block `sweep` with `seeds`, `grid`, `overrides`, `launcher`, `workers` and `configurations`: a list of
    files, or a block of files with overrides for each. Options given here come before it.
    Exit codes: 0 all finished, 1 a run failed, 2 wrong input, 130 interrupted.

    Examples:

    - `latent sweep configs/signal_game/{dense,sparsemax}.yaml --seeds 5`
    - `latent sweep configs/signal_game/gumbel.yaml --seeds 3 --grid estimator.temperature=0.5,1 --grid train.steps=1000,2000`
    - `latent sweep configs/sweeps/emoji.yaml train.steps=1000 --dry-run`
    - then `latent table results/signal_game` and `latent report results/signal_game`
    """
    from latent.experiment.run_directory import RunError
    from latent.experiment.yaml_source import ConfigurationError
    from latent.sweeps.launcher import LauncherError, Stopped

    show_warnings()
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        launch = {"launcher": launcher, "workers": workers, "address": address}
        with exits((ConfigurationError, LauncherError), (RunError, OSError)):
            code = _sweep(arguments, seeds, grid or [], out, dry_run, retry_failed, force, **launch)
    except (Stopped, KeyboardInterrupt):
        without = " without --force" if force else ""
        errors.print(f"stopped; the same command{without} goes on from there")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    raise typer.Exit(code)


def _sweep(
    arguments: Sequence[str],
    seeds: str | None,
    grid: Sequence[str],
    out: Path,
    dry_run: bool,
    retry_failed: bool,
    force: bool,
    **launch: Any,
) -> int:
    from latent.sweeps.board import Board
    from latent.sweeps.launchers import at_a_time, launcher_for
    from latent.sweeps.plan import parse_seeds, plan, resources

    files, overrides = _inputs(arguments)
    grids = _grids(grid)
    needed = resources(files, **launch)
    with errors.status("planning") if errors.is_terminal else contextlib.nullcontext():
        runs = plan(files, overrides, out, parse_seeds(seeds) if seeds is not None else None, grids)
        board = Board(runs)
    workers = at_a_time(needed, runs)
    if dry_run:
        _show_plan(board, workers, _again(board, retry_failed, force))
        return 0
    run_all = launcher_for(needed, runs)
    _write(runs, retry_failed, force)
    board.look(everything=True)
    return _run(board, run_all, [standing.run for standing in board.of("planned", "stopped", "running")], workers)


def _inputs(arguments: Sequence[str]) -> tuple[list[Path], list[Override]]:
    """The files and the overrides among some arguments.

    Raises:
        ConfigurationError: if there is no file, or an override is none.
    """
    from latent.experiment.overrides import parse_override
    from latent.experiment.yaml_source import ConfigurationError, Mark

    files = [Path(each) for each in arguments if not OVERRIDE.match(each)]
    overrides = [parse_override(each) for each in arguments if OVERRIDE.match(each)]
    if not files:
        raise ConfigurationError.at(Mark("command line"), "name the YAML file of an experiment or of a sweep")
    return files, overrides


def _grids(texts: Sequence[str]) -> dict[str, list[Any]]:
    """The keys of a grid with their values.

    Raises:
        ConfigurationError: if one is given twice, or a text is no key with values.
    """
    from latent.experiment.yaml_source import ConfigurationError, Mark
    from latent.sweeps.plan import parse_grid

    grids = list(map(parse_grid, texts))
    for key, count in Counter(key for key, _ in grids).items():
        if count > 1:
            raise ConfigurationError.at(Mark(f"command line, --grid {key}"), "is given twice; write all its values in one")
    return dict(grids)


def _again(board: Board, retry_failed: bool, force: bool) -> list[Standing]:
    """What has ended and is to be run again."""
    ended = board.of("finished", "failed")
    return [each for each in ended if force or (retry_failed and (each.state == "failed" or each.run.is_damaged()))]


def _write(runs: Sequence[PlannedRun], retry_failed: bool, force: bool) -> None:
    """Write the directories of the runs, after forgetting what earlier runs left, where that is asked for.

    Raises:
        RunInUse: if another process is running one that is to be forgotten.
    """
    from latent.experiment.run_directory import RunInUse

    in_use = [planned.directory.path for planned in runs if planned.directory.is_locked()]
    if force and in_use:
        raise RunInUse(f"{in_use[0]} is in use: another process is running it; nothing has been forgotten")
    for planned in runs:
        if force:
            planned.forget()
        elif retry_failed:
            planned.forget_failure()
        planned.write()


def _run(board: Board, run_all: Any, pending: Sequence[PlannedRun], workers: int) -> int:
    """Run what is to be run, and say how all stand in the end."""
    from latent.sweeps.view import View, words_for

    total = len(board.standings)
    crashes: dict[Path, str] = {}
    if pending:
        errors.print(f"{numbered(total, 'run')}: {words_for(board)}; to run: {len(pending)}")
        with View(board, workers, errors) as tick:
            crashes = run_all([run.directory.path for run in pending], tick)
    board.look(everything=True)
    wrong = board.of("failed", "stopped", "planned", "running")
    for standing in wrong:
        directory = standing.run.directory
        say_error(f"{directory.path.name}: {crashes.get(directory.path) or directory.reason()}")
    errors.print(f"{numbered(total, 'run')}: {words_for(board)}" + ("" if pending else "; nothing to run"))
    if any(standing.state == "failed" and standing.run.directory.path not in crashes for standing in wrong):
        errors.print("--retry-failed runs those again that have failed; one that diverged will diverge again")
    folders = sorted({str(standing.run.directory.path.parents[1]) for standing in board.standings})
    errors.print(f"latent table {escape(' '.join(folders))}", style="dim")
    return FAILED if wrong else 0


def _show_plan(board: Board, workers: int, again: Sequence[Standing]) -> None:
    """A line for each cell: what it is, its seeds, and how its runs stand; and which are run ``again`` that have ended."""
    from latent.sweeps.view import duration, words_for

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("configuration", "grid", "seeds", "steps", "runs"):
        table.add_column(column, justify="right" if column == "steps" else "left", overflow="fold")
    cells: dict[str, list[Any]] = {}
    for standing in board.standings:
        cells.setdefault(standing.run.cell, []).append(standing)
    for members in cells.values():
        run = members[0].run
        chosen = " ".join(f"{key}={value}" for key, value in run.grid.items())
        numbers = ", ".join(str(member.run.configuration["seed"]) for member in members)
        counts = Counter(member.state for member in members)
        states = ", ".join(f"{count} {state}" for state, count in counts.items())
        table.add_row(run.source.stem, escape(chosen), numbers, f"{run.steps:,}", states)
    output.print(table)
    left = board.seconds_left(workers, again)
    pending = len(board.of("planned", "stopped", "running")) + len(again)
    output.print(
        f"{numbered(len(board.standings), 'run')} in {numbered(len(cells), 'cell')}: {words_for(board)}; to run: {pending}"
    )
    guess = (
        f"about {duration(left)} with {workers} at a time" if left is not None else "not known before the first rows of metrics"
    )
    output.print(f"time left: {guess}")
