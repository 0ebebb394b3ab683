"""Figures of finished runs: what is read and computed, what the files hold, and the command line's words and exit codes."""

import json
import re
import statistics
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from typer.testing import CliRunner

from latent.commands.main import app
from latent.experiment import parts
from latent.experiment.run_directory import RunError
from latent.reports.figures import figures
from latent.reports.figures.points import means, points
from latent.reports.runs import ResultsError, estimator_labels, read_runs
from tests.full_disk import full_disk
from tests.reports.made_runs import write_run

altair = pytest.importorskip("altair")
pytest.importorskip("vl_convert")

NIL = {"name": "sparse_map", "budget": None}
BUDGET = {"name": "sparse_map", "budget": 16}
SVG = "{http://www.w3.org/2000/svg}"


def finished(folder, estimator, seed=0, digest="0123abcd", task="vae", **summary):
    """A finished run of a model of images."""
    return write_run(folder, estimator, seed, digest, task=task, data="digits", **summary).path


@pytest.fixture
def results(tmp_path):
    """Three seeds of one configuration, and one of two others."""
    folder = tmp_path / "results"
    for seed, (rate, distortion) in enumerate([(4.0, 80.0), (5.0, 82.0), (9.0, 78.0)]):
        finished(folder, "dense", seed, "aaaaaaaa", test__rate=rate, test__distortion=distortion, val__rate=rate)
    finished(folder, NIL, 0, "bbbbbbbb", test__rate=6.5, test__distortion=75.0, test__accuracy=0.91)
    finished(folder, BUDGET, 0, "cccccccc", test__rate=7.5, test__distortion=76.0, test__accuracy=0.93)
    return folder


