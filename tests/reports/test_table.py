"""Tables of finished runs: what is selected, counted and computed, its formats, and the command line's words and exit codes."""

import csv
import io
import json
import re
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from latent.commands.main import app
from latent.experiment import parts
from latent.experiment.vocabulary import joined
from latent.reports.page.data import sections
from latent.reports.runs import RunError, read_rows, read_runs
from latent.reports.tables import markup
from latent.reports.tables.budget import Curve, at_budget, calls_to_reach
from latent.reports.tables.columns import Block, Column, Table
from latent.reports.tables.table import Request, cell_tables, tables
from latent.words import Metric
from tests.full_disk import full_disk
from tests.reports.made_runs import evaluations, made_run, write_run

stats = pytest.importorskip("scipy.stats")

VAL = "val/success_rate"
SUCCESS = parts.vocabulary("signal_game").headline
DENSE = (0.80, 0.82, 0.87)
SPARSE = (0.84, 0.85, 0.86)


@pytest.fixture
def results(tmp_path):
    """Three seeds of two estimators: dense decodes 100 rows for each of sparsemax, which is evaluated more finely."""
    folder = tmp_path / "results"
    for seed in range(3):
        common = {"val__expected_success_rate": 0.5, "test__expected_success_rate": 0.5}
        rows = evaluations(VAL, (1000, None), (10_000, 0.7), (20_000, 0.91 if seed else 0.89))
        calls = {"test__decoder_calls": 100, "total_decoder_calls": 20_000, "time__seconds": 30.0}
        write_run(
            folder,
            "dense",
            seed,
            "aaaaaaaa",
            rows=rows,
            val__success_rate=0.9,
            test__success_rate=DENSE[seed],
            **calls,
            **common,
        )
        rows = evaluations(VAL, (100, 0.6), (200 + seed, 0.8))
        calls = {"test__decoder_calls": 1.5 + seed, "total_decoder_calls": 200 + seed, "time__seconds": 10.0}
        write_run(
            folder,
            "sparsemax",
            seed,
            "bbbbbbbb",
            rows=rows,
            val__success_rate=0.8,
            test__success_rate=SPARSE[seed],
            **calls,
            **common,
        )
    return folder


@pytest.fixture
def grid(tmp_path):
    """A grid of three cells: the best on validation is not the best on test."""
    folder = tmp_path / "grid"
    for digest, rate, validation, test in (
        ("aaaaaaaa", 0.01, 0.8, 0.5),
        ("bbbbbbbb", 0.02, 0.7, 0.99),
        ("cccccccc", 0.03, 0.6, 0.77),
    ):
        for seed in range(2):
            write_run(
                folder,
                "dense",
                seed,
                digest,
                grid={"train.learning_rate": rate},
                rows=evaluations(VAL, (50, None), (100, validation)),
                val__success_rate=validation + 0.001 * seed,
                test__success_rate=test,
                test__expected_success_rate=test,
                total_decoder_calls=100,
            )
    return folder


