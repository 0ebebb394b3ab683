"""The code in the README and in the docs runs."""

import re
import shutil
from functools import partial

import pytest
import torch

from estimators import Estimator, LatentLinear
from games import SignalGame
from games.datasets.synthetic import synthetic
from latent.experiment.configuration import load
from latent.experiment.options import options_model
from tests.conftest import ROOT


def blocks(file, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)


@pytest.mark.parametrize("file", ["README.md", "docs/contract.md"])
def test_the_plain_pytorch_example_runs(file, capsys):
    names: dict = {}
    exec(blocks(file, "python")[0], names)
    assert names["scores"].grad.abs().sum() > 0
    assert names["table"].weight.grad.abs().sum() > 0
    assert "tensor(" in capsys.readouterr().out


def test_the_example_of_every_family_trains(capsys):
    exec(blocks("docs/plain_pytorch.md", "python")[0], {})
    lines = capsys.readouterr().out.splitlines()
    losses = [re.search(r"([\d.]+) -> ([\d.]+)", line).groups() for line in lines]
    assert len(losses) >= 15
    for (before, after), line in zip(losses, lines, strict=True):
        assert float(after) < 0.65 * float(before), line


def test_the_example_of_a_model_trains(capsys):
    names: dict = {}
    exec(blocks("docs/models.md", "python")[0], names)
    elbo, calls = map(float, re.search(r"(-[\d.]+) tensor\(([\d.]+)\)", capsys.readouterr().out).groups())
    assert -30 < elbo < -20
    assert 1 <= calls < 20


def test_the_example_of_a_new_estimator_is_one():
    names: dict = {}
    exec(blocks("docs/adding_an_estimator.md", "python")[0], names)
    estimator = names["SoftAttention"]()
    assert isinstance(estimator, Estimator)
    scores = torch.randn(3, 5, requires_grad=True)
    table = LatentLinear(5, 2)
    estimate = estimator(scores, lambda latents: table(latents).square().sum(1))
    estimate.surrogate.sum().backward()
    assert scores.grad.abs().sum() > 0
    assert estimate.decoder_calls.tolist() == [1, 1, 1]


@pytest.mark.parametrize("file", ["README.md", "docs/configuration.md"])
def test_the_example_configuration_is_the_one_in_the_repository(file, tmp_path):
    example = blocks(file, "yaml")[0]
    name = re.match(r"# (configs/\S+)\n", example).group(1)
    shutil.copy((ROOT / name).with_name("base.yaml"), tmp_path)
    (tmp_path / "example.yaml").write_text(example)
    assert load(tmp_path / "example.yaml", []).data == load(ROOT / name, []).data


def test_the_example_of_a_new_sender_plays(tmp_path):
    names: dict = {}
    exec(blocks("docs/configuration.md", "python")[0], names)
    data = synthetic(concepts=10, images=8, size=6)
    game = SignalGame(data, sender=partial(names["LinearSender"], bias=False), vocabulary_size=9, candidates=4)
    assert game.sender.layer.weight.shape == (9, 6)
    assert options_model(names["LinearSender"])().model_dump() == {"bias": True}


def test_the_example_of_parts_inside_parts_is_a_configuration(tmp_path):
    path = tmp_path / "example.yaml"
    path.write_text("task: signal_game\nestimator: dense\ndata: synthetic\n" + blocks("docs/configuration.md", "yaml")[1])
    train = load(path, []).data["train"]
    assert train["optimizer"]["name"] == "adamw"
    assert train["schedule"] == {"name": "cosine", "final_fraction": 0.1, "warm_up_steps": 500}
