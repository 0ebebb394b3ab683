"""Options of parts: their errors, their names in words, and what a misspelt one may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class OptionError(ValueError):
    """An option's value is out of its range; ``option`` names the constructor argument at fault."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(f"{option}: {message}")
        self.option = option
        self.message = message


def nearest(word: str, words: Iterable[str]) -> str:
    """``; did you mean 'dense'?``, if one of the words is spelt like this one; else nothing."""
    close = difflib.get_close_matches(word, list(words), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def label(name: str, options: Mapping[str, Any]) -> str:
    """``name key=value ...``, as the command line takes it."""
    words = {True: "true", False: "false", None: "null"}
    named = {key: words[value] if value is None or isinstance(value, bool) else value for key, value in options.items()}
    return " ".join([name, *(f"{key}={value}" for key, value in named.items())])
