"""The report page: its means and its choices, its tables against the runs, its file, its figures, and the command line."""

import json
import re
import statistics
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from latent.commands.main import app
from latent.experiment import parts
from latent.experiment.run_directory import RunError
from latent.reports.page import curves, drawings, page, tables
from latent.reports.page.charts import charts, rows
from latent.reports.page.data import sections
from latent.reports.runs import read_runs
from tests.full_disk import full_disk
from tests.reports.made_runs import made_run

pytest.importorskip("altair")
pytest.importorskip("vl_convert")

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'"
RATE, COEFFICIENT = "train.learning_rate", "game.entropy_coefficient"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A signal game of three estimators with three seeds, one of them probed, and a VAE."""
    folder = tmp_path_factory.mktemp("results")
    for seed in range(3):
        made_run(folder, "dense", seed, level=0.9)
        made_run(folder, "sparsemax", seed, level=0.88, probes=True)
        made_run(folder, "score_function", seed, level=0.5)
        made_run(folder, "sparsemax", seed, task="vae", level=9)
    made_run(folder, "gumbel_softmax", task="vae", level=5)
    return folder


@pytest.fixture(scope="module")
def text(results, tmp_path_factory):
    """The page of those."""
    return written(results, tmp_path_factory.mktemp("page") / "report.html")


def shown(folder):
    return sections(read_runs([folder], unfinished=True))


def command(*arguments):
    """Run the command line in this process; exceptions other than exits are failures."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def written(folder, out):
    result = command("report", folder, "--out", out)
    assert result.exit_code == 0, result.stderr
    return out.read_text()


def island(text):
    return json.loads(re.search(r'<script type="application/json" id="island">(.*?)</script>', text, re.DOTALL)[1])


