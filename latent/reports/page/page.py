"""The report page: one HTML file with its data, its script, its style and Vega in it, which asks no network for anything."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from latent.reports.figures.figures import COLOURS, SHAPES, FigureError, check_installed
from latent.reports.page import drawings, tables
from latent.reports.page.charts import charts
from latent.reports.page.curves import Curve
from latent.reports.page.data import Section
from latent.reports.page.tables import Link
from latent.reports.runs import Run
from latent.words import capital

FOLDER = Path(__file__).parent
DIGITS = 5
"""Significant digits of what charts show; steps and the table have all of theirs."""
MANY_SEEDS = 100
"""Runs on charts, above which a page opens without single seeds."""
PATHS = {
    "circle": "M-.95 0a.95.95 0 1 0 1.9 0a.95.95 0 1 0-1.9 0Z",
    "square": "M-.85-.85H.85V.85H-.85Z",
    "triangle-up": "M0-.95L1 .8H-1Z",
    "triangle-down": "M0 .95L1-.8H-1Z",
    "triangle-right": "M.95 0L-.8 1V-1Z",
    "triangle-left": "M-.95 0L.8 1V-1Z",
    "diamond": "M0-1.15L1.05 0 0 1.15-1.05 0Z",
    "cross": "M-.35-1H.35V-.35H1V.35H.35V1H-.35V.35H-1V-.35H-.35Z",
}
"""Vega's named shapes as SVG paths, for the legend."""


def check_libraries() -> None:
    """Raise FigureError if a library that the page is made with is missing."""
    for module, name in (("altair", "Altair"), ("vl_convert", "vl-convert"), ("jinja2", "Jinja")):
        check_installed(module, name)


def island(sections: Sequence[Section]) -> dict[str, Any]:
    """The data of a page, once, and the charts that are made of it."""
    drawn = [(number, section, chart) for number, section in enumerate(sections) for chart in charts(section)]
    return {
        "themes": {"light": drawings.theme(), "dark": drawings.theme(dark=True)},
        "sections": [_data(section) for section in sections],
        "charts": [
            {
                "section": number,
                "kind": chart.kind,
                "x": chart.x.key,
                "y": chart.y.key,
                "specification": drawings.for_page(section, chart),
            }
            for number, section, chart in drawn
        ],
    }


def _data(section: Section) -> dict[str, Any]:
    needed: dict[str, set[str]] = {}
    for chart in charts(section):
        needed.setdefault(chart.kind, {"step"}).update((chart.x.key, chart.y.key))

    def columns(curves: dict[str, Curve]) -> dict[str, Any]:
        return {
            kind: {name: [_number(value, name) for value in curves[kind][name]] for name in sorted(names)}
            for kind, names in needed.items()
            if kind in curves and len(curves[kind]["step"])
        }

    return {
        "problem": section.problem,
        "estimators": [shown.label for shown in section.shown],
        "seeds": [
            {"estimator": i, "run": run["name"], "seed": run["configuration"]["seed"], "curves": found}
            for i, shown in enumerate(section.shown)
            for run in shown.cells[0].runs
            if (found := columns(section.curves[run["name"]]))
        ],
        "means": [
            {"estimator": i, "seeds": len(shown.counted), "curves": columns(shown.means), "spreads": columns(shown.spreads)}
            for i, shown in enumerate(section.shown)
        ],
    }


def _number(value: float, name: str) -> float | int | None:
    """As few characters of JSON as there can be."""
    if not math.isfinite(value):
        return None
    rounded = float(value) if name == "step" else float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded


def as_json(data: Any) -> str:
    """JSON to stand in an HTML script, which no label can end."""
    return json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


@dataclass(frozen=True)
class Built:
    """What differs from page to page: its title, its header, sections and footer as HTML, and its data as JSON."""

    title: str
    html: str
    data: str

    def as_json(self) -> str:
        """For a live page to show in the place of what it shows."""
        return f'{{"title":{as_json(self.title)},"html":{as_json(self.html)},"data":{self.data}}}'