def table(*arguments):
    """Run the command line in this process; exceptions other than exits are failures."""
    result = CliRunner().invoke(app, ["table", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def made(folder, **request):
    (found,) = tables(read_runs([folder], unfinished=True), Request(**request))
    return found


def texts(found, start):
    """The texts of the column whose heading is this, or else starts so."""
    columns = [*found.keys, *(column for block in found.blocks for column in block.columns)]
    exact = [column for column in columns if column.heading == start]
    (column,) = exact or [column for column in columns if column.heading.startswith(start)]
    return list(column.texts)


def notes(found):
    return " ".join(found.notes)


def numbers(text):
    """Every number in a text."""
    return set(map(float, re.findall(r"\d+\.?\d*", text)))


def csv_rows(text):
    return list(csv.DictReader(io.StringIO(text)))


# What is computed.


def test_means_and_sample_standard_deviations(results):
    found = made(results)
    assert found.title == "signal_game on emoji"
    assert texts(found, "estimator") == ["dense", "sparsemax"]
    assert texts(found, "n") == ["3", "3"]
    spreads = [100 * statistics.stdev(values) for values in (DENSE, SPARSE)]
    assert texts(found, "test success rate, most") == [f"83.00 ± {spreads[0]:.2f}", f"85.00 ± {spreads[1]:.2f}"]
    assert spreads[1] == pytest.approx(1.0)
    assert texts(found, "test success rate, exp") == ["50.00 ± 0.00"] * 2
    assert texts(found, "test decoder calls") == ["100.00 ± 0.00", "2.50 ± 1.00"]
    assert texts(found, "decoder calls in training") == ["20,000 ± 0", "201 ± 1"]


def test_a_single_seed_has_no_spread(tmp_path):
    write_run(tmp_path, "dense", test__success_rate=0.5, val__success_rate=0.5)
    found = made(tmp_path)
    assert texts(found, "test success rate") == ["50.00"]
    assert not any("±" in text for column in found.blocks[0].columns for text in column.texts)


def test_seeds_that_lack_a_metric_are_counted(tmp_path):
    for seed in range(3):
        write_run(
            tmp_path, "dense", seed, val__success_rate=0.5, test__success_rate=0.5, **{"test__loss": 1.25} if seed else {}
        )
    assert texts(made(tmp_path, metrics=["test/loss"]), "test loss") == ["1.250 ± 0.000 (2/3)"]


@pytest.mark.parametrize(
    ("task", "headline", "shown"),
    [
        ("signal_game", "success_rate", ["test/success_rate", "test/expected_success_rate"]),
        ("vae", "elbo", ["test/elbo"]),
        ("bit_vector_vae", "elbo", ["test/bits_per_dim", "test/elbo"]),
        ("ssvae", "accuracy", ["test/accuracy", "test/elbo"]),
        ("of_others", "score", ["test/score"]),
    ],
)
def test_each_task_has_its_metrics(tmp_path, monkeypatch, task, headline, shown):
    of_others = SimpleNamespace(headline="score", metrics=(Metric("score", "score", better="higher"),))
    known = parts.tasks() | {"of_others": of_others}
    monkeypatch.setattr(parts, "tasks", lambda: known)
    names = ("success_rate", "expected_success_rate", "elbo", "bits_per_dim", "accuracy", "score", "decoder_calls")
    summary = {f"test__{name}": 0.5 for name in names} | {"total_decoder_calls": 3, f"val__{headline}": 0.5}
    write_run(tmp_path, "dense", task=task, **summary)
    data = [name for column in made(tmp_path).blocks[0].columns for name in column.data if name.endswith("_mean")]
    assert data == [f"{metric}_mean" for metric in (*shown, "test/decoder_calls", "total_decoder_calls")]


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("test/success_rate", 0.12345, "12.35"),
        ("test/elbo", -2211.019, "−2,211.02"),
        ("test/bits_per_dim", 3.56789, "3.568"),
        ("test/decoder_calls", 256, "256.00"),
        ("total_decoder_calls", 98_304_000, "98,304,000"),
        ("test/elbo", -0.001, "0.00"),
        ("test/other", 0.0012345, "0.001234"),
        ("test/other", 172.3, "172.3"),
        ("test/other", 1234567.8, "1,234,568"),
        ("test/other", 0, "0.00"),
    ],
)
def test_numbers_as_they_are_read(metric, value, text):
    every = joined([parts.vocabulary(task) for task in parts.tasks()])
    assert every[metric].style([value]).write(value) == text


def test_training_time_is_a_ratio_to_the_fastest_or_to_the_reference(results):
    assert texts(made(results), "training time (that of sparsemax is 1)") == ["3.00", "1.00"]
    assert texts(made(results, reference="dense"), "training time (that of dense is 1)") == ["1.00", "0.33"]
    for form in ("rich", "md", "latex", "csv"):
        assert 3.0 in numbers(table(results, "--format", form).stdout)
        assert 30.0 not in numbers(table(results, "--format", form).stdout)


# Settings and labels.


def test_settings_have_short_names_where_they_are_clear(tmp_path):
    for i, (rate, coefficient, size) in enumerate([(0.1, 0.5, 4), (0.2, 0.5, 8)]):
        settings = {"train.learning_rate": rate, "game.rate": coefficient + i, "model.rate": 1 - i, "train.batch_size": size}
        write_run(tmp_path, "dense", 0, f"{i:08x}", settings=settings, test__success_rate=0.5, val__success_rate=0.5)
    found = made(tmp_path)
    assert [column.heading for column in found.keys] == ["estimator", "learning rate", "batch size", "game.rate", "model.rate"]
    assert texts(found, "estimator") == ["dense", "dense"]
    assert texts(found, "learning rate") == ["0.1", "0.2"]
    assert found.labels == [
        "dense learning_rate=0.1 batch_size=4 rate=0.5 rate=1",
        "dense learning_rate=0.2 batch_size=8 rate=1.5 rate=0",
    ]
    rows = csv_rows(table(tmp_path, "--format", "csv").stdout)
    assert [row["label"] for row in rows] == found.labels
    assert [row["model.rate"] for row in rows] == ["1", "0"]


def test_lines_with_one_label_are_all_shown(tmp_path):
    """Such as runs from before an option was there and runs with its default."""
    for i, estimator in enumerate(("dense", {"name": "dense", "option": None})):
        summary = {"test__success_rate": 0.5 + i / 4, "val__success_rate": 0.5, "time__seconds": 1.0}
        write_run(tmp_path, estimator, 0, f"{i:08x}", **summary)
    found = made(tmp_path, reference="dense")
    assert texts(found, "test success rate") == ["50.00", "75.00"]
    assert texts(found, "training time") == ["1.00", "1.00"]


