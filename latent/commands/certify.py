"""Certificates from the command line: ``latent certify``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich import box
from rich.progress import Progress
from rich.table import Table

from latent.terminal import FAILED, errors, exits, output, say_error


def certify(
    estimators: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ESTIMATOR [KEY=VALUE]...]...", help="Names of estimators, each with options; all without."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every certificate as JSON.")] = False,
) -> None:
    """Compare estimators' expected gradients with the exact ones, on a fixed family of small problems.

    Where an estimator's draws are finite, all their outcomes are enumerated in float64: its bias and variance are exact. Where
    its noise is continuous, random draws are tested until a planted bias of 5 % would be found with 99 % probability. Biased
    estimators are compared with their exact bias. Estimators of other distributions are certified through their entry points.

    Columns: largest relative bias of the gradients of encoder and decoder; relative variance of the encoder's gradient
    (median over problems); decoder calls of an example.
    Exit codes: 0 every unbiased one is, and every biased one has its known bias; 1 one fails; 2 no such estimator or option.

    Examples:

    - `latent certify`
    - `latent certify reinmax straight_through`
    - `latent certify score_function samples=3 baseline=leave_one_out --json`
    """
    import torch

    from estimators import OptionError
    from latent.experiment import certificates
    from latent.experiment.yaml_source import ConfigurationError

    torch.set_num_threads(1)
    with exits((OptionError, ConfigurationError)):
        chosen = certificates.entries(estimators or [])
    rows, failed = [], []
    with Progress(*Progress.get_default_columns(), console=errors, disable=not errors.is_terminal, transient=True) as progress:
        bar = progress.add_task("certifying", total=sum(len(entry.problems) for entry in chosen))
        for entry in chosen:
            try:
                rows.append(certificates.row(entry, lambda: progress.advance(bar)))
            except (certificates.CertificateError, OptionError) as error:
                failed.append(entry.label)
                say_error(error)
    if as_json:
        print(json.dumps([row.as_json() for row in rows], indent=2))
    else:
        _show_certificates(rows, certificates.COLUMNS)
    wrong = [row for row in rows if not row.passed]
    for row in wrong:
        say_error(f"not what it declares: {row.estimator}: {row.verdict}")
    if wrong or failed:
        raise typer.Exit(FAILED)


def _show_certificates(rows: list[Any], columns: tuple[str, ...]) -> None:
    """A table for each kind of latent."""
    for latent in dict.fromkeys(row.latent for row in rows):
        table = Table(title=f"{latent} latent", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
        for column in columns:
            first = column == "estimator"
            left = first or column == "unbiased"
            table.add_column(column, justify="left" if left else "right", min_width=25 if first else None, overflow="fold")
        for row in rows:
            if row.latent == latent:
                table.add_row(*row.cells(), style=None if row.passed else "bold red")
        output.print(table)