def build(sections: Sequence[Section], runs: Sequence[Run], link: Link, problem: str = "") -> Built:
    """Draw the charts and make the tables; ``problem`` says what is wrong, where something is.

    Raises:
        FigureError: if a library is missing.
    """
    check_libraries()
    html = _environment().get_template("content.html").render(_context(sections, runs, link) | {"problem": problem})
    return Built(_title(runs), html, as_json(island(sections)))


def page(built: Built, every: float | None = None, version: str = "") -> str:
    """The whole page; with ``every``, one that asks its server so often, in seconds, whether its ``version`` is another.

    Raises:
        FigureError: if vl-convert is too old for Altair.
    """
    context = {
        "built": built,
        "vega": _vega(),
        "style": _style(),
        "script": (FOLDER / "page.js").read_text(encoding="utf-8"),
        "every": every,
        "version": version,
    }
    html: str = _environment().get_template("template.html").render(context)
    return html


def _context(sections: Sequence[Section], runs: Sequence[Run], link: Link) -> dict[str, Any]:
    numbers = iter(range(10**9))
    return {
        "title": _title(runs),
        "idle": tables.IDLE,
        "made": datetime.now(timezone.utc),
        "counts": tables.counts(runs),
        "total": len(runs),
        "many": sum(len(shown.cells[0].runs) for section in sections for shown in section.shown) > MANY_SEEDS,
        "thinned": any(section.thinned for section in sections),
        "sections": [_section(section, link, numbers) for section in sections],
    }


def _section(section: Section, link: Link, numbers: Iterator[int]) -> dict[str, Any]:
    """What the template is to know of a section; its charts are numbered on."""
    judged, columns = section.judged, tables.metrics(section)
    return {
        "problem": section.problem,
        "remark": section.vocabulary.remark,
        "headline": judged.short,
        "superlative": judged.metric.superlative,
        "likely": judged.metric.words.partition(", ")[2].startswith("most likely"),
        "unit": judged.unit,
        "counts": tables.counts(section.runs),
        "total": len(section.runs),
        "has_grid": section.has_grid,
        "undecided": any(not shown.decided for shown in section.shown),
        "estimators": [{"label": shown.label, **mark(i)} for i, shown in enumerate(section.shown)],
        "columns": [capital(column.heading) for column in columns],
        "ascending": bool(columns) and columns[0].metric.better == "lower",
        "results": tables.results(section),
        "charts": [{"number": next(numbers), "title": each.title, "remark": each.remark} for each in charts(section)],
        "seeds": tables.seeds(section),
        "runs": tables.run_lines(section, link),
        "failures": tables.failures(section, link),
        "differences": tables.differences(section),
    }


def mark(index: int) -> dict[str, Any]:
    """How an estimator is told apart: the number of its colour, its dashes, and its shape as an SVG path."""
    shape = SHAPES[index % len(SHAPES)]
    dash = " ".join(map(str, drawings.DASHES[index % len(drawings.DASHES)]))
    return {"colour": index % len(COLOURS), "dash": dash, "shape": PATHS.get(shape, shape)}


def _title(runs: Iterable[Run]) -> str:
    names = sorted({str(run["configuration"]["experiment"]) for run in runs})
    return ", ".join(names) if len(names) < 5 else f"{len(names)} experiments"


@lru_cache(maxsize=1)
def _environment() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(FOLDER)
    return jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )


@lru_cache(maxsize=1)
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed, as Altair's own pages have them."""
    import altair as alt
    import vl_convert

    version = ".".join(alt.SCHEMA_VERSION.split(".")[:2])
    try:
        bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", version)
    except (ValueError, RuntimeError) as error:  # vl-convert is too old for this Altair
        raise FigureError(f"{error}: pip install --upgrade altair vl-convert-python") from error
    return bundle.replace("</script", "<\\/script")


def _style() -> str:
    """The style sheet, with the estimators' colours on light and on dark."""
    pairs = ((colour, drawings.ON_DARK.get(colour, colour)) for colour in COLOURS)
    colours = "".join(f"--c{i}:light-dark({light},{dark});" for i, (light, dark) in enumerate(pairs))
    return f":root{{{colours}}}\n{(FOLDER / 'page.css').read_text(encoding='utf-8')}"