# Selection.


def test_test_results_of_cells_that_validation_did_not_choose_are_nowhere(grid):
    found = made(grid)
    assert texts(found, "test success rate, most") == ["50.00 ± 0.00"]
    assert texts(found, "learning rate") == ["0.01"]
    assert "the highest mean of val/success_rate over them" in notes(found)
    assert "3 cells of train.learning_rate for dense" in notes(found)
    for form in ("md", "latex", "csv", "rich"):
        result = table(grid, "--format", form)
        assert 0.01 in numbers(result.stdout)
        assert not numbers(result.stdout + result.stderr) & {0.99, 99.0, 0.77, 77.0}
        cells = table(grid, "--cells", "--format", form)
        assert {0.01, 0.02, 0.03} <= numbers(cells.stdout)
        assert not numbers(cells.stdout + cells.stderr) & {0.99, 99.0, 0.77, 77.0, 0.5, 50.0}


def test_all_cells_with_validation_alone(grid):
    (found,) = cell_tables(read_runs([grid], unfinished=True), [])
    assert texts(found, "learning rate") == ["0.01", "0.02", "0.03"]
    assert texts(found, "chosen") == ["yes", "", ""]
    assert texts(found, "n") == ["2", "2", "2"]
    assert texts(found, "validation success rate") == ["80.05 ± 0.07", "70.05 ± 0.07", "60.05 ± 0.07"]
    assert [row["chosen"] for row in csv_rows(table(grid, "--cells", "--format", "csv").stdout)] == ["true", "false", "false"]


def test_an_option_of_the_estimator_that_the_grid_sets_is_a_column(tmp_path):
    for i, temperature in enumerate((0.5, 1.0)):
        cell = {"estimator.temperature": temperature}
        write_run(
            tmp_path, "gumbel_softmax", 0, f"{i:08x}", grid=cell, val__success_rate=i / 2, test__success_rate=0.25 + i / 2
        )
    found = made(tmp_path)
    assert (texts(found, "estimator"), texts(found, "temperature")) == (["gumbel_softmax"], ["1"])
    assert texts(found, "test success rate") == ["75.00"]


def test_cells_without_a_failed_seed_alone_compete_and_it_is_said(grid):
    failed = grid / "signal_game" / "runs" / "dense-s1-aaaaaaaa"
    (failed / "done.json").unlink()
    (failed / "error.txt").write_text("diverged\n")
    found = made(grid)
    assert texts(found, "test success rate, most") == ["99.00 ± 0.00"]
    assert "Cells with fewer finished seeds than the one chosen did not compete (dense: 1)" in notes(found)
    assert "dense, cells not chosen: 1 of 4 seeds failed." in notes(found)


def test_cells_that_no_grid_tells_apart_are_pointed_out(tmp_path):
    for i, name in enumerate(("one", "two")):
        write_run(tmp_path, "dense", experiment=name, val__success_rate=i / 2, test__success_rate=0.5)
    assert "Some cells of dense differ in nothing that a grid sets" in notes(made(tmp_path))


# Honest counts.


def test_the_number_of_a_device_makes_no_other_line(tmp_path):
    ends = {"val__success_rate": 0.5, "test__success_rate": 0.5}
    for seed in range(2):
        write_run(tmp_path, "dense", seed, "aaaaaaaa", settings={"device": f"cuda:{seed}"}, **ends)
        write_run(tmp_path, "sparsemax", seed, "bbbbbbbb", settings={"device": "cuda"}, **ends)
    found = made(tmp_path)
    assert texts(found, "n") == ["2", "2"]
    assert [column.heading for column in found.keys] == ["estimator"]


def test_labels_are_those_of_the_page_where_an_unfinished_run_differs(tmp_path):
    """It has no line here and one there; to be compared with, a line must have one name."""
    made_run(tmp_path, {"name": "gumbel_softmax", "temperature": 1.0})
    made_run(tmp_path, {"name": "gumbel_softmax", "temperature": 0.5}, state="stopped")
    found = made(tmp_path)
    (section,) = sections(read_runs([tmp_path], unfinished=True))
    assert found.labels == ["gumbel_softmax temperature=1.0"]
    assert {shown.label for shown in section.shown} == {"gumbel_softmax temperature=0.5", *found.labels}


