"""Metrics as tasks declare them: that nothing else names them, and that those of another distribution are shown like ours."""

import ast
import inspect
import json
import re
import textwrap
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from estimators import build
from estimators.parts import Registry
from games import SignalGame
from games.datasets.synthetic import synthetic
from latent.commands.main import app
from latent.experiment import options, parts
from latent.experiment.vocabulary import RUNNER, declared_by, joined
from latent.models import VAE, BitVectorVAE, SemiSupervisedVAE
from latent.reports.page import charts, tables
from latent.reports.page.data import sections
from latent.reports.runs import ResultsError, read_runs
from latent.reports.selection import select
from latent.reports.tables.table import Request
from latent.reports.tables.table import tables as made_tables
from latent.words import PLACES, Metric
from tests.models.conftest import images
from tests.reports.made_runs import evaluations, write_run

ROOT = Path(__file__).parents[2]
DECLARING = ("games/signal_game.py", "latent/models/")


def command(*arguments):
    """Run the command line in this process; exceptions other than exits are failures."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# What this distribution declares.


def texts(path):
    """Every text in a source file: of Python its strings, docstrings among them; of others, all."""
    source = path.read_text()
    if path.suffix != ".py":
        return [source]
    return [
        node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def named(text, metric):
    """Whether a text names a metric, by its name or in words; of plain words, only where they stand alone or after a split."""
    short = metric.words.partition(",")[0]
    if re.search(rf"\b(train|val|test)/{metric.name}\b", text) or text == metric.name:
        return True
    if not metric.shown:
        return False
    plain = re.fullmatch("[a-z]+", metric.name) and metric.name == short
    return not plain and re.search(rf"\b({metric.name}|{short})\b", text, re.IGNORECASE) is not None


def test_a_metric_of_a_task_is_named_where_it_is_declared_and_nowhere_else():
    ours = {metric.name for metric in RUNNER}
    metrics = [metric for metric in joined([parts.vocabulary(task) for task in parts.tasks()]).own if metric.name not in ours]
    assert {"success_rate", "elbo", "accuracy", "messages_in_use", "bits_per_dim", "rate"} <= {each.name for each in metrics}
    files = [
        path for folder in ("latent", "games") for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".html", ".js")
    ]
    others = [path for path in files if not path.relative_to(ROOT).as_posix().startswith(DECLARING)]
    assert len(others) > 60
    found = [
        f"{path.relative_to(ROOT)}: {metric.name}: {text.strip()[:60]}"
        for path in others
        for text in texts(path)
        for metric in metrics
        if named(text, metric)
    ]
    assert found == []


@pytest.mark.parametrize("text", ["test/rate", "rate", "the success rate of a game", "by val/elbo", "success_rate"])
def test_the_search_finds_metrics(text):
    assert any(named(text, metric) for metric in joined([parts.vocabulary(task) for task in parts.tasks()]).own)


@pytest.mark.parametrize("task", sorted(parts.tasks()))
def test_declarations_are_complete(task):
    vocabulary = parts.vocabulary(task)
    assert vocabulary.headline.better in ("higher", "lower")
    for place in PLACES:
        assert len({metric.name for metric in vocabulary.shown(place)}) == len(vocabulary.shown(place))
    for metric in vocabulary.own:
        assert vocabulary[metric.key("test")].metric is metric


def evaluated():
    game = SignalGame(synthetic(concepts=8, images=8, size=4), vocabulary_size=5, candidates=3, test_games=9)
    yield game, build("sparsemax")
    yield VAE(images(), latent_size=4, hidden_size=5, importance_samples=2), build("dense")
    yield BitVectorVAE(images(), bits=4, hidden_size=5, importance_samples=2), build("score_function")
    yield SemiSupervisedVAE(images(), hidden_size=5, importance_samples=2), build("dense")


@pytest.mark.parametrize("number", range(4))
def test_whatever_a_task_measures_is_declared(number):
    task, estimator = list(evaluated())[number]
    vocabulary = declared_by(task)
    generator = torch.Generator().manual_seed(0)
    known = {metric.name for metric in (*vocabulary.own, *RUNNER)}
    found = {name.removesuffix("_standard_error") for name in task.evaluate("test", estimator.eval()).metrics}
    assert found <= known
    _, metrics = task(task.draw(4, generator), estimator.train(), generator)
    assert set(metrics) <= known
    assert all(metric.name.removesuffix("_standard_error") in {*found, *metrics} for metric in vocabulary.own)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shown": ("tabel",)}, "the metric 'a' cannot be shown in 'tabel'; there are: summary, table,"),
        ({"better": "larger"}, "of the metric 'a' better is higher or lower, not 'larger'"),
        ({"level": "b"}, "the metric 'a' has a level, but no metric that it is drawn against"),
    ],
)
def test_a_wrong_metric_is_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Metric("a", "a", **arguments)


class Declaring:
    """A task as far as its metrics go."""

    headline = "a"


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (None, "it has no tuple `metrics` of what it measures"),
        ((Metric("b", "b"),), "its headline 'a' is none of its metrics: b"),
        ((Metric("a", "a"),), "of its headline 'a' it does not say whether higher or lower is better"),
        ((Metric("a", "a", better="lower"), Metric("b", "b"), Metric("b", "b")), "the metric 'b' is declared twice"),
        ((Metric("a", "a", better="lower", against="b"),), "the metric 'a' names 'b', which is not declared"),
    ],
)
def test_a_task_that_declares_wrongly_is_left_out_with_a_warning(monkeypatch, caplog, metrics, message):
    part = type("Wrong", (Declaring,), {} if metrics is None else {"metrics": metrics})
    entry = type("Entry", (), {"name": "wrong", "value": "elsewhere:Wrong", "load": lambda self: part})()
    monkeypatch.setattr(options, "entry_points", lambda group: [entry])
    options._of_others.cache_clear()
    assert "wrong" not in options.available(Registry("task", {}, group="discrete_latent.of_this_test", check=declared_by))
    options._of_others.cache_clear()
    assert "the entry point 'elsewhere:Wrong' cannot be used: " in caplog.text
    assert message in caplog.text


# A task of another distribution, whose headline is the better, the lower it is.


PLUGIN = '''
"""A task of another distribution: which of K states costs the least."""

import torch
from torch import nn

from estimators import Categorical
from estimators.expectations import Evaluation
from latent.words import Metric


class Costs:
    fingerprint = "costs"


def costs(*, states: int = 4) -> Costs:
    """Costs of states."""
    made = Costs()
    made.values = torch.linspace(1.0, 2.0, states)
    return made


class Cheapest(nn.Module):
    """Find the cheapest of some states."""

    section = "cheapest"
    datasets = {"costs": costs}
    metrics = (
        Metric("regret", "regret, most likely state", "euros", "lower"),
        Metric("hits", "hits", "%", "higher", ("summary", "table", "page", "validation", "curve", "workspace", "bars")),
        Metric("spending", "spending", "euros", "lower", ("page", "ends"), decimals=1, against="hits", remark="As it went."),
        Metric("guilt", "guilt of q", "", "lower", ("training", "ends")),
    )
    headline = "regret"

    def __init__(self, data, *, start: float = 0.0) -> None:
        super().__init__()
        self.fingerprint = data.fingerprint
        self.register_buffer("costs", data.values, persistent=False)
        self.scores = nn.Parameter(torch.zeros(len(data.values)) + start)

    def latent(self):
        return Categorical(self.scores.detach().unsqueeze(0))

    def check_estimator(self, estimator):
        pass

    def pictures(self, estimator):
        return {}

    def draw(self, batch_size, generator):
        return torch.zeros(batch_size)

    def forward(self, batch, estimator, generator=None):
        scores = self.scores.expand(len(batch), -1)
        found = estimator(scores, lambda latents: self.costs[latents.index], generator=generator)
        metrics = {"decoder_calls": found.decoder_calls, "entropy": found.entropy.detach(), "regret": found.value - 1}
        return found.surrogate.mean(), metrics | {"guilt": found.value}

    def evaluate(self, split, estimator):
        best = float(self.costs[self.scores.argmax()])
        found = {"regret": best - 1 + 0.25, "hits": float(best == 1), "spending": best, "guilt": best, "decoder_calls": 4.0}
        return Evaluation(found, {})
'''
ENTRY = "[discrete_latent.tasks]\ncheapest = cheapest_plugin:Cheapest\n"
CONFIGURATION = """\
task: cheapest
experiment: bargains
estimator: {name: dense}
data: {name: costs}
train: {steps: 20, batch_size: 4, log_every: 5, evaluate_every: 10, learning_rate: 0.5}
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A distribution as pip installs it: a module and its entry points."""
    site = tmp_path / "site"
    folder = site / "cheapest-1.0.dist-info"
    folder.mkdir(parents=True)
    (site / "cheapest_plugin.py").write_text(textwrap.dedent(PLUGIN))
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: cheapest\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(ENTRY)
    monkeypatch.syspath_prepend(site)
    for cached in (options.available, options._of_others):
        cached.cache_clear()
    yield tmp_path
    for cached in (options.available, options._of_others):
        cached.cache_clear()


@pytest.fixture
def bargains(plugin):
    """Runs of two estimators of it."""
    (plugin / "cheapest.yaml").write_text(CONFIGURATION)
    for name in ("dense", "sparsemax"):
        for seed in range(2):
            arguments = (f"estimator.name={name}", f"seed={seed}", "--out", plugin / "results")
            result = command("run", plugin / "cheapest.yaml", *arguments)
            assert result.exit_code == 0, result.output
    return plugin / "results"


def test_a_run_of_a_plugin_is_shown_in_its_words(bargains):
    again = command("run", bargains.parent / "cheapest.yaml", "--out", bargains, "--force")
    lines = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in again.stdout.splitlines() if "│" in line]
    assert [line[0] for line in lines if line[0].startswith("Test")] == [
        "Test regret, most likely state (euros)",
        "Test hits (%)",
        "Test decoder calls per example",
    ]
    assert ["Test hits (%)", "100.00"] in lines
    assert "step 10: regret in training" in again.stderr


def test_the_table_of_a_plugin(bargains):
    result = command("table", bargains, "--format", "md", "--reach", "0.3")
    assert result.exit_code == 0, result.output
    head = next(line for line in result.stdout.splitlines() if line.startswith("| estimator"))
    headings = [cell.strip() for cell in head.split("|")[1:-1]]
    assert headings[2:6] == [
        "test regret, most likely state (euros)",
        "test hits (%)",
        "test decoder calls per example",
        "decoder calls in training",
    ]
    assert "decoder calls until validation regret ≤ 0.30" in headings
    assert "0.25 ± 0.00" in result.stdout
    curves = bargains.parent / "curves.csv"
    assert command("table", bargains, "--curves", curves).exit_code == 0
    columns = curves.read_text().splitlines()[0].split(",")
    assert columns[5:] == ["val/regret", "val/hits", "train/guilt", "train/decoder_calls", "train/entropy"]


def test_the_page_of_a_plugin(bargains, tmp_path):
    pytest.importorskip("altair")
    (section,) = sections(read_runs([bargains], unfinished=True))
    assert [column.heading for column in tables.metrics(section)] == [
        "test regret, most likely state (euros)",
        "test hits (%)",
        "test spending (euros)",
        "test decoder calls per example",
        "decoder calls in training",
    ]
    drawn = {chart.name: chart for chart in charts.charts(section)}
    assert list(drawn) == [
        *("headline_total_decoder_calls", "headline_steps", "headline_time", "test_decoder_calls"),
        *("hits_spending", "guilt", "train_guilt", "decoder_calls", "entropy", "hits"),
    ]
    assert drawn["hits_spending"].title == "Test spending against hits"
    assert drawn["hits_spending"].remark == "As it went."
    assert drawn["test_decoder_calls"].title == "Test regret against decoder calls per example"
    result = command("report", bargains, "--out", tmp_path / "report.html", "--figures", tmp_path / "figures")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "report.html").read_text()
    assert "Test regret, most likely state (euros)" in text
    assert "Validation measures the most likely latent." in text
    assert len(list((tmp_path / "figures").iterdir())) == 2 * len(drawn)


def test_the_figure_of_a_plugin(bargains, tmp_path, monkeypatch):
    pytest.importorskip("altair")
    monkeypatch.chdir(tmp_path)
    result = command("plot", bargains)
    assert result.exit_code == 0, result.output
    assert "4 runs: hits_spending.svg" in result.stderr
    words = Path("hits_spending.svg").read_text()
    assert "spending (euros)" in words
    assert ">100%<" in words.replace(".0", "")


def test_the_workspace_of_a_plugin(bargains, tmp_path):
    pytest.importorskip("wandb_workspaces.reports.v2")
    pytest.importorskip("wandb_workspaces.workspaces")
    result = command("wandb", "workspace", bargains, "--out", tmp_path / "w.json")
    assert result.exit_code == 0, result.output
    found = {
        section["name"]: [panel["config"] for panel in section["panels"]]
        for section in json.loads((tmp_path / "w.json").read_text())["spec"]["section"]["panelBankConfig"]["sections"]
    }
    assert [panel["metrics"] for panel in found["Validation, over steps"]] == [["val/regret"], ["val/hits"]]
    assert [panel["metrics"] for panel in found["Hits"]] == [["test/hits"]]


def test_the_board_of_a_sweep_shows_the_headline_of_a_plugin(plugin):
    (plugin / "cheapest.yaml").write_text(CONFIGURATION)
    result = command("sweep", plugin / "cheapest.yaml", "--launcher", "debug", "--out", plugin / "results")
    assert result.exit_code == 0, result.output
    assert re.search(r"finished +dense-s0-\w+  0\.2 on validation", result.stderr.replace("\n", " "))


# Which of two values is better.


def regrets(folder, **cells):
    for i, (name, (validation, test)) in enumerate(cells.items()):
        rows = evaluations("val/regret", (10, 2 * validation), (20, validation))
        summary = {"val__regret": validation, "test__regret": test, "total_decoder_calls": 20, "test__decoder_calls": 4.0}
        grid = {"train.learning_rate": 0.1 * (i + 1)} if name.startswith("cell") else None
        estimator = "dense" if grid else name
        settings = {"train.steps": 20}
        known = {"task": "cheapest", "data": "costs", "rows": rows, "grid": grid, "settings": settings}
        write_run(folder, estimator, 0, f"{i:08x}", **known, **summary)
    return read_runs([folder], unfinished=True)


def test_the_lowest_cell_is_chosen_where_lower_is_better(plugin):
    runs = regrets(plugin / "grid", cell_a=(0.5, 0.1), cell_b=(0.2, 0.9), cell_c=(0.4, 0.2))
    (entry,) = select(runs)
    assert [cell.validation for cell in (entry.chosen, *entry.rejected)] == [0.2, 0.4, 0.5]
    (found,) = made_tables(runs, Request(reach=0.3))
    assert "the one with the lowest mean of val/regret over them" in " ".join(found.notes)
    assert [column.texts for column in found.blocks[0].columns if "until" in column.heading] == [["20 (1/1)"]]
    (section,) = sections(runs)
    assert section.shown[0].validation == [0.2, 0.4, 0.5]


def test_results_on_the_page_are_sorted_upwards_where_lower_is_better(plugin):
    (section,) = sections(regrets(plugin / "results", dense=(0.5, 0.5), sparsemax=(0.2, 0.2), relax=(0.3, 0.3)))
    assert [line["label"] for line in tables.results(section)] == ["sparsemax", "relax", "dense"]
    result = command("report", plugin / "results", "--out", plugin / "report.html")
    assert result.exit_code == 0, result.output
    assert (plugin / "report.html").read_text().count('<th scope="col" aria-sort="ascending">') == 1


def test_a_run_without_an_evaluation_is_the_worst_where_lower_is_better(plugin):
    regrets(plugin / "results", dense=(0.5, 0.5))
    for digest, rows in (
        ("aaaaaaaa", evaluations("val/regret", (10, 3.0))),
        ("bbbbbbbb", evaluations("val/regret", (10, None))),
    ):
        settings = {"train.steps": 9, "train.learning_rate": 0.1}
        arguments = {"task": "cheapest", "data": "costs", "state": "stopped", "settings": settings}
        write_run(
            plugin / "results", "relax", 0, digest, rows=rows, grid={"train.batch_size": int(digest, 16) % 7}, **arguments
        )
    (section,) = sections(read_runs([plugin / "results"], unfinished=True))
    relax = next(shown for shown in section.shown if shown.label == "relax")
    assert [cell.runs[0]["name"][-8:] for cell in relax.cells] == ["aaaaaaaa", "bbbbbbbb"]


# A task that is not installed here.


def strange(folder, **cells):
    for i, (name, value) in enumerate(cells.items()):
        rows = evaluations("val/wonder", (10, value / 2), (20, value))
        summary = {"val__wonder": value, "test__wonder": value, "test__awe_of_it": 1.0, "test__decoder_calls": 4.0}
        grid = {"train.learning_rate": value} if name.startswith("cell") else None
        estimator, digest = ("dense" if grid else name), f"{i:08x}"
        settings = {"train.steps": 20}
        write_run(folder, estimator, 0, digest, task="strange", rows=rows, grid=grid, settings=settings, **summary)
    return folder


def test_a_table_of_a_task_that_is_not_here(tmp_path):
    result = command("table", strange(tmp_path / "results", dense=0.5, sparsemax=0.25), "--format", "md")
    assert result.exit_code == 0, result.output
    assert "| test wonder | test awe of it | test decoder calls per example |" in result.stdout
    assert "The task 'strange' is not installed here: its metrics go by their bare names, and wonder" in result.stdout
    refused = command("table", tmp_path / "results", "--reach", "0.3")
    assert refused.exit_code == 2
    assert "whether higher or lower values of val/wonder are better is not known" in " ".join(refused.stderr.split())


def test_a_page_and_a_figure_of_a_task_that_is_not_here(tmp_path):
    pytest.importorskip("altair")
    folder = strange(tmp_path / "results", dense=0.5, sparsemax=0.25)
    assert command("report", folder, "--out", tmp_path / "report.html").exit_code == 0
    text = (tmp_path / "report.html").read_text()
    assert "The task &#39;strange&#39; is not installed here" in text
    assert "Validation wonder against steps" in text
    result = command("plot", folder, "--out", tmp_path / "a.json")
    assert result.exit_code == 0
    assert "The task 'strange' is not installed here" in result.stderr
    assert "wonder" in (tmp_path / "a.json").read_text()


def test_between_cells_of_a_task_that_is_not_here_no_choice_is_made(tmp_path):
    folder = strange(tmp_path / "results", cell_a=0.5, cell_b=0.25)
    with pytest.raises(ResultsError, match=r"no choice can be made between .* and .*: which wonder is better is not known"):
        select(read_runs([folder]))


def test_places_are_documented():
    text = inspect.getdoc(Metric)
    assert "Raises:" in text
    assert set(PLACES) == {"summary", "table", "page", "validation", "curve", "training", "ends", "workspace", "bars"}
