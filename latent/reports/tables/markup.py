"""Tables as GitHub's Markdown, as LaTeX, and for a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from latent.reports.tables.columns import Block, Column, Table

SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "−": "$-$",
    "≥": r"$\geq$",
    "–": "--",
}
"""What LaTeX writes otherwise, in any of its encodings of fonts."""


def to_markdown(tables: Sequence[Table]) -> str:
    """GitHub's Markdown: a heading, tables and a list of notes for each problem.

    Reference: GitHub Flavored Markdown Specification 0.29, section 4.10, 2019.
    """
    return "\n\n".join(_markdown(table) for table in tables) + "\n"


def _markdown(table: Table) -> str:
    parts = [f"### {_escaped(table.title)}"]
    for block in table.blocks:
        columns = [*table.keys, *block.columns]
        parts += [f"**{_escaped(block.heading)}**"] if block.heading else []
        marks = ["---" if column.words else "---:" for column in columns]
        lines = [[column.heading for column in columns], *_lines(columns)]
        head, *body = ["| " + " | ".join(map(_escaped, line)) + " |" for line in lines]
        parts.append("\n".join([head, "|" + "|".join(marks) + "|", *body]))
    return "\n\n".join([*parts, "\n".join(f"- {_escaped(note)}" for note in table.notes)])


def _escaped(text: str) -> str:
    return re.sub(r"([\\|*<>`\[\]~])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", lambda match: "\\" + match[0], text)


def to_latex(tables: Sequence[Table]) -> str:
    """A ``tabular`` with the rules of the package booktabs for each problem, followed by its notes in small print.

    Reference: S. Fear: Publication Quality Tables in LaTeX, 2020.
    """
    return "\n".join(_latex(table) for table in tables)


def _latex(table: Table) -> str:
    parts = [f"% {table.title}; needs \\usepackage{{booktabs}}"]
    for block in table.blocks:
        columns = [*table.keys, *block.columns]
        alignment = "".join("l" if column.words else "r" for column in columns)
        headings = [_stacked(column.heading, alignment[i]) for i, column in enumerate(columns)]
        body = [" & ".join(map(latex_escaped, line)) + r" \\" for line in _lines(columns)]
        parts += [rf"\par\medskip\noindent {latex_escaped(block.heading)}\par\smallskip\noindent"] if block.heading else []
        parts += [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", " & ".join(headings) + r" \\", r"\midrule", *body]
        parts += [r"\bottomrule", r"\end{tabular}"]
    notes = " ".join(table.notes)
    return "\n".join([*parts, rf"\par\smallskip{{\footnotesize\noindent {latex_escaped(notes)}\par}}", ""])


def latex_escaped(text: str) -> str:
    """Text with what LaTeX would take as commands, or lacks in its fonts, written otherwise."""
    return "".join(SPECIAL.get(character, character) for character in text)


def _stacked(text: str, side: str) -> str:
    lines = [latex_escaped(line) for line in textwrap.wrap(text, 18, break_long_words=False, break_on_hyphens=False)]
    stack = r"\\".join(lines)
    return stack if len(lines) == 1 else rf"\shortstack[{side}]{{{stack}}}"


def _lines(columns: Sequence[Column]) -> list[list[str]]:
    return [list(line) for line in zip(*(column.texts for column in columns), strict=True)]


MOST_LINES = 4
"""Of a heading or a label in a terminal, if it can be broken so."""
WIDEST_LABEL = 32


def show(tables: Sequence[Table], console: Console) -> None:
    """Print tables, each in as many parts as it needs for no number to be broken at the width of the terminal."""
    for i, table in enumerate(tables):
        if i:
            console.print()
        console.print(Text(table.title, style="bold"))
        for block in table.blocks:
            if block.heading:
                console.print(Text(block.heading, style="bold"))
            for part in _parts(table, block, console.width):
                console.print(part)
                console.print()
        for note in table.notes:
            text = textwrap.fill(note, console.width, initial_indent="· ", subsequent_indent="  ", break_on_hyphens=False)
            console.print(Text(text, style="yellow" if note in table.warnings else "dim"))


def _parts(table: Table, block: Block, width: int) -> list[RichTable]:
    """Columns as they have room, those that tell lines apart in each part.

    Where these alone take more than half of the width, only labels do so, and the settings are shown once.
    """
    keys, columns = list(table.keys), list(block.columns)
    if sum(map(_width, keys)) > width // 2 and len(keys) > 1:
        first = block is table.blocks[0]
        keys, columns = [Column("estimator", table.labels, {}, words=True)], [*(table.keys[1:] if first else []), *columns]
    room = width - sum(map(_width, keys))
    parts: list[list[Column]] = [[]]
    for column in columns:
        if parts[-1] and sum(map(_width, [*parts[-1], column])) > room:
            parts.append([])
        parts[-1].append(column)
    return [_rich([*keys, *part]) for part in parts]


def _width(column: Column) -> int:
    """Characters that a column takes, with the space beside it."""
    texts = [column.heading] if not column.words else [column.heading, *column.texts]
    least = max(len(word) for text in texts for word in text.split() or [""])
    least = min(least, WIDEST_LABEL) if column.words else max(least, *map(len, _aligned(column)))
    most = max(map(len, texts))
    fits = (width for width in range(least, max(least, most) + 1) if all(_height(text, width) <= MOST_LINES for text in texts))
    return next(fits, least) + 2


def _height(text: str, width: int) -> int:
    return len(textwrap.wrap(text, width, break_on_hyphens=False))


def _rich(columns: Sequence[Column]) -> RichTable:
    shown = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "left" if column.words else "right"
        shown.add_column(Text(column.heading), justify=justify, width=_width(column) - 2, overflow="fold")
    texts = [
        column.texts if column.words else [text.rjust(_width(column) - 2) for text in _aligned(column)] for column in columns
    ]
    for line in zip(*texts, strict=True):
        shown.add_row(*(Text(text, justify="left") for text in line))  # to the right, the spaces behind them would be lost
    return shown


def _aligned(column: Column) -> list[str]:
    """Texts of one width, in which the signs ± stand below each other."""
    halves = [text.partition(" ± ") for text in column.texts]
    widest = [max(len(half[i]) for half in halves) for i in (0, 2)]
    if not widest[1]:
        return list(column.texts)
    return [mean.rjust(widest[0]) + (sign or "   ") + spread.ljust(widest[1]) for mean, sign, spread in halves]
