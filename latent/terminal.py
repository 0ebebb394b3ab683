"""What every command shares: where it writes, how it says what went wrong, and its exit codes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

errors = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
output = Console(highlight=False, emoji=False)

FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130


def show_warnings() -> None:
    """Let warnings of this process appear among what the command says."""
    handler = RichHandler(console=errors, show_path=False, show_time=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])


def interrupt(number: int, frame: Any) -> None:
    """A handler that lets SIGTERM do what Ctrl-C does."""
    raise KeyboardInterrupt


def say_error(error: object) -> None:
    """Print an error, in full and as it is; each mistake of a configuration with its place, and the line that it stands in."""
    for mark, message in getattr(error, "problems", [(None, error)]):
        errors.print(f"[bold red]error:[/] {escape(str(message) if mark is None else f'{mark}: {message}')}")
        if mark is not None and mark.text:
            errors.print(f"{mark.line:>6} | {mark.text}\n       | {' ' * (mark.column - 1)}^", markup=False, style="dim")


class WrongInput(Exception):
    """What a command was given is not to be had: options that do not go together, or a file that cannot be written."""


@contextlib.contextmanager
def exits(wrong_input: tuple[type[Exception], ...] = (), failed: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Print errors of some kinds, and end the command with the exit code of their kind."""
    kinds: tuple[type[Exception], ...] = (WrongInput, *wrong_input, *failed)
    try:
        yield
    except kinds as error:
        say_error(error)
        raise typer.Exit(FAILED if isinstance(error, failed) else WRONG_INPUT) from None