def test_failed_and_unfinished_seeds_are_not_counted_but_said(results):
    write_run(results, "dense", 3, "aaaaaaaa", state="failed")
    write_run(results, "dense", 4, "aaaaaaaa", state="stopped")
    write_run(results, "sparsemax", 3, "bbbbbbbb", state="planned")
    write_run(results, "sparsemax", 4, "bbbbbbbb", state="planned")
    found = made(results)
    assert texts(found, "n") == ["3", "3"]
    assert texts(found, "test success rate, most")[0].startswith("83.00")
    assert "dense: 1 of 5 seeds failed, 1 is unfinished; n counts finished seeds." in found.notes
    assert "sparsemax: 2 of 5 seeds are unfinished; n counts finished seeds." in found.notes


def test_configurations_without_a_finished_seed_are_said(results):
    write_run(results, "relax", 0, "cccccccc", state="failed")
    found = made(results)
    assert "relax" not in texts(found, "estimator")
    assert "1 configuration has no finished seed (1 of 1 seed failed): signal_game/relax-cccccccc." in found.notes
    for i in range(8):
        write_run(results, "relax", i, f"dddddd{i:02d}", state="planned")
    expected = "9 configurations have no finished seed (1 of 9 seeds failed, 8 are unfinished): "
    (note,) = [note for note in made(results).notes if note.startswith(expected)]
    assert note.endswith("and 4 more.")


def test_a_problem_without_a_finished_run_is_said(results):
    write_run(results, "dense", task="vae", state="planned")
    result = table(results)
    assert result.exit_code == 0
    assert "no run is finished, and there is no table: vae on emoji" in result.stderr


# Budgets and values to reach.


def test_validation_at_a_budget_is_that_of_the_last_evaluation_by_then():
    curve = Curve([100, 200, 300], [0.1, 0.5, 0.3])
    assert [at_budget(curve, budget) for budget in (99, 100, 199, 200, 1000)] == [None, 0.1, 0.1, 0.5, 0.3]
    assert at_budget(Curve([], []), 5) is None


def test_calls_to_reach_a_value():
    curves = [Curve([100, 200, 300], [0.1, 0.9, 0.8]), Curve([110, 220, 330], [0.1, 0.2, 0.3]), Curve([50], [0.9])]
    found = calls_to_reach(curves, SUCCESS, 0.9)
    assert (found.value, found.known, found.reached, found.n) == (200, True, 2, 3)
    found = calls_to_reach(curves, SUCCESS, 0.95)
    assert (found.value, found.known, found.reached, found.n) == (300, False, 0, 3)
    assert calls_to_reach([Curve([], [])], SUCCESS, 0.5) is None


def test_the_budget_is_that_of_the_cheapest_entry_unless_given(results):
    assert texts(made(results), "validation success rate by 202 ") == ["–", "80.00 ± 0.00"]  # to the end of each of its seeds
    assert texts(made(results, budget=200), "validation success rate by 200 ") == ["–", "66.67 ± 11.55"]
    assert texts(made(results, budget=10_000), "validation success rate by 10,000 ") == ["70.00 ± 0.00", "80.00 ± 0.00"]
    assert texts(made(results, budget=99), "validation success rate by 99 ") == ["–", "–"]


def test_runs_without_an_evaluation_by_the_budget_are_counted(results):
    file = results / "signal_game" / "runs" / "sparsemax-s2-bbbbbbbb" / "metrics.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in evaluations(VAL, (300, 0.8))))
    assert texts(made(results, budget=200), "validation success rate by 200 ")[1] == "70.00 ± 14.14 (2/3)"


def test_calls_until_a_value_are_a_median_over_seeds(results):
    found = made(results)
    assert texts(found, "decoder calls until validation success rate ≥ 90%") == ["20,000 (2/3)", "> 201 (0/3)"]
    assert texts(made(results, reach=0.75), "decoder calls until") == ["20,000 (3/3)", "201 (3/3)"]
    assert texts(made(results, reach=0.95), "decoder calls until") == ["> 20,000 (0/3)", "> 201 (0/3)"]


def test_a_bound_has_no_value_to_reach_unless_given(tmp_path):
    rows = evaluations("val/elbo", (100, -90.0), (200, -80.0))
    write_run(tmp_path, "dense", task="vae", rows=rows, val__elbo=-80.0, test__elbo=-81.0, total_decoder_calls=200)
    headings = [column.heading for column in made(tmp_path).blocks[0].columns]
    assert not any(heading.startswith("decoder calls until") for heading in headings)
    assert texts(made(tmp_path, reach=-85), "decoder calls until validation ELBO ≥ −85.00") == ["200 (1/1)"]


def test_runs_without_rows_have_no_columns_of_them(tmp_path):
    write_run(tmp_path, "dense", val__success_rate=0.5, test__success_rate=0.5, total_decoder_calls=7)
    headings = [column.heading for column in made(tmp_path).blocks[0].columns]
    assert headings == ["n", "test success rate, most likely message (%)", "decoder calls in training"]


# Comparisons.


