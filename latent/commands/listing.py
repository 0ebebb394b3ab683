"""What there is to configure, from the command line: ``latent list``, ``latent schema``."""

from __future__ import annotations

import json
from typing import Any

from rich.markup import escape
from rich.table import Table

from latent.terminal import output


def list_parts() -> None:
    """List estimators, tasks and data sets with their options, defaults and descriptions."""
    from latent.experiment import parts

    tasks: Any = parts.tasks()
    groups: dict[str, Any] = {"Estimators (estimator.name)": parts.estimators(), "Tasks (task)": tasks}
    for name, task in tasks.items():
        groups[f"Data sets of {name} (data.name)"] = task.datasets
    for title, group in groups.items():
        output.rule(f"[bold]{title}", align="left")
        for name, part in group.items():
            output.print(f"[bold cyan]{name}[/]  {escape(parts.describe(part))}")
            grid = Table.grid(padding=(0, 2))
            for option, field in parts.options_model(part).model_fields.items():
                default = "required" if field.is_required() else repr(field.default)
                grid.add_row(f"    {option}", f"[green]{escape(default)}", escape(field.description or ""))
            output.print(grid)
        output.print()


def schema() -> None:
    """Print the JSON Schema of a configuration file, for editors."""
    from latent.experiment.configuration import json_schema

    print(json.dumps(json_schema(), indent=2))
