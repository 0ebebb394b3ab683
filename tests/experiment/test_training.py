"""How parameters are trained: optimisers and their groups, and schedules of the learning rates."""

import math

import pytest
import torch

from estimators import OptionError
from latent.experiment import runner, training
from latent.experiment.configuration import load
from latent.experiment.experiment import prepare
from latent.experiment.optimizers import OPTIMIZERS
from latent.experiment.schedules import constant, cosine, warm_up
from latent.experiment.training import Training
from tests.experiment.test_run import assert_same_run, call, failing_at, run_directory


def rates(path, out, *overrides, steps):
    """The learning rates of task and estimator in each step."""
    run, found = Training(prepare(load(path, list(overrides)), out)), []
    for _ in range(steps):
        run.train_step()
        found.append(tuple(group["lr"] for group in run.optimizer.param_groups))
    return found


def test_schedules_by_hand():
    assert [constant(9)(step) for step in (0, 8)] == [1.0, 1.0]
    assert [warm_up(9, warm_up_steps=4)(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    fall = cosine(8, final_fraction=0.2)
    assert [fall(step) for step in (0, 4)] == pytest.approx([1.0, 0.6])
    assert fall(2) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
    warm = cosine(10, warm_up_steps=2)
    assert [warm(step) for step in (0, 1, 2, 6)] == pytest.approx([0.5, 1.0, 1.0, 0.5])
    assert [warm(step + 2) for step in range(8)] == pytest.approx([cosine(8)(step) for step in range(8)])


@pytest.mark.parametrize(
    ("schedule", "options", "option"),
    [
        (warm_up, {"warm_up_steps": 0}, "warm_up_steps"),
        (cosine, {"warm_up_steps": -1}, "warm_up_steps"),
        (cosine, {"warm_up_steps": 9}, "warm_up_steps"),
        (cosine, {"final_fraction": 1.1}, "final_fraction"),
    ],
)
def test_options_of_schedules_out_of_range(schedule, options, option):
    with pytest.raises(OptionError) as caught:
        schedule(9, **options)
    assert caught.value.option == option


def test_a_schedule_holds_for_task_and_estimator(tiny, tmp_path):
    given = ["train.schedule={name: cosine, warm_up_steps: 2}", "train.steps=10", "train.estimator_learning_rate=0.1"]
    expected = [(1e-3 * cosine(10, warm_up_steps=2)(step), 0.1 * cosine(10, warm_up_steps=2)(step)) for step in range(10)]
    assert rates(tiny, tmp_path, *given, steps=10) == expected


def test_a_warm_start_comes_before_the_schedule(tmp_path):
    path = tmp_path / "warm.yaml"
    path.write_text(
        "task: ssvae\nestimator: sparsemax\ndata: digits\n"
        "train: {steps: 4, warm_start_steps: 3, warm_start_learning_rate: 0.01, schedule: {name: warm_up, warm_up_steps: 4}}\n"
    )
    found = [task for task, _ in rates(path, tmp_path, steps=7)]
    assert found == [0.01, 0.01, 0.01, 0.25e-3, 0.5e-3, 0.75e-3, 1e-3]


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.schedule={name: cosine, warm_up_steps: 20, final_fraction: 0.1}", "train.optimizer=adamw"],
        ["train.schedule={name: warm_up, warm_up_steps: 30}", "train.optimizer={name: sgd, momentum: 0.9, nesterov: true}"],
        ["train.schedule=cosine", "estimator.name=entmax", "estimator.learned=true"],
    ],
    ids=["cosine after a warm-up", "warm-up", "cosine, and a parameter of the estimator"],
)
def test_a_schedule_goes_on_bit_for_bit(tiny, tmp_path, monkeypatch, overrides):
    call(tiny, "--out", tmp_path / "whole", *overrides)
    for number, owner, method in (
        (13, training.Training, "train_step"),
        (15, training.Training, "train_step"),
        (2, runner._Run, "_save"),
        (1, runner._Run, "_summary"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, failing_at(number, getattr(owner, method)))
            assert call(tiny, "--out", tmp_path / "broken", *overrides).exit_code == 1
    assert call(tiny, "--out", tmp_path / "broken", *overrides).exit_code == 0
    assert_same_run(run_directory(tmp_path / "whole"), run_directory(tmp_path / "broken"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_is_of_the_task_alone(tiny, tmp_path, name):
    given = [f"train.optimizer={{name: {name}, weight_decay: 0.25}}", "estimator.name=entmax", "estimator.learned=true"]
    optimizer = prepare(load(tiny, given), tmp_path).optimizer
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.25, 0.0]
    assert all(len(group["params"]) > 0 for group in optimizer.param_groups)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_step_of_each_optimiser_is_that_of_its_formula(name):
    """From rest, with a gradient of 0.5, a parameter of 2, a rate of 0.1 and a weight decay of 0.5."""
    own, other = torch.nn.Parameter(torch.tensor([2.0])), torch.nn.Parameter(torch.tensor([2.0]))
    parts = [{"params": [own]}, {"params": [other], "weight_decay": 0.0}]
    optimizer = OPTIMIZERS[name](parts, 0.1, weight_decay=0.5)
    own.grad, other.grad = torch.tensor([0.5]), torch.tensor([0.5])
    optimizer.step()
    expected = {"adam": (1.9, 1.9), "adamw": (2 * (1 - 0.05) - 0.1, 1.9), "sgd": (2 - 0.1 * (0.5 + 1), 2 - 0.05)}[name]
    assert (float(own.detach()), float(other.detach())) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "option"),
    [
        ("adam", {"beta1": 1.0}, "beta1"),
        ("adam", {"beta2": -0.1}, "beta2"),
        ("adamw", {"weight_decay": -1.0}, "weight_decay"),
        ("adamw", {"epsilon": -1.0}, "epsilon"),
        ("sgd", {"momentum": -0.1}, "momentum"),
        ("sgd", {"nesterov": True}, "nesterov"),
    ],
)
def test_options_of_optimisers_out_of_range(name, options, option):
    with pytest.raises(OptionError) as caught:
        OPTIMIZERS[name]([{"params": [torch.nn.Parameter(torch.zeros(1))]}], 0.1, **options)
    assert caught.value.option == option
