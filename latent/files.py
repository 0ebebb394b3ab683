"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a file beside ``path``, flush it to the disk and give it its name; on a failure nothing is left.

    A kill may leave ``.<name>.partial``. The caller sees to it that nobody else writes ``path`` meanwhile.

    Raises:
        OSError: if the file cannot be written; ``path`` then is whole all the same, as it was or as it was to be.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda stream: stream.write(text.encode(errors="backslashreplace")))


def write_json(path: Path, data: Any) -> None:
    """Write indented JSON atomically; numbers that are not finite are refused, for JSON has none."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")