def test_differences_are_paired_by_seed(results):
    write_run(results, "dense", 7, "aaaaaaaa", test__success_rate=0.01, val__success_rate=0.9)
    found = made(results, reference="dense")
    differences = [ours - other for ours, other in zip(SPARSE, DENSE, strict=True)]
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert texts(found, "shared seeds") == ["–", "3"]
    assert texts(found, "mean difference (percentage points)") == ["–", f"+{100 * statistics.fmean(differences):.2f}"]
    low, high = (f"{100 * end:+.2f}".replace("-", "−") for end in interval)
    assert texts(found, "95 % confidence interval") == ["–", f"[{low}, {high}]"]
    assert texts(found, "p") == ["–", "0.5"]  # of 4, 3 and -1: in 4 of 8 patterns the sum is 6 or 8, with either sign
    assert found.blocks[1].heading == "Difference from dense in test success rate, most likely message"


def test_holm_counts_the_comparisons_of_the_table(results):
    for seed in range(3):
        write_run(results, "relax", seed, "cccccccc", val__success_rate=0.1, test__success_rate=DENSE[seed] - 0.1 - seed / 100)
    rows = {row["label"]: row for row in csv_rows(table(results, "--compare", "dense", "--format", "csv").stdout)}
    assert (float(rows["relax"]["p"]), float(rows["relax"]["p_holm"])) == (0.25, 0.5)
    assert float(rows["sparsemax"]["p"]) == float(rows["sparsemax"]["p_holm"]) == 0.5
    assert rows["dense"]["p"] == ""
    assert "Holm's correction for 2 comparisons" in notes(made(results, reference="dense"))


def test_few_shared_seeds_are_warned_of(results):
    write_run(results, "relax", 0, "cccccccc", val__success_rate=0.1, test__success_rate=0.2)
    write_run(results, "rebar", 9, "dddddddd", val__success_rate=0.1, test__success_rate=0.2)
    result = table(results, "--compare", "dense")
    warnings = [
        "dense shares 3 seeds with sparsemax: p cannot be below 0.25.",
        "dense shares 1 seed with relax: too few to compare.",
        "dense shares no seeds with rebar: too few to compare.",
    ]
    found = made(results, reference="dense")
    assert found.warnings == warnings
    for warning in warnings:
        assert warning in result.stderr
        assert warning in found.notes
    assert texts(found, "p, Holm") == ["–", "–", "–", "0.5"]


def test_five_shared_seeds_are_not_warned_of(tmp_path):
    for name, digest in (("dense", "aaaaaaaa"), ("relax", "bbbbbbbb")):
        for seed in range(5):
            write_run(tmp_path, name, seed, digest, val__success_rate=0.5, test__success_rate=0.5 + 0.1 * (name == "dense"))
    result = table(tmp_path, "--compare", "dense", "--format", "csv")
    assert "warning" not in result.stderr
    (row,) = [row for row in csv_rows(result.stdout) if row["label"] == "relax"]
    assert (float(row["p"]), float(row["difference_mean"])) == (2 / 32, pytest.approx(-0.1))
    assert "nan" not in result.stdout.lower()


def test_the_first_metric_named_is_compared(results):
    found = made(results, reference="dense", metrics=["test/decoder_calls", "test/success_rate"])
    assert found.blocks[1].heading.endswith("in test decoder calls per example")
    assert texts(found, "mean difference") == ["–", "−97.50"]


def test_a_reference_that_another_problem_has(results):
    write_run(results, "gaussian", task="vae", val__elbo=-1.0, test__elbo=-1.0)
    game, vae = tables(read_runs([results], unfinished=True), Request(reference="gaussian"))
    assert "There is no gaussian here to compare with." in game.notes
    assert [len(found.blocks) for found in (game, vae)] == [1, 2]


# Formats.


