"""What every command shares: where it writes, how it says what went wrong, and its exit codes."""

from __future__ import annotations

import logging
from typing import Any

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


def say_configuration_error(error: Any) -> None:
    """Print every mistake of a configuration with its place, and the line that it stands in."""
    for mark, message in error.problems:
        say_error(f"{mark}: {message}")
        if mark.text:
            errors.print(f"{mark.line:>6} | {mark.text}\n       | {' ' * (mark.column - 1)}^", markup=False, style="dim")


def say_error(message: object) -> None:
    """Print an error, in full and as it is."""
    errors.print(f"[bold red]error:[/] {escape(str(message))}")
