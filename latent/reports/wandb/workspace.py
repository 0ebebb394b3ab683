"""A W&B workspace that compares estimators: charts with the mean over seeds and a band of one standard deviation.

Lines are groups of runs. A group is a configuration, whose seeds ``WandbSink`` gives one group; or an estimator with its
options, as the key ``estimator_label`` of W&B's configuration has it, which suits runs that have one configuration of each.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from latent.experiment import parts
from latent.experiment.settings import Tracking
from latent.experiment.tracking import NO_KEY, X_AXIS, TrackingError, connect, has_key, short
from latent.experiment.vocabulary import DECODER_CALLS, PROBE, Vocabulary, joined
from latent.files import write_json
from latent.reports.runs import Run, grid_keys, without_seed
from latent.reports.selection import select
from latent.reports.wandb import notes
from latent.words import Metric, capital, listed

MOST_LINES = 100
"""Groups that a chart shows at most; W&B's own limit is 10."""
API_SECONDS = 10
"""For how long an answer of the server is waited for."""


class WorkspaceError(Exception):
    """A workspace cannot be made, read or saved; the message says why."""


def check_installed() -> None:
    """Raise WorkspaceError if wandb-workspaces is not installed."""
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise WorkspaceError("a workspace needs wandb-workspaces, which is not installed: pip install 'discrete-latent[wandb]'")


def place(runs: Sequence[Run], project: str | None, entity: str | None) -> tuple[str, str | None]:
    """Project and entity: as given, else those that the runs were exported to, else those of their configurations.

    Raises:
        WorkspaceError: if the runs are in several.
    """
    places: set[tuple[str, str | None]] = set()
    for run in runs:
        own = Tracking.model_validate(run["configuration"].get("tracking", {}))
        places |= {(note.project, note.entity) for note in notes.read(run["directory"])} or {(own.project, own.entity)}
    default = Tracking.model_validate({})
    found = {(project or one, entity or other) for one, other in places or {(default.project, default.entity)}}
    if len(found) > 1:
        names = ", ".join(sorted(f"{other}/{one}" if other else one for one, other in found))
        raise WorkspaceError(f"the runs are in several projects ({names}): choose one with --project and --entity")
    return found.pop()


def build(
    runs: Sequence[Run], project: str, entity: str | None, by_estimator: bool = False, among: Sequence[Run] | None = None
) -> Any:
    """The workspace, as wandb-workspaces has it.

    Args:
        runs: the runs that it is for: it has charts of what these measure, and of a sweep's grid only the cells that
            validation chose are shown. Without runs, charts for all tasks, and every run is shown.
        project: of W&B.
        entity: of W&B; None is to be filled in when the workspace is saved.
        by_estimator: group runs by estimator and options, not by configuration.
        among: all runs, finished or not, as in :func:`~latent.reports.selection.select`.

    Raises:
        WorkspaceError: if wandb-workspaces is not installed.
        ResultsError: if a run lacks the metric that a cell is chosen by.
    """
    check_installed()
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    names = sorted({run["configuration"]["task"] for run in runs} & set(parts.tasks())) or list(parts.tasks())
    vocabularies = [parts.vocabulary(name) for name in names]
    filters = expr.And(expr.Metric("Group").isin(_chosen_groups(runs, among))) if grid_keys(among or runs) else ""
    key = expr.Config("estimator_label") if by_estimator else expr.Metric("Group")
    judged = (vocabulary.judged("test").key for vocabulary in vocabularies)
    columns = [*dict.fromkeys(judged), DECODER_CALLS.key("test"), X_AXIS]
    return ws.Workspace(
        name=f"Estimators on {', '.join(names)}" if runs else "Estimators",
        entity=entity or "",
        project=project,
        sections=_Charts(vocabularies, _metrics(runs), by_estimator).sections(),
        settings=ws.WorkspaceSettings(x_axis=X_AXIS, max_runs=MOST_LINES),
        runset_settings=ws.RunsetSettings(
            groupby=[key], filters=filters, pinned_columns=[f"summary:{column}" for column in columns]
        ),
    )


def _chosen_groups(runs: Sequence[Run], among: Sequence[Run] | None) -> list[str]:
    """The W&B groups of the runs that a table would report."""
    return sorted({without_seed(run).partition("/")[2] for entry in select(runs, among) for run in entry.chosen.runs})


def _metrics(runs: Sequence[Run]) -> set[str] | None:
    """What any of the runs measures; None, for all there is, without runs."""
    if not runs:
        return None
    probed = any(run["configuration"].get("train", {}).get("probe_every") for run in runs)
    return {name for run in runs for name in run["summary"]} | {metric.name for metric in PROBE if probed}


