"""What every command shares: where it writes, how it says what went wrong, and its exit codes."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

errors = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
output = Console(highlight=False, emoji=False)

FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130


def say_error(message: object) -> None:
    """Print an error, in full and as it is."""
    errors.print(f"[bold red]error:[/] {escape(str(message))}")
