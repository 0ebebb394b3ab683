"""What there is to configure, from the command line: ``latent list``, ``latent schema``."""

from __future__ import annotations

import json

from rich.markup import escape
from rich.table import Table

from latent.terminal import output
from latent.words import capital


def list_parts() -> None:
    """List tasks, estimators, data sets, agents, optimisers and schedules with their options, defaults and descriptions."""
    from latent.experiment.options import describe, options_model
    from latent.experiment.settings import places

    for place in places():
        of_tasks = f" of {', '.join(place.tasks)}" if place.tasks else ""
        output.rule(f"[bold]{capital(place.kind)}s{of_tasks} ({place.key})", align="left")
        for name, part in place.parts.items():
            output.print(f"[bold cyan]{name}[/]  {escape(describe(part))}")
            grid = Table.grid(padding=(0, 2))
            for option, field in options_model(part).model_fields.items():
                default = "required" if field.is_required() else repr(field.default)
                grid.add_row(f"    {option}", f"[green]{escape(default)}", escape(field.description or ""))
            output.print(grid)
        output.print()


def schema() -> None:
    """Print the JSON Schema of a configuration file, for editors."""
    from latent.experiment.settings import json_schema

    print(json.dumps(json_schema(), indent=2))
