"""A Sphinx extension: pages of options and of estimators, and tables of certificates, made from the code at every build."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import statistics
import typing
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from pydantic import BaseModel
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import estimators
from estimators import ESTIMATORS, expected_loss
from estimators.certificates.catalogue import WIDE, catalogue
from estimators.certificates.certify import Certificate
from estimators.certificates.quality import Quality
from latent.experiment import certificates, parts
from latent.experiment.certificates import Row
from latent.experiment.options import choice_of, describe, options_model
from latent.experiment.settings import Common, places
from latent.experiment.vocabulary import RUNNER
from latent.words import PLACES, capital

GENERATED = Path(__file__).parent / "generated"


def write(name: str, *lines: str) -> None:
    """Write a generated page, unless it is there as it should be: Sphinx reads again what has changed."""
    path, text = GENERATED / name, "\n".join([*lines, ""])
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def table(head: list[str], body: list[list[str]], numbers: int = 0) -> str:
    """A Markdown table whose last ``numbers`` columns are aligned to the right."""
    marks = ["---"] * (len(head) - numbers) + ["--:"] * numbers
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, marks, *body])


# The page of options ------------------------------------------------------------------------------------------------------


def options(model: type[BaseModel], prefix: str = "") -> list[list[str]]:
    """Table rows of a model's fields, those of nested models too."""
    found = []
    for name, field in model.model_fields.items():
        if choice_of(field) is None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += options(field.annotation, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else "" if field.default is None else f"`{field.default}`"
        found.append([f"`{prefix}{name}`", default, field.description or ""])
    return found


def options_page() -> str:
    """Every key of a configuration."""
    sections: list[tuple[str, Any, str]] = [("Every experiment", None, "")]
    for place in places():
        of_tasks = f" of {', '.join(f'`{task}`' for task in place.tasks)}" if place.tasks else ""
        for name, part in place.parts.items():
            prefix = f"{part.section}." if place.key == "task" else place.key.removesuffix("name")
            sections.append((f"{place.kind.capitalize()} `{name}`{of_tasks}", part, prefix))
    pages = ["# Options"]
    for title, part, prefix in sections:
        body = options(options_model(part) if part else Common, prefix)
        pages += [
            f"## {title}",
            describe(part) if part else "",
            table(["key", "default", "meaning"], body) if body else "",
        ]
    return "\n\n".join(filter(None, pages))


# The page of metrics ------------------------------------------------------------------------------------------------------


def metrics_page() -> str:
    """What every task measures, and where it is shown."""
    places = table(["place", "where that is"], [[f"`{place}`", words] for place, words in PLACES.items()])
    pages = [
        "# Metrics",
        "Each task declares what it measures; the runner adds the rest. In a place, this is their order.",
        places,
    ]
    vocabularies = {f"Task `{name}`": parts.vocabulary(name) for name in parts.tasks()}
    sections = {title: (found.own, found.headline.name) for title, found in vocabularies.items()}
    for title, (metrics, headline) in (sections | {"Every task": (RUNNER, "")}).items():
        body = [
            [
                f"`{metric.name}`" + (" (headline)" if metric.name == headline else ""),
                metric.words,
                metric.unit,
                metric.better or "",
                ", ".join(metric.shown),
            ]
            for metric in metrics
        ]
        pages += [f"## {title}", table(["metric", "in words", "unit", "better", "shown in"], body)]
    pages += ["The headline is in `summary`, `table`, `page` and `validation` in any case, and has charts of its own."]
    return "\n\n".join(pages)


# Certificates -------------------------------------------------------------------------------------------------------------


@cache
def all_certificates() -> list[Row]:
    """The certificates of the catalogue: from the last build, unless a file of the estimators has changed since."""
    package = Path(estimators.__file__).parent
    sources = sorted(path for path in package.rglob("*") if path.suffix in (".py", ".json"))
    content = b"".join(str(path.relative_to(package)).encode() + path.read_bytes() for path in sources)
    key = hashlib.sha256(content).hexdigest()
    kept = GENERATED / "certificates.json"
    if not kept.exists() or json.loads(kept.read_text())["key"] != key:
        logging.getLogger(__name__).info("certifying the estimators: a minute or two, once")
        torch.set_num_threads(1)
        rows = [certificates.row(entry).as_json() for entry in catalogue()]
        write("certificates.json", json.dumps({"key": key, "rows": rows}))
    return [from_json(row) for row in json.loads(kept.read_text())["rows"]]


def from_json(row: dict[str, Any]) -> Row:
    """The inverse of ``Row.as_json``."""
    found = []
    for one in row["certificates"]:
        qualities = {part: Quality(**one.pop(part)) for part in ("encoder", "decoder", "value")}
        found.append(Certificate(**one, **qualities))
    return Row(row["estimator"], row["latent"], row["verdict"], row["passed"], found)


def linked(row: Row) -> str:
    """Name and options of an estimator."""
    name, *given = row.estimator.split()
    return " ".join([f"[{name}](/generated/estimators/{name}.md)", *(f"`{option}`" for option in given)])


LATENTS = {
    "categorical": "one categorical",
    "wide_categorical": "one categorical of five states",
    "bit_vector": "bits",
    "categoricals": "several categoricals",
}
"""The kinds of latent in words."""

SHOWN = {
    "bias": (max, lambda certificate: certificate.encoder.bias),
    "variance": (statistics.median, lambda certificate: certificate.encoder.variance),
    "calls": (statistics.mean, lambda certificate: certificate.calls),
}


def number(value: float) -> str:
    """A quantity of a table by loss or shape."""
    return "0" if value < 1e-8 else f"{value:.2f}"


class CertificateTable(SphinxDirective):
    """Rows of the table of certificates: patterns of ``name key=value ...``, one a line; ``*`` for all.

    They are those of one kind of ``latent``, a categorical one unless it is given. With ``show`` and ``by`` the table has one
    quantity, split by the loss or by the shape of the problem.
    """

    has_content = True
    option_spec: typing.ClassVar = {"latent": directives.unchanged, "show": directives.unchanged, "by": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(GENERATED / "certificates.json"))
        rows = [row for row in all_certificates() if row.latent == self.options.get("latent", "categorical")]
        chosen = {}
        for pattern in self.content:
            found = {row.estimator: row for row in rows if fnmatchcase(row.estimator, pattern)}
            if not found:
                raise self.error(f"no certificate of this latent matches {pattern!r}")
            chosen |= found
        return self.parse_text_to_nodes(self.text(list(chosen.values())))

    def text(self, rows: list[Row]) -> str:
        """The table in Markdown."""
        if "show" not in self.options:
            head = [column.replace("-\n", "").replace("\n", " ") for column in certificates.COLUMNS]
            return table(head, [[linked(row), *row.cells()[1:]] for row in rows], len(head) - 2)
        reduce, value = SHOWN[self.options["show"]]
        part = ("loss", "shape").index(self.options["by"])
        groups = list(dict.fromkeys(one.problem.split("/")[part] for one in rows[0].certificates))
        body = []
        for row in rows:
            found = [[value(one) for one in row.certificates if one.problem.split("/")[part] == group] for group in groups]
            body.append([linked(row), *(number(reduce(values)) if values else "–" for values in found)])
        return table([f"{self.options['show']} by {self.options['by']}", *groups], body, len(groups))


# A page for each estimator, and their overview ----------------------------------------------------------------------------


def facts(name: str) -> list[str]:
    """What an estimator is for, how good its gradient is, and what it costs: by its certificates and by its docstring."""
    part, rows = ESTIMATORS[name], [row for row in all_certificates() if row.estimator.split()[0] == name]
    latents = ", ".join(dict.fromkeys(LATENTS[row.latent] for row in rows if row.latent != WIDE))
    biased = [" ".join(row.estimator.split()[1:]) for row in rows if not row.certificates[0].unbiased]
    exact = all(one.encoder.variance < 1e-18 for row in rows for one in row.certificates)
    gradient = "biased" if len(biased) == len(rows) else "exact" if exact else "unbiased"
    if gradient == "unbiased" and biased:
        gradient += f"; biased with `{biased[0]}`"
    first = certificates.build(name, next(entry.options for entry in catalogue() if entry.name == name))
    if first.objective is not expected_loss:
        gradient += ", for another objective"
    texts = " ".join(inspect.getdoc(one) or "" for one in (part, type(first)))
    calls = re.search(r"Decoder calls: (.+?)\.(\s|$)", texts, re.DOTALL)
    return [latents, gradient, " ".join(calls[1].replace("``", "`").split()) if calls else ""]


def estimator_page(name: str, described: set[Any]) -> list[str]:
    """Summary, facts, snippet, docstrings and certificates; ``described`` holds what other pages have entered in the index."""
    part, entries = ESTIMATORS[name], [entry for entry in catalogue() if entry.name == name]
    fields = options_model(part).model_fields
    needed = {option: value for option, value in entries[0].options.items() if fields[option].is_required()}
    snippet = yaml.safe_dump({"estimator": {"name": name, **needed}}, sort_keys=False)
    kinds = ("latent", "gradient", "decoder calls")
    line = " · ".join(f"**{kind}**: {fact}" for kind, fact in zip(kinds, facts(name), strict=True))
    page = [f"# {name}", "", describe(part), "", line, "", "```yaml", snippet.strip(), "```", "", "```{eval-rst}"]
    made = part if inspect.isclass(part) else typing.get_type_hints(part)["return"]
    for documented in dict.fromkeys((part, made)):
        kind = "class" if inspect.isclass(documented) else "function"
        page += [f".. auto{kind}:: estimators.{documented.__name__}", *["   :no-index:"] * (documented in described), ""]
        described.add(documented)
    command = f"The command `latent certify {name}` gives these rows; [Certificates](/certificates.md) explains their columns."
    page += ["```", "", "## Certificates", "", command]
    for latent in dict.fromkeys(entry.latent for entry in entries):
        rows = [entry.label for entry in entries if entry.latent == latent]
        page += ["", f"### {capital(LATENTS[latent])}", "", "```{certificates}", f":latent: {latent}", *rows, "```"]
    return page


def tidy_docstring(app: Any, what: str, name: str, documented: Any, settings: Any, lines: list[str]) -> None:
    """Leave the first sentence of an estimator out on its own page, which starts with it; and mend what Napoleon breaks."""
    if ESTIMATORS.get(app.env.docname.removeprefix("generated/estimators/")) is documented:
        del lines[: lines.index("") + 1 if "" in lines else None]
    kind = next((line for line in lines if line.startswith(":type: ")), None)
    if kind and what in ("attribute", "data", "property"):  # it takes "Shape: text" for "type: text"
        lines.remove(kind)
        lines[0] = f"{kind.removeprefix(':type: ')}: {lines[0]}"


def skip_field(app: Any, what: str, name: str, member: Any, skip: bool, settings: Any) -> bool | None:
    """Leave out a named tuple's fields, which their class describes."""
    return True if (getattr(member, "__doc__", None) or "").startswith("Alias for field number") else None


def tidy_signature(app: Any, what: str, name: str, obj: Any, settings: Any, text: str | None, returns: str | None) -> Any:
    """Write the default of a dataclass's field as Python, so that Sphinx can read it."""
    return (text or "").replace("<factory>", "{}") or None, returns


def generate(app: Any, config: Any) -> None:
    """Write the pages before the sources are read."""
    write("options.md", options_page())
    write("metrics.md", metrics_page())
    described: set[Any] = set()
    for name in ESTIMATORS:
        write(f"estimators/{name}.md", *estimator_page(name, described))
    for page in (GENERATED / "estimators").glob("*.md"):
        if page.stem not in ESTIMATORS:
            page.unlink()
    head = ["estimator", "what it does", "latent", "gradient", "decoder calls"]
    body = []
    for name, part in ESTIMATORS.items():
        latent, gradient, calls = facts(name)
        body.append([f"[{name}](generated/estimators/{name}.md)", describe(part), latent, gradient.partition(";")[0], calls])
    pages = [f"/generated/estimators/{name}" for name in ESTIMATORS]
    write("overview.md", table(head, body), "", "```{toctree}", ":hidden:", "", *pages, "```")


def setup(app: Any) -> None:
    """Register with Sphinx."""
    app.add_directive("certificates", CertificateTable)
    app.connect("config-inited", generate)
    app.connect("autodoc-process-docstring", tidy_docstring)
    app.connect("autodoc-process-signature", tidy_signature)
    app.connect("autodoc-skip-member", skip_field)
