"""Sphinx configuration; the tables of options are made from the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from latent.experiment import parts
from latent.experiment.configuration import Common

project = "discrete-latent"
author = "The discrete-latent maintainers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath"]
html_theme = "furo"
html_title = "discrete-latent"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_ivar = True


def rows(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Table rows of a model's fields, those of nested models too."""
    found = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += rows(field.annotation, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else "" if field.default is None else f"`{field.default}`"
        found.append(f"| `{prefix}{name}` | {default} | {(field.description or '')} |")
    return found


def section(title: str, text: str, model: type[BaseModel], prefix: str) -> str:
    """A heading and a table of options."""
    table = ["| key | default | meaning |", "|---|---|---|", *rows(model, prefix)] if model.model_fields else []
    return "\n".join([f"## {title}", "", text, "", *table, ""])


def write_options(app: Any) -> None:
    """Write the page of all options."""
    tasks: Any = parts.tasks()
    pages = ["# Options", "", section("Every experiment", "", Common, "")]
    for name, task in tasks.items():
        pages.append(section(f"Task `{name}`", parts.describe(task), parts.options_model(task), f"{task.section}."))
        for data, part in task.datasets.items():
            title = f"Data set `{data}` of `{name}`"
            pages.append(section(title, parts.describe(part), parts.options_model(part), "data."))
    for name, part in parts.estimators().items():
        pages.append(section(f"Estimator `{name}`", parts.describe(part), parts.options_model(part), "estimator."))
    target = Path(__file__).parent / "generated" / "options.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(pages))


def setup(app: Any) -> None:
    """Make the page before the sources are read."""
    app.connect("config-inited", lambda app, config: write_options(app))
