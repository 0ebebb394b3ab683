"""The command line: every command by its name."""

from __future__ import annotations

from collections.abc import Callable

import typer

from latent.commands import certify, data, listing, page, plot, run, sweep, table, wandb

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Experiments on discrete latent variables and emergent communication.\n\n"
    "Start with `latent run configs/signal_game/sparsemax.yaml`.",
)
COMMANDS: dict[str, Callable[..., None]] = {
    "run": run.run,
    "sweep": sweep.sweep,
    "table": table.table,
    "report": page.report,
    "serve": page.serve,
    "plot": plot.plot,
    "certify": certify.certify,
    "list": listing.list_parts,
    "schema": listing.schema,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(data.app, name="data")
app.add_typer(wandb.app, name="wandb")