def markdown_cells(line):
    """The cells of a line, as GitHub splits and unescapes them."""
    return [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_parses_back(results):
    found = made(results, reference="dense")
    parts_of = table(results, "--compare", "dense", "--format", "md").stdout.split("\n\n")
    assert parts_of[0] == "### signal_game on emoji"
    read = [[markdown_cells(line) for line in part.splitlines()] for part in parts_of if part.startswith("|")]
    for block, (head, rule, *body) in zip(found.blocks, read, strict=True):
        columns = [*found.keys, *block.columns]
        assert head == [column.heading for column in columns]
        assert rule == ["---" if column.words else "---:" for column in columns]
        assert body == [list(line) for line in zip(*(column.texts for column in columns), strict=True)]
    bullets = [re.sub(r"\\(.)", r"\1", line.removeprefix("- ")) for line in parts_of[-1].splitlines()]
    assert bullets == found.notes


HOSTILE = r"a|b *c* <i> [x](y) `d` \e _f_ 50% $g$ #h {i} ~j ^k &l"


def hostile(tmp_path):
    for i, option in enumerate((HOSTILE, "[bold]plain[/]")):
        write_run(tmp_path, {"name": "dense", "x": option}, 0, f"{i:08x}", val__success_rate=0.5, test__success_rate=0.5)
    return [f"dense x={option}" for option in (HOSTILE, "[bold]plain[/]")]


def test_labels_cannot_break_a_format(tmp_path):
    labels = sorted(hostile(tmp_path))
    lines = [line for line in table(tmp_path, "--format", "md").stdout.splitlines() if line.startswith("|")]
    assert [markdown_cells(line)[0] for line in lines[2:]] == labels
    assert not any(re.search(r"(?<!\\)[*<`\[]", line) for line in lines[2:])
    assert [row["label"] for row in csv_rows(table(tmp_path, "--format", "csv").stdout)] == labels
    assert "[bold]plain[/]" in table(tmp_path).stdout
    (line,) = [
        line for line in table(tmp_path, "--format", "latex").stdout.splitlines() if line.startswith("dense") and r"\#" in line
    ]
    for written in (r"\_f\_", r"50\%", r"\$g\$", r"\#h", r"\{i\}", r"\textasciitilde{}j", r"\textasciicircum{}k", r"\&l"):
        assert written in line
    assert r"\textbackslash{}e" in line


def test_latex_is_a_booktabs_tabular(results):
    found = made(results, reference="dense")
    text = table(results, "--compare", "dense", "--format", "latex").stdout
    assert text.isascii() or re.findall(r"[^\x00-\x7f]", text) == []
    for part, block in zip(re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, re.S), found.blocks, strict=True):
        lines = part.splitlines()
        columns = [*found.keys, *block.columns]
        assert lines[0] == r"\begin{tabular}{" + "".join("l" if column.words else "r" for column in columns) + "}"
        assert [lines[1], lines[3], lines[-2]] == [r"\toprule", r"\midrule", r"\bottomrule"]
        rows = [lines[2], *lines[4:-2]]
        assert len(rows) == 1 + len(found.labels)
        for row in rows:
            assert row.endswith(r" \\")
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1
    assert re.search(r"dense & 3 & 83\.00 \$\\pm\$ 3\.61 & ", text)
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0


def test_csv_holds_numbers(results):
    rows = csv_rows(table(results, "--format", "csv").stdout)
    assert [row["label"] for row in rows] == ["dense", "sparsemax"]
    assert [int(row["n"]) for row in rows] == [3, 3]
    for row, values in zip(rows, (DENSE, SPARSE), strict=True):
        assert float(row["test/success_rate_mean"]) == pytest.approx(statistics.fmean(values), rel=1e-15)
        assert float(row["test/success_rate_std"]) == statistics.stdev(values)
    assert [row["val/success_rate_at_budget_n"] for row in rows] == ["0", "3"]
    assert [row["val/success_rate_at_budget_mean"] == "" for row in rows] == [True, False]
    assert [(row["reach_calls"], row["reach_known"], row["reach_n"]) for row in rows] == [
        ("20000", "true", "2"),
        ("201", "false", "0"),
    ]
    assert [float(row["time_ratio"]) for row in rows] == [3.0, 1.0]


def test_notes_that_csv_has_no_place_for_are_printed(results):
    write_run(results, "dense", 3, "aaaaaaaa", state="failed")
    assert "dense: 1 of 4 seeds failed" in table(results, "--format", "csv").stderr