class _Charts:
    """Charts of those metrics that there are, by section; a section without charts is left out."""

    def __init__(self, vocabularies: Sequence[Vocabulary], metrics: set[str] | None, by_estimator: bool) -> None:
        import wandb_workspaces.reports.v2 as wr

        self.wr: Any = wr
        self.vocabularies, self.words = vocabularies, joined(vocabularies)
        self.metrics = metrics
        self.grouping = {
            "groupby": self.wr.Config("estimator_label") if by_estimator else self.wr.Metric("Group"),
            "groupby_aggfunc": "mean",
            "groupby_rangefunc": "stddev",
            "max_runs_to_show": MOST_LINES,
        }

    def sections(self) -> list[Any]:
        import wandb_workspaces.workspaces as ws

        judged = self._of_all(lambda vocabulary: [vocabulary.headline])
        compared = self._of_all(lambda vocabulary: vocabulary.of_task("validation"))
        others = self._of_all(lambda vocabulary: vocabulary.of_task("workspace"))
        bars = [metric for metric in self._of_all(lambda vocabulary: vocabulary.of_task("bars")) if metric not in judged]
        calls = DECODER_CALLS.key("test")
        contents: dict[str, list[Any]] = {
            "Validation, over decoder calls in training": [self.line(metric.key("val"), X_AXIS) for metric in compared],
            "Validation, over steps": [self.line(metric.key("val"), "Step") for metric in compared],
            "Support size and entropy, over steps": [
                self.line(metric.key("train"), "Step") for metric in self.words.shown("training")
            ],
            "Test, against the decoder calls that it takes": [
                *(self.scatter(calls, metric.key("test")) for metric in judged),
                *(self.bar(metric.key("test")) for metric in (*judged, *self.words.of_runner("bars"))),
            ],
            capital(listed([metric.words for metric in others])): [
                *(self.line(metric.key("val"), X_AXIS) for metric in others if metric not in compared),
                *(self.scatter(f"test/{metric.against}", metric.key("test")) for metric in others if metric.against),
                *(self.bar(metric.key("test")) for metric in bars),
            ],
            "Quality of the gradient, over decoder calls in training": [self.line(metric.name, X_AXIS) for metric in PROBE],
        }
        layout = ws.SectionLayoutSettings(columns=2, rows=2)
        return [
            ws.Section(name=name, panels=charts, is_open=True, layout_settings=layout)
            for name, found in contents.items()
            if (charts := [chart for chart in found if chart is not None])
        ]

    def _of_all(self, choose: Callable[[Vocabulary], list[Metric]]) -> list[Metric]:
        """What each task has, those of one name once."""
        found: dict[str, Metric] = {}
        for vocabulary in self.vocabularies:
            for metric in choose(vocabulary):
                found.setdefault(metric.name, metric)
        return list(found.values())

    def line(self, key: str, x: str) -> Any:
        """Mean over seeds with a band, over ``x``; None without the metric."""
        if not self.has(key):
            return None
        metric = self.words[key]
        across = "steps" if x == "Step" else self.words[x].title
        titles = {"title": capital(metric.words), "title_x": across, "title_y": metric.title}
        return self.wr.LinePlot(**titles, x=x, y=[key], log_y=metric.metric.logarithmic or None, **self.grouping)

    def bar(self, key: str) -> Any:
        """Mean over seeds of the summary's metric; None without it."""
        if not self.has(key):
            return None
        metric = self.words[key]
        return self.wr.BarPlot(title=capital(metric.words), metrics=[key], title_x=metric.title, **self.grouping)

    def scatter(self, x: str, y: str) -> Any:
        """A mark for each run, or for each group where the table of runs is grouped; None without one of the metrics."""
        if not (self.has(x) and self.has(y)):
            return None
        across, up = self.words[x], self.words[y]
        words, logarithmic = f"{capital(up.words)}, against {across.words}", across.metric.logarithmic or None
        return self.wr.ScatterPlot(title=words, x=self.wr.SummaryMetric(x), y=self.wr.SummaryMetric(y), log_x=logarithmic)

    def has(self, key: str) -> bool:
        return self.metrics is None or key in self.metrics


def as_json(workspace: Any) -> dict[str, Any]:
    """A workspace as W&B's server takes it, with the names that it goes by."""
    dumped: dict[str, Any] = workspace._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def write(workspace: Any, path: Path) -> None:
    """Write a workspace to a JSON file that :func:`read` reads.

    Raises:
        WorkspaceError: if the file cannot be written.
    """
    try:
        write_json(path, as_json(workspace))
    except OSError as error:
        raise WorkspaceError(f"cannot write to {path}: {error.strerror or error}") from error


def read(path: Path, project: str | None = None, entity: str | None = None) -> Any:
    """The workspace in a file, for another project and entity where they are given.

    Raises:
        WorkspaceError: if wandb-workspaces is not installed, or the file is missing or no workspace.
    """
    check_installed()
    from wandb_workspaces.workspaces import Workspace
    from wandb_workspaces.workspaces.internal import View

    try:
        workspace = Workspace._from_model(View.model_validate(json.loads(path.read_text())))
    except OSError as error:
        raise WorkspaceError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise WorkspaceError(f"{path} is not a workspace: {short(error)}") from error
    workspace.project, workspace.entity = project or workspace.project, entity or workspace.entity
    return workspace


def why_not_to_save() -> str:
    """What keeps a workspace from being saved, before the server is asked: W&B is not to go online, or has no key."""
    mode = os.environ.get("WANDB_MODE")
    if mode in ("disabled", "offline", "dryrun"):
        return f"WANDB_MODE is {mode}"
    return "" if has_key(connect()[1]) else NO_KEY


def save(workspace: Any) -> str:
    """Save a workspace as a new view of its project, and return its address. Its entity is the account's where it has none.

    Raises:
        TrackingError: if the server does not answer, or refuses.
    """
    import wandb

    try:
        connect()
        workspace.entity = workspace.entity or wandb.Api(timeout=API_SECONDS).default_entity or ""
        workspace.save_as_new_view()
        return str(workspace.url)
    except Exception as error:
        raise TrackingError(f"Weights & Biases cannot save the workspace: {short(error)}") from error
