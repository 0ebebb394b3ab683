"""Tests run as experiments do: one thread, no network, no account."""

import os
import sys
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent
os.environ["WANDB_MODE"] = "disabled"
os.environ["OMP_NUM_THREADS"] = "1"

TINY = """\
task: signal_game
experiment: tiny
estimator:
  name: sparsemax
game:
  vocabulary_size: 12
  candidates: 4
  sender: {hidden_size: 8}
  receiver: {hidden_size: 8}
  validation_games: 20
  test_games: 30
  entropy_coefficient: 0.05
data:
  name: synthetic
  concepts: 10
  images: 8
  size: 6
train:
  steps: 60
  batch_size: 8
  log_every: 7
  evaluate_every: 25
  checkpoint_every: 10
"""


@pytest.fixture
def tiny(tmp_path):
    """A configuration file of an experiment that takes a fraction of a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def latent_command():
    """The command line in a process of its own."""
    return [sys.executable, "-m", "latent"]