def plot(*arguments):
    """Run the command line in this process; exceptions other than exits are failures."""
    result = CliRunner().invoke(app, ["plot", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def words_of(svg):
    return [text for element in ElementTree.parse(svg).iter(f"{SVG}text") for text in element.itertext()]


def layers(specification):
    """The rows of each layer, with its mark's type."""
    found = []
    for layer in specification["layer"]:
        data = layer.get("data") or specification["data"]  # the latter where all layers have the same
        found.append((layer["mark"]["type"], specification["datasets"][data["name"]]))
    return found


# Reading.


def test_finished_runs_at_any_depth_and_no_others(results, tmp_path):
    unfinished = results / "vae" / "runs" / "dense-s3-aaaaaaaa"
    unfinished.mkdir()
    (unfinished / "metrics.jsonl").write_text("{}\n")
    stray = results / "elsewhere"
    stray.mkdir()
    (stray / "done.json").write_text("not a run")
    everywhere = read_runs([tmp_path])
    assert len(everywhere) == 5
    for folders in ([results], [results / "vae"], [results / "vae" / "runs"], [results, tmp_path]):
        assert read_runs(folders) == everywhere
    (one,) = read_runs([results / "vae" / "runs" / "dense-s2-aaaaaaaa"])
    assert one["summary"]["test/rate"] == 9.0
    assert one["configuration"]["estimator"] == {"name": "dense"}


@pytest.mark.parametrize(
    "content", ["", "[1]", "{}", '{"run": 1', '{"run": 3, "task": "", "estimator": "", "seed": 0, "step": 1}']
)
def test_a_damaged_summary_is_named(results, content):
    file = results / "vae" / "runs" / "dense-s1-aaaaaaaa" / "done.json"
    file.write_text(content)
    with pytest.raises(RunError, match=re.escape(f"{file} is damaged")):
        read_runs([results])


@pytest.mark.parametrize("content", [None, "", "{", "- a", "estimator: dense", "estimator: {budget: 3}", "\x00"])
def test_a_damaged_configuration_is_named(results, content):
    file = results / "vae" / "runs" / "dense-s1-aaaaaaaa" / "config.yaml"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(RunError, match=re.escape(f"{file} is damaged")):
        read_runs([results])


def test_a_run_that_is_there_twice_is_no_second_seed(results, tmp_path):
    finished(tmp_path / "copy", NIL, 0, "bbbbbbbb", test__rate=1.0)
    with pytest.raises(ResultsError, match="sparse_map-s0-bbbbbbbb is there twice"):
        read_runs([tmp_path])


def labels(tmp_path, *estimators):
    for i, estimator in enumerate(estimators):
        finished(tmp_path, estimator, i)
    runs = sorted(read_runs([tmp_path]), key=lambda run: run["summary"]["seed"])
    return estimator_labels(runs)


@pytest.mark.parametrize(
    ("estimators", "expected"),
    [
        ([NIL, BUDGET], ["sparse_map", "sparse_map budget=16"]),
        ([BUDGET, BUDGET], ["sparse_map", "sparse_map"]),
        ([NIL, "dense"], ["sparse_map", "dense"]),
        (
            [{"name": "a", "x": 1, "y": True, "z": 0.5}, {"name": "a", "x": 1, "y": False, "z": 0.25}],
            ["a y=true z=0.5", "a y=false z=0.25"],
        ),
        ([{"name": "a"}, {"name": "a", "new": 3}], ["a", "a new=3"]),
        ([{"name": "a", "x": 1}, {"name": "b", "x": 2}], ["a", "b"]),
        ([{"name": "a", "x": [1]}, {"name": "a", "x": [2]}], ["a x=[1]", "a x=[2]"]),
    ],
)
def test_labels_say_what_differs_between_runs_of_one_name(tmp_path, estimators, expected):
    assert labels(tmp_path, *estimators) == expected


@pytest.mark.parametrize(
    ("task", "metric", "words", "unit", "titled"),
    [
        ("vae", "test/rate", "rate", "nats", "rate (nats)"),
        ("vae", "val/elbo", "validation ELBO", "nats", "validation ELBO (nats)"),
        ("vae", "train/decoder_calls", "training decoder calls per example", "", "training decoder calls per example"),
        ("ssvae", "test/accuracy", "accuracy, most likely label", "%", "accuracy, most likely label"),
        ("ssvae", "time/seconds", "training time", "s", "training time (s)"),
        ("signal_game", "grad_norm/sender", "grad norm, sender", "", "grad norm, sender"),
    ],
)
def test_metrics_in_words(task, metric, words, unit, titled):
    found = parts.vocabulary(task)[metric]
    assert (found.words, found.unit, found.title) == (words, unit, titled)


# Computing.


def test_means_and_sample_standard_deviations(results):
    rows = points(read_runs([results]), "test/rate", "test/distortion")
    (mean,) = means(rows)
    assert mean["estimator"] == "dense"
    assert mean["seeds"] == 3
    assert mean["x"] == pytest.approx(6.0)
    assert mean["x_std"] == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    assert mean["y"] == pytest.approx(80.0)
    assert mean["y_std"] == pytest.approx(2.0)  # (0 + 4 + 4) / 2
    assert (mean["x_low"], mean["x_high"]) == pytest.approx((6 - 7**0.5, 6 + 7**0.5))
    assert (mean["y_low"], mean["y_high"]) == pytest.approx((78.0, 82.0))


def test_configurations_of_one_estimator_are_not_averaged_together(tmp_path):
    for seed in (0, 1):
        for digest, rate in (("aaaaaaaa", 1.0), ("bbbbbbbb", 3.0)):  # such as two learning rates
            finished(tmp_path, "dense", seed, digest, test__rate=rate + seed, test__distortion=1.0)
    rows = points(read_runs([tmp_path]), "test/rate", "test/distortion")
    assert sorted(mean["x"] for mean in means(rows)) == [1.5, 3.5]
    assert {mean["x_std"] for mean in means(rows)} == {statistics.stdev([0.0, 1.0])}


def test_runs_of_several_tasks_are_told_apart(tmp_path):
    for task in ("vae", "ssvae"):
        finished(tmp_path, "dense", task=task, test__rate=1.0, test__distortion=2.0)
    rows = points(read_runs([tmp_path]), "test/rate", "test/distortion")
    assert sorted(row["estimator"] for row in rows) == ["dense, ssvae on digits", "dense, vae on digits"]


@pytest.mark.parametrize("value", [None, "3", True, [1], float("nan"), float("inf")])
def test_only_finite_numbers_are_metrics(tmp_path, value):
    finished(tmp_path, "dense", 0, test__rate=1.0, test__distortion=value)
    with pytest.raises(ResultsError, match="no run has the metric 'test/distortion'"):
        points(read_runs([tmp_path]), "test/rate", "test/distortion")
    finished(tmp_path, "dense", 1, test__rate=1.0, test__distortion=2)
    (row,) = points(read_runs([tmp_path]), "test/rate", "test/distortion")
    assert row["seed"] == 1


@pytest.mark.parametrize("least", [1e-9, 0.03, 0.1, 0.2, 0.21, 1, 1.1, 3, 9, 1e5])
def test_steps_between_lines_are_round(least):
    step = figures._round_step(least)
    assert least <= step * (1 + 1e-12)
    assert step <= 2.5 * least * (1 + 1e-12)
    assert f"{step:.0e}"[0] in "125"


def test_lines_of_constant_elbo_stay_in_the_plot_and_say_their_elbo():
    across, up = (2.0, 9.0), (70.0, 85.0)
    (_, lines), (_, texts) = layers(altair.layer(*figures.lines_of_constant_sum(across, up, "ELBO")).to_dict())
    assert lines == texts
    assert 4 <= len(lines) <= 11
    for line in lines:
        elbo = float(line["text"].removeprefix("ELBO ").replace("−", "-"))
        assert line["left"] + line["top"] == pytest.approx(-elbo)
        assert line["right"] + line["bottom"] == pytest.approx(-elbo)
        assert across[0] <= line["left"] < line["right"] <= across[1]
        assert up[0] - 1e-9 <= line["bottom"] < line["top"] <= up[1] + 1e-9


def test_shapes_and_colours_are_distinct_and_pair_anew():
    assert len(set(figures.SHAPES)) == len(figures.SHAPES)
    many = len(figures.SHAPES) * len(figures.COLOURS)
    pairs = {(i % len(figures.SHAPES), i % len(figures.COLOURS)) for i in range(many)}
    assert len(pairs) == many


# Files.


def test_svg(results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = plot("results")
    assert result.exit_code == 0
    assert "5 runs: rate_distortion.svg" in result.stderr
    words = words_of("rate_distortion.svg")
    for expected in (
        "rate (nats)",
        "distortion (nats)",
        "dense",
        "sparse_map",
        "sparse_map budget=16",
        "Distortion against rate",
    ):
        assert expected in words
    assert "vae on digits: 5 runs" in words
    assert "large open marks: mean over seeds ± one standard deviation" in words
    assert any(word.startswith("ELBO −") for word in words)
    roles = [element.get("aria-roledescription") for element in ElementTree.parse("rate_distortion.svg").iter()]
    assert roles.count("point") == 6
    assert ElementTree.parse("rate_distortion.svg").getroot().get("width") == "700"


def test_vega_lite_specification(results, tmp_path):
    assert plot(results, "--out", tmp_path / "a.json").exit_code == 0
    specification = json.loads((tmp_path / "a.json").read_text())
    assert "vega-lite" in specification["$schema"]
    found = layers(specification)
    assert [mark for mark, _ in found] == ["rule", "text", "point", "rule", "rule", "point"]
    assert len(found[2][1]) == 5
    assert len(found[-1][1]) == 1
    for channel in ("color", "shape"):
        scales = [layer["encoding"][channel]["scale"] for layer in specification["layer"] if channel in layer["encoding"]]
        assert all(scale == scales[0] for scale in scales)
        assert scales[0]["domain"] == ["dense", "sparse_map", "sparse_map budget=16"]
        assert len(set(scales[0]["range"])) == 3


def test_other_metrics_have_no_lines_of_constant_elbo(results, tmp_path):
    finished(tmp_path / "other", "dense", task="ssvae", test__rate=4.0, test__accuracy=0.91)
    finished(tmp_path / "other", "sparsemax", task="ssvae", test__rate=5.0, test__accuracy=0.93)
    arguments = ("--x", "test/rate", "--y", "test/accuracy", "--out", tmp_path / "a.json")
    assert plot(tmp_path / "other", *arguments).exit_code == 0
    specification = json.loads((tmp_path / "a.json").read_text())
    assert [mark for mark, _ in layers(specification)] == ["point"]
    assert specification["layer"][0]["encoding"]["y"]["axis"]["format"] == ".1%"
    assert plot(results, "--x", "val/rate", "--y", "test/distortion", "--out", tmp_path / "b.json").exit_code == 0
    assert layers(json.loads((tmp_path / "b.json").read_text()))[0][0] == "point"
    assert plot(results, "--x", "test/distortion", "--y", "test/rate", "--out", tmp_path / "c.json").exit_code == 0
    assert layers(json.loads((tmp_path / "c.json").read_text()))[0][0] == "rule"


def test_png_and_pdf(results, tmp_path):
    assert plot(results, "--out", tmp_path / "a.PNG").exit_code == 0
    with Image.open(tmp_path / "a.PNG") as image:
        image.load()
        assert image.format == "PNG"
        assert image.width == 1400
    assert plot(results, "--out", tmp_path / "a.pdf").exit_code == 0
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_html_needs_no_network_and_labels_cannot_end_its_script(tmp_path):
    hostile = "</script><img src=x>"
    for i, option in enumerate((hostile, "b")):
        finished(tmp_path, {"name": "dense", "x": option}, i, test__rate=1.0 + i, test__distortion=2.0)
    assert plot(tmp_path, "--out", tmp_path / "a.html").exit_code == 0
    text = (tmp_path / "a.html").read_text()
    assert hostile not in text
    assert "dense x=\\u003c/script>" in text
    assert not re.search(r"<script[^>]*\ssrc=|<link\s|@import|<iframe", text)
    assert '"editor": false' in text
    assert len(text) > 500_000  # the libraries are in it
    assert plot(tmp_path, "--out", tmp_path / "a.svg").exit_code == 0
    assert f"dense x={hostile}" in words_of(tmp_path / "a.svg")


@pytest.mark.parametrize("count", [1, 30])
def test_one_run_and_more_estimators_than_shapes(tmp_path, count):
    for i in range(count):
        finished(tmp_path, f"estimator_{i:02d}", test__rate=0.0, test__distortion=0.0)
    result = plot(tmp_path, "--out", tmp_path / "a.svg")
    assert result.exit_code == 0
    assert f"{count} run{'s' * (count > 1)}:" in result.stderr
    assert f"estimator_{count - 1:02d}" in words_of(tmp_path / "a.svg")


def test_a_failed_write_leaves_the_file_that_was_there(results, tmp_path):
    out = tmp_path / "out" / "a.svg"
    out.parent.mkdir()
    out.write_text("before")

    with full_disk():
        result = plot(results, "--out", out)
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert [file.name for file in out.parent.iterdir()] == ["a.svg"]
    assert out.read_text() == "before"
    assert plot(results, "--out", out).exit_code == 0
    assert out.read_text().startswith("<svg")


# The command line's words.


def test_runs_without_the_metric_are_left_out_and_counted(results, tmp_path):
    result = plot(results, "--y", "test/accuracy", "--out", tmp_path / "a.svg")
    assert result.exit_code == 0
    assert "left out: 3 of 5 runs, which lack test/rate or test/accuracy" in result.stderr
    assert "2 runs: " in result.stderr
    assert "left out" not in plot(results, "--out", tmp_path / "a.svg").stderr


WRONG = {
    "no such folder": (["nowhere"], "there is no folder nowhere"),
    "a file": (["results/vae/runs/dense-s0-aaaaaaaa/done.json"], "done.json is no folder"),
    "no run": (["empty"], "there is no run (runs/*/config.yaml) in empty"),
    "nothing finished": (["planned"], "no run is finished yet: 1 planned"),
    "metric without its split": (
        ["results", "--x", "rate"],
        "no run has the metric 'rate'; did you mean 'test/rate' or 'val/rate'?",
    ),
    "misspelt metric": (["results", "--y", "test/distorsion"], "did you mean 'test/distortion'?"),
    "a metric like none": (["results", "--y", "zzz"], "there are: test/accuracy, test/distortion, test/rate"),
    "text is no metric": (["results", "--y", "task"], "no run has the metric 'task'"),
    "metrics of different runs": (["results", "--x", "val/rate", "--y", "test/accuracy"], "no run has both"),
    "unknown suffix": (["results", "--out", "a.gif"], "must be one of .svg, .png, .pdf, .html, .json; not .gif"),
    "no suffix": (["results", "--out", "a"], "must be one of .svg, .png, .pdf, .html, .json; it has none"),
    "no such output folder": (["results", "--out", "nowhere/a.svg"], "cannot write to nowhere/a.svg: No such file"),
    "a folder as output": (["results", "--out", "folder.svg"], "cannot write to folder.svg: Is a directory"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_drawn_is_said(results, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    finished(Path("planned"), "dense", 0, "aaaaaaaa")
    next(Path("planned").rglob("done.json")).unlink()
    Path("folder.svg").mkdir()
    arguments, message = WRONG[case]
    result = plot(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty", "folder.svg", "planned", "results"]


def test_a_damaged_run_is_a_failure(results, tmp_path):
    (results / "vae" / "runs" / "dense-s1-aaaaaaaa" / "done.json").write_text("{")
    result = plot(results, "--out", tmp_path / "a.svg")
    assert result.exit_code == 1
    assert "dense-s1-aaaaaaaa/done.json is damaged" in result.stderr
    assert not (tmp_path / "a.svg").exists()


@pytest.mark.parametrize(("module", "name"), [("altair", "Altair"), ("vl_convert", "vl-convert")])
def test_a_library_that_is_not_installed(results, tmp_path, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    result = plot(results, "--out", tmp_path / "a.svg")
    assert result.exit_code == 2
    assert f"needs {name}, which is not installed: pip install 'discrete-latent[report]'" in result.stderr


def test_help_teaches():
    result = CliRunner().invoke(app, ["plot", "--help"])
    assert "latent plot results/vae" in result.stdout
    assert "latent plot results/signal_game --x total_decoder_calls" in result.stdout


def test_of_a_grid_only_the_cell_that_validation_chose_is_drawn(tmp_path):
    """The other cell is better on test, which must not matter."""
    folder = tmp_path / "results"
    for digest, validation, test in (("aaaaaaaa", -80.0, 9.0), ("bbbbbbbb", -90.0, 1.0)):
        directory = finished(folder, "dense", 0, digest, val__elbo=validation, test__rate=test, test__distortion=test)
        (directory / "plan.json").write_text(json.dumps({"configuration": "dense", "grid": {"train.learning_rate": test}}))
    result = plot(folder, "--out", tmp_path / "plot.json")
    assert result.exit_code == 0, result.stderr
    assert "left out: 1 run of cells" in result.stderr
    drawn = [row for _, rows in layers(json.loads((tmp_path / "plot.json").read_text())) for row in rows if "run" in row]
    assert [row["x"] for row in drawn] == [9.0]