class Parsed(HTMLParser):
    """Start tags with their attributes, and the cells of the tables of results."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


# Curves.


def curve(**columns):
    return {name: np.array(values, dtype=float) for name, values in columns.items()}


def test_mean_and_sample_standard_deviation_at_the_steps_that_all_seeds_have():
    seeds = [curve(step=[1, 2, 4], y=[1, 2, 9]), curve(step=[1, 2, 3], y=[3, 6, 7]), curve(step=[1, 2], y=[5, 10])]
    mean, spread = curves.average(seeds)
    assert mean["step"].tolist() == [1, 2]
    assert mean["y"].tolist() == [3, 6]
    assert spread["y"] == pytest.approx([statistics.stdev([1, 3, 5]), statistics.stdev([2, 6, 10])])
    alone, none = curves.average(seeds[:1])
    assert alone["y"].tolist() == [1, 2, 9]
    assert none["y"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("count", [1, 2, 5, 6, 1000])
def test_thinned_curves_keep_the_first_and_the_last_point(count):
    whole = curve(step=range(count), y=range(0, 3 * count, 3))
    thin = curves.thinned(whole, 5)
    assert len(thin["step"]) == min(count, 5)
    assert thin["step"][0] == 0
    assert thin["step"][-1] == count - 1
    assert thin["y"].tolist() == (3 * thin["step"]).tolist()
    gaps = np.diff(thin["step"])
    assert all(gaps.max() <= 2 * gap for gap in gaps)


def test_rows_without_a_metric_and_values_that_are_not_finite_are_missing(tmp_path):
    run = made_run(tmp_path, "dense", every=50)
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    lines[0]["val/success_rate"] = float("nan")
    lines[1].pop("train/decoder_calls")
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (read,) = read_runs([tmp_path])
    found = curves.history(read, parts.vocabulary("signal_game")).curves
    assert np.isnan(found["val"]["val/success_rate"]).tolist() == [True, False]
    assert found["train"]["step"].tolist() == [50]
    assert found["probe"]["step"].tolist() == []


# What is shown.


def test_unfinished_runs_do_not_change_what_finished_ones_have_chosen(tmp_path):
    for seed in range(2):
        made_run(tmp_path, "dense", seed, grid={RATE: 0.1}, level=0.6)
        made_run(tmp_path, "dense", seed, grid={RATE: 0.2}, level=0.4)
    made_run(tmp_path, "dense", 2, grid={RATE: 0.1}, state="stopped", level=0.6)
    for seed in range(9):  # more seeds, and better so far
        made_run(tmp_path, "dense", seed, grid={RATE: 0.3}, state="stopped", level=0.9)
    (section,) = shown(tmp_path)
    (entry,) = section.shown
    assert [cell.grid[RATE] for cell in entry.cells] == [0.1, 0.2, 0.3]
    assert [len(cell.runs) for cell in entry.cells] == [3, 2, 9]
    assert entry.decided
    assert [run["configuration"]["seed"] for run in entry.counted] == [0, 1]
    assert entry.validation[2] is None
    assert entry.validation[0] == statistics.mean(run["summary"]["val/success_rate"] for run in entry.counted)
    assert len(section.curves) == 3  # of the chosen cell alone, with its unfinished run
    assert section.has_grid


def test_an_estimator_without_a_finished_run_is_drawn_and_not_in_the_results(tmp_path):
    made_run(tmp_path, "dense")
    for seed, state in enumerate(("stopped", "failed", "planned")):
        made_run(tmp_path, "sparsemax", seed, state=state)
    (section,) = shown(tmp_path)
    _, sparsemax = section.shown
    assert not sparsemax.decided
    assert [run["state"] for run in sparsemax.counted] == ["stopped", "failed"]
    assert sparsemax.means["val"]["step"].tolist() == [10, 20, 30, 40, 50]
    assert "ends" not in sparsemax.means
    assert [line["label"] for line in tables.results(section)] == ["dense"]
    _, means = rows(section, charts(section)[0])
    assert {row["estimator"] for row in means} == {"dense", "sparsemax"}


def test_the_choice_in_words_and_rejected_cells(tmp_path):
    for coefficient, level in ((0.01, 0.5), (0.1, 0.7)):
        for seed in range(2):
            made_run(tmp_path, "dense", seed, grid={COEFFICIENT: coefficient}, level=level)
    text = written(tmp_path, tmp_path / "report.html")
    assert "the one with the highest mean validation success rate over seeds" in text
    (section,) = shown(tmp_path)
    keys, lines = tables.differences(section)
    assert keys == [COEFFICIENT]
    assert [(line["values"], line["finished"], line["role"]) for line in lines] == [
        (["0.1"], 2, "chosen"),
        (["0.01"], 2, "rejected"),
    ]
    (result,) = tables.results(section)
    assert result["settings"] == [(COEFFICIENT, "entropy_coefficient", "0.1")]
    assert len(island(text)["sections"][0]["seeds"]) == 2  # no curve of a rejected cell


def test_without_a_grid_nothing_is_said_of_one(text):
    assert "Of each estimator’s grid" not in text


def test_charts_are_those_that_have_data(results):
    game, vae = shown(results)
    names = [chart.name for chart in charts(game)]
    assert names == [
        "headline_total_decoder_calls",
        "headline_steps",
        "headline_time",
        "test_decoder_calls",
        "decoder_calls",
        "entropy",
        "messages_in_use",
        "probe_variance",
        "probe_cosine",
        "probe_bias",
    ]
    names = {chart.name for chart in charts(vae)}
    assert {"rate_distortion", "bits_per_dim", "headline_steps"} <= names
    assert not {"messages_in_use", "probe_variance", "elbo"} & names  # the ELBO is the headline


def test_curves_against_decoder_calls_stand_at_the_mean_calls_of_each_evaluation(results):
    section, _ = shown(results)
    seeds, means = rows(section, charts(section)[0])
    for step in (10, 50, 100):
        (mean,) = (row for row in means if row["estimator"] == "sparsemax" and row["step"] == step)
        of_step = [row for row in seeds if row["estimator"] == "sparsemax" and row["step"] == step]
        assert len(of_step) == mean["seeds"] == 3
        assert mean["x"] == pytest.approx(statistics.mean(row["x"] for row in of_step))
        assert mean["y"] == pytest.approx(statistics.mean(row["y"] for row in of_step))
        assert mean["y_std"] == pytest.approx(statistics.stdev(row["y"] for row in of_step))
        assert mean["last"] == (step == 100)


# The tables.


def test_results_are_those_of_the_runs_summaries(results, text):
    tags = Parsed(text).tags
    found = {}
    for tag, attributes in tags:
        if tag == "tr" and "data-label" in attributes:
            found.setdefault(attributes["data-label"], []).append([])
            last = found[attributes["data-label"]][-1]
        elif tag == "td" and "data-std" in attributes:
            last.append((float(attributes["data-value"]), float(attributes["data-std"])))
    summaries = [run["summary"] for run in read_runs([results])]
    metrics = ("success_rate", "expected_success_rate", "decoder_calls")
    for estimator in ("dense", "sparsemax", "score_function"):
        own = [each for each in summaries if (each["task"], each["estimator"]) == ("signal_game", estimator)]
        columns = [[each[name] for each in own] for name in (*(f"test/{name}" for name in metrics), "total_decoder_calls")]
        assert found[estimator][0] == [(statistics.mean(values), statistics.stdev(values)) for values in columns]
    (rates,) = (values[2] for values in found["sparsemax"][1:])
    of_vae = [each for each in summaries if each["task"] == "vae" and each["estimator"] == "sparsemax"]
    assert rates[0] == statistics.mean(each["test/rate"] for each in of_vae)


def test_values_are_rounded_and_those_of_one_seed_have_no_spread(results):
    game, vae = shown(results)
    best = tables.results(game)[0]
    assert best["label"] == "dense"
    assert re.fullmatch(r"8\d\.\d\d ± \d\.\d\d", best["values"][0].text)
    assert best["values"][-1].text == "1,638,401 ± 1"
    (alone,) = (line for line in tables.results(vae) if line["label"] == "gumbel_softmax")
    assert alone["seeds"] == 1
    assert re.fullmatch(r"−9\d\.\d\d", alone["values"][0].text)
    assert "Test success rate, expected (%)" in page.page(page.build([game], game.runs, str))


def test_a_metric_that_one_seed_lacks_is_not_averaged_over_the_others(tmp_path):
    made_run(tmp_path, "dense", 0)
    run = made_run(tmp_path, "dense", 1)
    summary = json.loads(run.done.read_text())
    summary.pop("test/decoder_calls")
    run.done.write_text(json.dumps(summary))
    (section,) = shown(tmp_path)
    assert tables.value_of(section.shown[0], section.vocabulary["test/decoder_calls"]) is None
    assert tables.value_of(section.shown[0], section.vocabulary["test/success_rate"]) is not None


def test_every_run_is_listed_with_its_state_and_relative_links_to_its_files(tmp_path):
    states = ("finished", "failed", "stopped", "planned")
    runs = [made_run(tmp_path / "a b", "dense", seed, state=state) for seed, state in enumerate(states)]
    running = made_run(tmp_path / "a b", "dense", 4, state="stopped")
    out = tmp_path / "pages" / "report.html"
    out.parent.mkdir()
    with running.locked():
        text = written(tmp_path / "a b", out)
    tags = Parsed(text).tags
    links = [attributes["href"] for tag, attributes in tags if tag == "a" and "href" in attributes]
    links = [link for link in links if not link.startswith("#")]
    targets = {(out.parent / link.replace("%20", " ")).resolve() for link in links}
    assert all(link.startswith("../a%20b/signal_game/runs/") for link in links)
    expected = {each.configuration for each in (*runs, running)}
    expected |= {each.metrics for each in (*runs[:3], running)} | {runs[1].error}
    assert targets == expected
    states_of_cells = [a["class"] for tag, a in tags if tag == "a" and a.get("class", "").startswith("state")]
    assert states_of_cells == [f"state {state}" for state in (*states, "running")]
    assert "step 50 of 100; Diverged: the norm of the gradient is nan" in text
    for state in (*states, "running"):
        assert re.search(rf"1 {state}</span>", text)
    assert "5 runs" in text


# The file.


def test_the_page_needs_no_network(text):
    tags = Parsed(text).tags
    assert not [tag for tag, attributes in tags if "src" in attributes or tag in ("iframe", "object", "embed", "base")]
    assert [attributes["href"] for tag, attributes in tags if tag == "link"] == ["data:,"]
    (policy,) = (a["content"] for tag, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "@import" not in text
    assert "url(" not in re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')


def test_names_of_any_kind_are_text(tmp_path):
    made_run(tmp_path, {"name": "dense", "x": HOSTILE}, game__sender=HOSTILE)
    made_run(tmp_path, {"name": "dense", "x": "b"}, game__sender="mlp")
    failed = made_run(tmp_path, "sparsemax", state="failed", experiment="other")
    failed.error.write_text(HOSTILE)
    configuration = yaml.safe_load(failed.configuration.read_text())
    failed.configuration.write_text(yaml.safe_dump(configuration | {"experiment": HOSTILE}))
    text = written(tmp_path, tmp_path / "report.html")
    assert "<img src=x" not in text
    assert text.count("</script>") == 3
    assert f"dense x={HOSTILE}" in island(text)["sections"][0]["estimators"]
    assert f"dense x={HOSTILE}" in unescape(text)
    assert [tag for tag, attributes in Parsed(text).tags if "onerror" in attributes] == []


def test_forty_runs_with_a_hundred_rows_are_two_megabytes_at_most(tmp_path):
    for estimator in range(8):
        for seed in range(5):
            made_run(tmp_path, {"name": "dense", "x": estimator}, seed, steps=1000, level=0.1 * estimator, probes=True)
    text = written(tmp_path, tmp_path / "report.html")
    assert len(text.encode()) <= 2_000_000
    (section,) = island(text)["sections"]
    assert len(section["seeds"]) == 40
    assert all(len(seed["curves"]["val"]["step"]) == 100 for seed in section["seeds"])
    assert "Curves are thinned" not in text


def test_data_is_there_once(results, text):
    (run, *_) = read_runs([results])
    value = run["summary"]["val/success_rate"]
    numbers = re.findall(r"-?\d+\.\d+", text[text.index('id="island"') :])
    assert numbers.count(f"{value:.5g}") == 1
    for chart in island(text)["charts"]:
        names = {layer["data"]["name"] for layer in chart["specification"]["layer"] if "name" in layer["data"]}
        assert {"seeds", "means"} <= names
        assert "seeds" not in chart["specification"].get("datasets", {})


def test_specifications_are_valid(results):
    import altair

    game, vae = shown(results)
    for section, name in ((game, "headline_total_decoder_calls"), (game, "probe_variance"), (vae, "rate_distortion")):
        (chart,) = (each for each in charts(section) if each.name == name)
        specification = drawings.for_page(section, chart)
        assert altair.LayerChart.from_dict(specification).to_dict()["layer"]
        assert [each["name"] for each in specification["params"][-2:]] == ["hidden", "single"]
        assert specification["description"].startswith(chart.title)


def test_many_long_curves_are_thinned_after_their_means_and_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("latent.reports.page.data.PER_CURVE", 7)
    for seed in range(2):
        made_run(tmp_path, "dense", seed, steps=1000, level=0.9)
    text = written(tmp_path, tmp_path / "report.html")
    assert "Curves are thinned" in text
    (section,) = shown(tmp_path)
    mean = section.shown[0].means["val"]
    assert mean["step"].tolist() == [10, 170, 340, 510, 670, 830, 1000]
    full = [curves.history(run, section.vocabulary).curves["val"] for run in section.shown[0].counted]
    at = [list(full[0]["step"]).index(step) for step in mean["step"]]
    assert mean["val/success_rate"] == pytest.approx(np.mean([each["val/success_rate"][at] for each in full], axis=0))
    assert all(len(seed["curves"]["val"]["step"]) == 7 for seed in island(text)["sections"][0]["seeds"])


def test_all_curves_together_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("latent.reports.page.data.IN_ALL", 12)
    for seed in range(4):
        made_run(tmp_path, "dense", seed)
    (section,) = shown(tmp_path)
    assert [by_kind["val"]["step"].tolist() for by_kind in section.curves.values()] == [[10, 50, 100]] * 4
    assert section.thinned


def test_real_runs(tiny, tmp_path):
    out = tmp_path / "results"
    for estimator, seed in (("sparsemax", 0), ("sparsemax", 1), ("score_function", 0)):
        overrides = (f"estimator.name={estimator}", f"seed={seed}", "train.probe_every=20", "train.probe_draws=2")
        assert command("run", tiny, *overrides, "--out", out).exit_code == 0
    text = written(out, tmp_path / "report.html")
    (section,) = shown(out)
    assert section.problem == "signal_game on synthetic"
    names = {chart.name for chart in charts(section)}
    assert {"headline_steps", "decoder_calls", "probe_cosine"} <= names
    assert not section.thinned
    assert 'data-label="score_function"' in text
    assert len(island(text)["charts"]) == len(names)


# Figures.


def test_figures_for_papers(tmp_path):
    for seed in range(2):
        made_run(tmp_path / "results", "sparsemax", seed, task="vae", level=9)
    made_run(tmp_path / "results", "dense", task="vae")
    folder = tmp_path / "new" / "figures"
    result = command("report", tmp_path / "results", "--out", tmp_path / "report.html", "--figures", folder)
    assert result.exit_code == 0
    files = {file.name for file in folder.iterdir()}
    (section,) = shown(tmp_path / "results")
    assert files == {f"vae_digits_{chart.name}{suffix}" for chart in charts(section) for suffix in (".svg", ".pdf")}
    assert f"{len(files)} figures" in result.stderr
    for name, marks in (("headline_steps", {"area": 1, "line": 2, "point": 2}), ("rate_distortion", {"point": 4})):
        assert (folder / f"vae_digits_{name}.pdf").read_bytes().startswith(b"%PDF")
        elements = list(ElementTree.parse(folder / f"vae_digits_{name}.svg").iter())
        roles = [element.get("aria-roledescription") for element in elements]
        assert {mark: sum(role in (mark, f"{mark} mark") for role in roles) for mark in marks} == marks
        assert {"dense", "sparsemax"} <= {text for element in elements for text in element.itertext()}  # the legend


# The command line's words.


WRONG = {
    "no such folder": (["nowhere"], 2, "there is no folder nowhere"),
    "no run": (["empty"], 2, "there is no run (runs/*/config.yaml) in empty"),
    "no such output folder": (["results", "--out", "nowhere/a.html"], 2, "cannot write to nowhere/a.html: No such file"),
    "a folder as output": (["results", "--out", "empty"], 2, "cannot write to empty: Is a directory"),
    "figures in a file": (["results", "--figures", "file/a"], 2, "cannot write to file/a: Not a directory"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_done_is_said(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    made_run(tmp_path / "results", "dense")
    Path("empty").mkdir()
    Path("file").touch()
    arguments, code, message = WRONG[case]
    result = command("report", *arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty", "file", "results"]
    assert list(Path("empty").iterdir()) == []


DAMAGE = [
    ("done.json", "{"),
    ("config.yaml", "estimator: {name: dense}\n"),
    ("plan.json", "[]"),
    ("metrics.jsonl", "{\n"),
    ("metrics.jsonl", "3\n"),
    ("metrics.jsonl", '{"step": "a"}\n'),
    ("metrics.jsonl", '{"step": 1, "val/success_rate": "high"}\n'),
]


@pytest.mark.parametrize(("file", "content"), DAMAGE)
def test_a_damaged_run_is_a_failure_that_names_it(tmp_path, file, content):
    made_run(tmp_path / "results", "dense", 0)
    run = made_run(tmp_path / "results", "dense", 1, grid={} if file == "plan.json" else None)
    (run.path / file).write_text(content)
    result = command("report", tmp_path / "results", "--out", tmp_path / "report.html")
    assert result.exit_code == 1
    assert f"{run.path.name}/{file} is damaged" in result.stderr.replace("\n", "")
    assert not (tmp_path / "report.html").exists()


def test_a_line_that_a_kill_has_cut_off_is_left_out(tmp_path):
    run = made_run(tmp_path, "dense", state="stopped")
    run.metrics.write_text(run.metrics.read_text() + '{"step": 60, "val/succ')
    (section,) = shown(tmp_path)
    assert set(section.last_steps.values()) == {50}


def test_what_read_runs_refuses_is_refused(tmp_path):
    made_run(tmp_path, "dense", task="signal_game")
    (file,) = tmp_path.rglob("config.yaml")
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"task": "nothing"}))
    (section,) = shown(tmp_path)
    assert "The task 'nothing' is not installed here" in section.vocabulary.remark
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"seed": "one"}))
    with pytest.raises(RunError, match="it has no seed"):
        shown(tmp_path)


def test_a_failed_write_leaves_the_page_that_was_there(results, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("before")

    with full_disk():
        result = command("report", results, "--out", out)
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert out.read_text() == "before"


@pytest.mark.parametrize(("module", "name"), [("altair", "Altair"), ("vl_convert", "vl-convert"), ("jinja2", "Jinja")])
@pytest.mark.parametrize("words", [("report",), ("serve", "--port", "0")])
def test_a_library_that_is_not_installed(results, tmp_path, monkeypatch, module, name, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    result = command(*words, results)
    assert result.exit_code == 2
    assert f"needs {name}, which is not installed: pip install 'discrete-latent[report]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_teaches():
    for name, words in (("report", "latent report results"), ("serve", "latent serve results")):
        result = command(name, "--help")
        assert words in result.stdout
        assert "Exit codes" in result.stdout


def test_a_page_without_links_can_go_where_the_runs_are_not(results, tmp_path):
    out = tmp_path / "report.html"
    assert command("report", results, "--no-links", "--out", out).exit_code == 0
    assert not re.search(r'href="[^"]*(metrics\.jsonl|config\.yaml)', out.read_text())
    assert re.search(r'href="[^"]*metrics\.jsonl', written(results, out))
