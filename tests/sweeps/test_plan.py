"""What a sweep consists of, and what is said of files and options that are wrong."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from latent.experiment.configuration import load
from latent.experiment.experiment import prepare
from latent.experiment.overrides import parse_override
from latent.experiment.yaml_source import ConfigurationError
from latent.sweeps.plan import parse_grid, parse_seeds, plan, resources
from tests.conftest import ROOT


def settings(runs, *keys):
    """Of each run, some keys of its configuration."""
    found = []
    for run in runs:
        values = []
        for key in keys:
            value = run.configuration
            for part in key.split("."):
                value = value[part]
            values.append(value)
        found.append(tuple(values))
    return found


def sweep_file(folder, **block):
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"sweep": block}))
    return path


def refusal(function, *arguments, **options):
    with pytest.raises(ConfigurationError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def test_every_combination_of_file_cell_and_seed(configurations, tmp_path):
    grid = {"train.learning_rate": [0.1, 0.2], "game.receiver.hidden_size": [4, 8, 16]}
    runs = plan(configurations, [], tmp_path, [3, 5], grid)
    keys = ("estimator.name", "train.learning_rate", "game.receiver.hidden_size", "seed")
    expected = {
        (name, rate, size, seed)
        for name in ("sparsemax", "dense")
        for rate in (0.1, 0.2)
        for size in (4, 8, 16)
        for seed in (3, 5)
    }
    assert len(runs) == len(expected) == 24
    assert set(settings(runs, *keys)) == expected
    assert [run.configuration["seed"] for run in runs] == [3] * 12 + [5] * 12  # each seed for all before the next
    assert len({run.directory.path for run in runs}) == 24
    assert len({run.cell for run in runs}) == 12
    for run in runs:
        assert run.grid == {key: settings([run], key)[0][0] for key in grid}


@pytest.mark.parametrize(("name", "number"), [("emoji", 20), ("tiny_imagenet", 50), ("tiny_imagenet_rates", 8)])
def test_the_sweeps_of_the_repository(name, number, tmp_path):
    features = [parse_override(f"data.path={ROOT}/games/datasets/emoji.npz")] if name != "emoji" else []
    runs = plan([ROOT / "configs" / "sweeps" / f"{name}.yaml"], features, tmp_path)
    assert len(runs) == number
    assert set(settings(runs, "experiment")) == {("emoji",) if name == "emoji" else ("tiny_imagenet",)}


def test_blocks_in_a_grid_are_taken_apart(configurations, tmp_path):
    blocks = [{"name": "gumbel_softmax", "temperature": value} for value in (0.5, 1.0)]
    runs = plan(configurations[:1], [], tmp_path, 1, {"estimator": blocks})
    expected = [{"estimator.name": "gumbel_softmax", "estimator.temperature": value} for value in (0.5, 1.0)]
    assert [run.grid for run in runs] == expected


def test_names_alone_in_a_grid_are_written_in_full(configurations, tmp_path):
    runs = plan(configurations[:1], [], tmp_path, 1, {"game.sender": ["mlp", "published"], "estimator": ["dense"]})
    expected = [{"game.sender.name": name, "estimator.name": "dense"} for name in ("mlp", "published")]
    assert [run.grid for run in runs] == expected
    assert settings(runs, "game.sender.name") == [("mlp",), ("published",)]
    assert len({run.cell for run in runs}) == 2


def test_a_planned_run_is_the_one_that_latent_run_makes(configurations, tmp_path):
    for run in plan(configurations, [], tmp_path, 3, {"train.learning_rate": [0.1]}):
        overrides = [f"seed={run.configuration['seed']}", "train.learning_rate=0.1"]
        experiment = prepare(load(run.source, overrides), tmp_path)
        assert experiment.directory.path == run.directory.path
        assert experiment.configuration.data == run.configuration


def test_without_seeds_a_configuration_keeps_its_own(configurations, tmp_path):
    configurations[1].write_text(configurations[1].read_text() + "seed: 7\n")
    assert settings(plan(configurations, [], tmp_path), "seed") == [(0,), (7,)]


def test_a_file_of_several_configurations_with_overrides_for_each(configurations, tmp_path):
    path = sweep_file(
        tmp_path,
        configurations={
            "configurations/sparsemax.yaml": {"train.learning_rate": 0.5},
            "configurations/dense.yaml": None,
        },
        overrides={"train.steps": 70},
        seeds=2,
        grid={"game.receiver.hidden_size": [4, 6]},
    )
    runs = plan([path], [], tmp_path)
    assert len(runs) == 8
    assert set(settings(runs, "train.steps")) == {(70,)}
    rates = {(name, rate) for name, rate in settings(runs, "estimator.name", "train.learning_rate")}
    assert rates == {("sparsemax", 0.5), ("dense", 0.001)}
    assert len(plan([path], [], tmp_path, [9])) == 4
    assert [run.grid for run in plan([path], [], tmp_path, 1, {"train.batch_size": [3]})] == [{"train.batch_size": 3}] * 2


def test_a_list_of_configurations_and_an_experiment_with_a_block_of_its_own(configurations, tmp_path):
    path = sweep_file(tmp_path, configurations=["configurations/sparsemax.yaml", "configurations/dense.yaml"], seeds=[4])
    assert settings(plan([path], [], tmp_path), "estimator.name", "seed") == [("sparsemax", 4), ("dense", 4)]
    configurations[0].write_text(configurations[0].read_text() + "sweep:\n  seeds: 3\n  grid: {train.steps: [5, 6]}\n")
    assert len(plan(configurations[:1], [], tmp_path)) == 6
    assert load(configurations[0], []).data["seed"] == 0  # latent run looks at no such block


def test_the_same_run_twice_is_one_run(configurations, tmp_path):
    runs = plan([configurations[0], configurations[0]], [], tmp_path, 2)
    assert len(runs) == 2


def test_data_are_read_once_for_all_runs(configurations, tmp_path, monkeypatch):
    from games.datasets import FeatureSet

    made = []
    original = FeatureSet.from_arrays

    def counting(*arguments, **options):
        made.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(FeatureSet, "from_arrays", counting)
    plan(configurations, [], tmp_path, 4, {"train.learning_rate": [0.1, 0.2, 0.3]})
    assert len(made) == 1


def test_seeds_as_the_command_line_writes_them():
    assert parse_seeds("10") == 10
    assert parse_seeds("3,5,7") == [3, 5, 7]
    assert parse_seeds("3,") == [3]
    assert parse_seeds("0,1") == [0, 1]


@pytest.mark.parametrize("text", ["0", "-1", "a", "1.5", "1;2", "-1,2", str(2**63) + ","])
def test_seeds_that_are_none(text):
    assert "a number of seeds" in refusal(parse_seeds, text)


def test_a_grid_as_the_command_line_writes_it():
    assert parse_grid("train.learning_rate=1e-3,5e-3") == ("train.learning_rate", [1e-3, 5e-3])
    assert parse_grid("estimator.name=dense") == ("estimator.name", ["dense"])
    assert parse_grid("estimator.learned=[true, false]") == ("estimator.learned", [True, False])
    assert parse_grid("a.b=x,null,3") == ("a.b", ["x", None, 3])


@pytest.mark.parametrize("text", ["train.steps", "=3", "train..steps=3", "train.steps=", "train.steps=[1", "train.steps=[]"])
def test_grids_that_are_none(text, configurations, tmp_path):
    assert "--grid" in refusal(parse_grid, text)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"seeds": 0}, ["sweep.seeds", "Number of seeds", "0"]),
        ({"seeds": []}, ["sweep.seeds"]),
        ({"seeds": "three"}, ["sweep.seeds", "'three'"]),
        ({"sedes": 3}, ["sweep.sedes", "did you mean 'seeds'"]),
        ({"grid": {"train.steps": 3}}, ["sweep.grid.train.steps: must be a valid list, got 3", "Dotted keys"]),
        ({"grid": {"train.steps": []}}, ["sweep.grid"]),
        ({"grid": {"train.stepz": [3]}}, ["unknown key 'stepz'", "did you mean 'steps'"]),
        ({"grid": {"train.steps": ["many"]}}, ["train.steps", "'many'"]),
        ({"grid": {"train..steps": [3]}}, ["sweep.grid", "no dotted key"]),
        ({"overrides": {"seed": 3}, "seeds": 2}, ["seed cannot be given beside the seeds"]),
        ({"overrides": {"train.steps": 3}, "grid": {"train.steps": [4]}}, ["cannot both be given"]),
        ({"launcher": "slrum"}, ["sweep.launcher: must be 'local', 'ray', 'slurm' or 'debug', got 'slrum'"]),
        ({"workers": 0}, ["sweep.workers"]),
        ({"configurations": ["missing.yaml"]}, ["sweep.configurations", "there is no file"]),
        ({"configurations": 3}, ["sweep.configurations"]),
        ({"configurations": []}, ["sweep.configurations"]),
    ],
)
def test_what_is_wrong_in_a_block_is_said_with_its_place(block, words, configurations, tmp_path):
    own = block if "configurations" in block else {"configurations": ["configurations/dense.yaml"], **block}
    path = sweep_file(tmp_path, **own)
    said = refusal(lambda: (plan([path], [], tmp_path), resources([path], None, None, None)))
    for word in words:
        assert word in said
    assert "sweep.yaml:" in said


def test_what_a_sweep_of_several_may_not_hold(configurations, tmp_path):
    path = sweep_file(tmp_path, configurations=["configurations/dense.yaml"])
    path.write_text(path.read_text() + "seed: 3\n")
    assert "no key but sweep" in refusal(plan, [path], [], tmp_path)
    path.write_text("sweep: 3\n")
    assert "sweep must be a block" in refusal(plan, [path], [], tmp_path)


def test_an_estimator_that_cannot_train_the_task(configurations, tmp_path):
    said = refusal(plan, configurations, [], tmp_path, 2, {"game.reward": ["log_likelihood", "zero_one"]})
    assert "game.reward" in said


def test_files_that_contradict_each_other_on_launching(configurations, tmp_path):
    for path, workers in zip(configurations, (1, 2), strict=True):
        path.write_text(path.read_text() + f"sweep:\n  workers: {workers}\n")
    assert "another file of the sweep says 1" in refusal(resources, configurations, None, None, None)
    assert resources(configurations[:1], None, None, None).workers == 1
    assert resources(configurations[:1], "debug", 5, None).workers == 5
    assert resources(configurations[:1], "debug", 5, None).launcher == "debug"
    assert resources(configurations, None, 5, None).workers == 5, "the command line decides"


def test_a_plan_is_written_and_grids_of_several_sweeps_are_joined(configurations, tmp_path):
    for grid in (
        {"train.learning_rate": [0.001]},
        None,
        {"game.receiver.hidden_size": [8]},
    ):  # each the value that it has anyway
        (run,) = plan(configurations[:1], [], tmp_path, 1, grid)
        run.write()
        assert load(run.directory.configuration, []).data == run.configuration
    (written,) = tmp_path.glob("tiny/runs/*/plan.json")
    joined = {"train.learning_rate": 0.001, "game.receiver.hidden_size": 8}
    assert json.loads(written.read_text()) == {"grid": joined}
    before = {file: file.stat().st_mtime_ns for file in run.directory.path.iterdir()}
    run.write()
    assert {file: file.stat().st_mtime_ns for file in run.directory.path.iterdir()} == before, "nothing is written twice"


def test_a_run_in_use_is_left_as_it_is(configurations, tmp_path):
    (run,) = plan(configurations[:1], [], tmp_path, 1, {"train.learning_rate": [0.001]})
    with run.directory.locked():
        run.write()
    assert not run.directory.plan.exists()
    run.write()
    assert run.directory.grid() == {"train.learning_rate": 0.001}


def test_many_commands_may_plan_at_once(configurations, tmp_path):
    """Each writes what is missing; none stumbles over the half-written files of another."""
    runs = plan(configurations, [], tmp_path, 10, {"game.receiver.hidden_size": [8, 9]})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda planned: planned.write(), [run for run in runs for _ in range(4)]))
    assert all(run.directory.grid() == run.grid and load(run.directory.configuration, []).data for run in runs)
    assert not list(tmp_path.rglob("*.partial"))