def shown(found, width):
    stream = io.StringIO()
    markup.show([found], Console(file=stream, width=width, color_system=None, highlight=False, emoji=False))
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_terminal_shows_every_number_whole(results, width):
    for i in range(4):
        settings = {"train.learning_rate": 0.1 * i, "game.entropy_coefficient": 0.001 * i}
        estimator = {"name": "score_function", "baseline": "moving_average" if i else "none", "normalise_variance": i > 1}
        rows = evaluations(VAL, (98_304_000, 0.5))
        summary = {"test__success_rate": 0.1, "val__success_rate": 0.1, "total_decoder_calls": 98_304_000}
        write_run(results, estimator, i, f"eeeeeee{i}", settings=settings, rows=rows, **summary, time__seconds=10_000.0)
    found = made(results, reference="dense")
    text = shown(found, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for block in found.blocks:
        for column in block.columns:
            for cell in column.texts:
                assert " ".join(cell.split()) in " ".join(text.split())
    assert {"dense", "sparsemax", "score_function", "baseline=none", "normalise_variance=true"} <= set(text.split())


def test_settings_that_fill_the_width_are_shown_once(tmp_path):
    for i in range(2):
        settings = {f"game.long_option_number_{n}": 1.0 + i for n in range(6)}
        write_run(tmp_path, "dense", 0, f"{i:08x}", settings=settings, val__success_rate=0.5, test__success_rate=0.25)
    text = shown(made(tmp_path), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert " ".join(text.split()).count("25.00") == 2


def test_signs_of_spread_stand_below_each_other():
    column = Column("x", ["−1.00 ± 10.00", "200.00 ± 1.00", "–", "7.00"], {})
    text = shown(Table("t", list("abcd"), [Column("estimator", list("abcd"), {}, words=True)], [Block([column])], []), 80)
    assert {line.index("±") for line in text.splitlines() if "±" in line} == {text.splitlines()[-5].index("±")}
    assert any(line.rstrip().endswith("7.00") for line in text.splitlines())


# Files.


def test_out_is_written_as_its_suffix_says(results, tmp_path):
    for suffix, start in ((".md", "### signal"), (".tex", "% signal"), (".csv", "problem,label")):
        result = table(results, "--out", tmp_path / f"t{suffix}")
        assert result.exit_code == 0
        assert result.stdout == ""
        assert f"2 lines: {tmp_path / f't{suffix}'}" in result.stderr.replace("\n", "")
        assert (tmp_path / f"t{suffix}").read_text().startswith(start)
    assert table(results, "--out", tmp_path / "t.txt", "--format", "rich").exit_code == 0
    assert "83.00 ± 3.61" in (tmp_path / "t.txt").read_text()


def test_runs_as_csv(grid, tmp_path):
    assert table(grid, "--runs", tmp_path / "runs.csv").exit_code == 0
    rows = csv_rows((tmp_path / "runs.csv").read_text())
    assert len(rows) == 6
    assert {row["problem"] for row in rows} == {"signal_game on emoji"}
    assert {(row["label"], row["chosen"], row["train.learning_rate"]) for row in rows} == {
        ("dense", "true", "0.01"),
        ("dense", "false", "0.02"),
        ("dense", "false", "0.03"),
    }
    (row,) = [row for row in rows if row["run"] == "signal_game/dense-s1-bbbbbbbb"]
    assert json.loads(row["grid"]) == {"train.learning_rate": 0.02}
    assert (row["seed"], row["step"], float(row["test/success_rate"])) == ("1", "9", 0.99)
    assert "task" not in row


def test_curves_of_the_chosen_cells_as_csv(results, tmp_path):
    assert table(results, "--curves", tmp_path / "curves.csv").exit_code == 0
    rows = csv_rows((tmp_path / "curves.csv").read_text())
    assert list(rows[0]) == [
        *("problem", "label", "seed", "step", "total_decoder_calls"),
        *(VAL, "val/expected_success_rate"),
    ]
    assert len(rows) == 3 * 2 + 3 * 2
    assert [row[VAL] for row in rows if (row["label"], row["seed"]) == ("dense", "0")] == ["0.7", "0.89"]
    assert "time/seconds" not in rows[0]


def test_curves_are_of_the_cells_that_were_chosen(grid, tmp_path):
    assert table(grid, "--curves", tmp_path / "curves.csv").exit_code == 0
    rows = csv_rows((tmp_path / "curves.csv").read_text())
    assert [(row["label"], row["seed"], row["step"], row[VAL]) for row in rows] == [
        ("dense", seed, "2", "0.8") for seed in "01"
    ]


def test_a_failed_write_leaves_the_file_that_was_there(results, tmp_path):
    out = tmp_path / "out" / "a.md"
    out.parent.mkdir()
    out.write_text("before")

    with full_disk():
        for option in ("--out", "--runs", "--curves"):
            result = table(results, option, out)
            assert result.exit_code == 2
            assert "No space left on device" in result.stderr
            assert [file.name for file in out.parent.iterdir()] == ["a.md"]
            assert out.read_text() == "before"


# The command line's words.


WRONG = {
    "no such folder": (["nowhere"], "there is no folder nowhere"),
    "nothing there": (["empty"], "there is no run (runs/*/config.yaml) in empty"),
    "nothing finished": (["planned"], "no run is finished yet: 1 failed, 2 planned"),
    "misspelt metric": (["results", "--metric", "test/sucess_rate"], "did you mean 'test/success_rate'"),
    "metric without its split": (["results", "--metric", "success_rate"], "did you mean 'test/success_rate' or"),
    "unknown label": (
        ["results", "--compare", "sparse"],
        "no entry 'sparse'; did you mean 'sparsemax'?; there are: 'dense', 'spa",
    ),
    "per cent": (["results", "--reach", "90"], "--reach 90: val/success_rate is a fraction, above 0 and at most 1"),
    "nothing to reach": (["results", "--reach", "nan"], "--reach nan: val/success_rate is a fraction"),
    "no budget": (["results", "--budget", "0"], "Invalid value for '--budget'"),
    "unknown suffix": (["results", "--out", "a.txt"], "a.txt: the suffix must be one of .md, .tex, .csv, or --format"),
    "unknown format": (["results", "--format", "html"], "Invalid value for '--format'"),
    "no such output folder": (["results", "--out", "nowhere/a.md"], "cannot write to nowhere/a.md: No such file"),
    "a folder as output": (["results", "--runs", "folder.csv"], "cannot write to folder.csv: Is a directory"),
    "test results of cells": (["results", "--cells", "--metric", "test/success_rate"], "test/success_rate is no metric of it"),
    "cells at a budget": (["results", "--cells", "--budget", "5"], "--cells is of validation at the end of training"),
    "cells against one": (["results", "--cells", "--compare", "dense"], "--cells is of validation at the end of training"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_tabulated_is_said(results, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("folder.csv").mkdir()
    for seed, state in enumerate(("planned", "planned", "failed")):
        write_run(tmp_path / "planned", "dense", seed, state=state)
    arguments, message = WRONG[case]
    result = table(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.stderr).split())
    assert result.stdout == ""
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty", "folder.csv", "planned", "results"]


@pytest.mark.parametrize("content", ["{", "[1]\n", '{"step": 1}\n\n{"step": 2}\n', "nonsense\n"])
@pytest.mark.parametrize("file", ["metrics.jsonl", "done.json", "config.yaml", "plan.json"])
def test_a_damaged_file_is_a_failure(results, tmp_path, file, content):
    damaged = results / "signal_game" / "runs" / "dense-s1-aaaaaaaa" / file
    damaged.write_text(content)
    result = table(results, "--out", tmp_path / "a.md", "--runs", tmp_path / "r.csv", "--curves", tmp_path / "c.csv")
    if (file, content) == ("metrics.jsonl", "{"):  # a line that a kill has cut off
        assert result.exit_code == 0
        return
    assert result.exit_code == 1
    assert f"dense-s1-aaaaaaaa/{file} is damaged" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize("unfinished", [False, True])
def test_a_finished_run_without_its_configuration_is_not_passed_over(results, unfinished):
    (results / "signal_game" / "runs" / "dense-s1-aaaaaaaa" / "config.yaml").unlink()
    with pytest.raises(RunError, match=r"dense-s1-aaaaaaaa/config.yaml is damaged or missing"):
        read_runs([results], unfinished=unfinished)


@pytest.mark.parametrize(
    ("file", "old", "new"), [("config.yaml", "task: signal_game", "other: 1"), ("done.json", '"seed": 1', '"seed": "b"')]
)
def test_runs_that_lack_what_tells_them_apart_are_damaged(results, file, old, new):
    path = results / "signal_game" / "runs" / "dense-s1-aaaaaaaa" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(RunError, match=f"{file} is damaged"):
        read_runs([results])


def test_rows_of_a_run_that_was_killed_while_writing(results):
    (run,) = read_runs([results / "signal_game" / "runs" / "dense-s1-aaaaaaaa"])
    whole = read_rows(run)
    with (run["directory"] / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "total')
    assert read_rows(run) == whole


def test_many_runs_take_no_long_time(results, tmp_path):
    """A few times what it takes to parse their files: a thousand runs of a thousand rows each then take seconds, not hours."""
    for i in range(100):
        rows = evaluations(VAL, *((100 * step, step / 100) for step in range(1, 101)))
        summary = {"val__success_rate": 1.0, "test__success_rate": i / 100, "total_decoder_calls": 10_000}
        settings = {"train.learning_rate": i // 10}
        write_run(tmp_path / "many", "dense", i % 10, f"{i // 10:08x}", settings=settings, rows=rows, **summary)
    assert table(results).exit_code == 0  # which imports what is imported once
    files = [tmp_path / name for name in ("a.md", "r.csv", "c.csv")]
    begun = time.process_time()
    assert table(tmp_path / "many", "--out", files[0], "--runs", files[1], "--curves", files[2]).exit_code == 0
    taken, begun = time.process_time() - begun, time.process_time()
    for run in tmp_path.glob("many/*/runs/*"):
        yaml.safe_load((run / "config.yaml").read_text())
        for line in (run / "metrics.jsonl").read_text().splitlines():
            json.loads(line)
    assert taken < 10 * (time.process_time() - begun)  # about three times
    assert [len(file.read_text().splitlines()) for file in files[1:]] == [101, 10_001]


def test_help_teaches():
    text = " ".join(CliRunner().invoke(app, ["table", "--help"]).stdout.split())
    assert "latent table results/signal_game --compare dense --out table.md" in text
    assert "best mean of the headline metric on validation" in text
    assert "Exit codes: 0 written, 1 a run's file is damaged, 2" in text
