"""Parts of another distribution, which is installed beside this one: from YAML to the table, and in every list of parts."""

import json
import os
import subprocess

import pytest
import torch
import yaml

from tests.conftest import ROOT, TINY

MODULE = '''
import torch
from torch import nn

from estimators import LatentLinear, OptionError
from games.agents import Receiver, Sender
from games.datasets import FeatureSet
from games.datasets.synthetic import synthetic


class LinearSender(Sender):
    """One linear layer.

    Args:
        scale: of the scores.
    """

    def __init__(self, features: int, vocabulary_size: int, *, scale: float = 1.0):
        super().__init__()
        if scale <= 0:
            raise OptionError("scale", "must be above 0")
        self.layer, self.scale = nn.Linear(features, vocabulary_size), scale

    def forward(self, target):
        return self.scale * self.layer(target)


class MeanReceiver(Receiver):
    """Compares with the candidates as they are.

    Args:
        bias: add a bias to each message.
    """

    def __init__(self, features: int, vocabulary_size: int, *, bias: bool = False):
        super().__init__()
        self.table = LatentLinear(vocabulary_size, features, bias)

    def embed(self, candidates):
        return candidates

    def forward(self, messages, embedded):
        return (self.table(messages).unsqueeze(1) * messages.gather(embedded)).sum(2)


def shapes(*, sides: int = 10) -> FeatureSet:
    """Shapes.

    Args:
        sides: how many there are.
    """
    return synthetic(concepts=sides, images=8, size=5, seed=3)


def slow(parameters, learning_rate, *, smoothing: float = 0.99) -> torch.optim.Optimizer:
    """RMSprop.

    Args:
        smoothing: decay of the mean square.
    """
    return torch.optim.RMSprop(parameters, lr=learning_rate, alpha=smoothing)
'''

ENTRY_POINTS = """
[discrete_latent.agents]
linear = somebodys:LinearSender
mean = somebodys:MeanReceiver
[discrete_latent.datasets]
shapes = somebodys:shapes
[discrete_latent.optimizers]
slow = somebodys:slow
"""


@pytest.fixture
def latent(tmp_path, latent_command):
    """The command line, where that distribution is installed."""
    site = tmp_path / "site"
    information = site / "somebodys-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "somebodys.py").write_text(MODULE)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    environment = os.environ | {"PYTHONPATH": str(site)}

    def call(*arguments):
        command = [*latent_command, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)

    return call


def trained(latent, tmp_path, block, key, value):
    """Run the tiny experiment with one block of another distribution's part; returns its configuration and checkpoint."""
    whole = yaml.safe_load(TINY)
    whole[block] = {key: value, **{old: each for old, each in whole[block].items() if key != old}} if key else value
    path = tmp_path / "ours.yaml"
    path.write_text(yaml.safe_dump(whole))
    run = latent("run", path, "--out", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    table = latent("table", tmp_path / "out" / "tiny")
    assert table.returncode == 0, table.stderr
    assert "sparsemax" in table.stdout
    (directory,) = (tmp_path / "out" / "tiny" / "runs").iterdir()
    assert (directory / "done.json").exists()
    checkpoint = torch.load(directory / "checkpoint.pt", weights_only=True)["state"]["training"]
    return yaml.safe_load((directory / "config.yaml").read_text())[block], checkpoint


def test_a_sender(latent, tmp_path):
    block, checkpoint = trained(latent, tmp_path, "game", "sender", {"name": "linear", "scale": 2.0})
    assert block["sender"] == {"name": "linear", "scale": 2.0}
    assert checkpoint["objective"]["task.sender.layer.weight"].shape == (12, 6)


def test_a_receiver(latent, tmp_path):
    block, checkpoint = trained(latent, tmp_path, "game", "receiver", {"name": "mean", "bias": True})
    assert block["receiver"] == {"name": "mean", "bias": True}
    assert checkpoint["objective"]["task.receiver.table.weight"].shape == (12, 6)


def test_a_data_set(latent, tmp_path):
    block, checkpoint = trained(latent, tmp_path, "data", "", "shapes")
    assert block == {"name": "shapes", "sides": 10}
    assert checkpoint["objective"]["task.sender.layers.0.weight"].shape == (8, 5)


def test_an_optimiser(latent, tmp_path):
    block, checkpoint = trained(latent, tmp_path, "train", "optimizer", {"name": "slow", "smoothing": 0.5})
    assert block["optimizer"] == {"name": "slow", "smoothing": 0.5}
    assert [group["alpha"] for group in checkpoint["optimizer"]["param_groups"]] == [0.5, 0.5]


def test_they_are_listed_in_the_schema_and_checked(latent, tmp_path):
    listed = latent("list").stdout
    schema = json.loads(latent("schema").stdout)["$defs"]
    for name, option in (("linear", "scale"), ("mean", "bias"), ("shapes", "sides"), ("slow", "smoothing")):
        assert name in listed
        assert option in listed
        assert option in schema[name.title()]["properties"]
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.replace("sender: {hidden_size: 8}", "sender:\n    name: linear\n    scale: 0.0"))
    refused = latent("run", path, "--out", tmp_path)
    assert refused.returncode == 2
    assert "tiny.yaml:10:5: game.sender.scale: must be above 0" in " ".join(refused.stderr.replace("\n", "").split())
