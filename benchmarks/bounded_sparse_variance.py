"""Variance of bounded sparse marginalization in the emoji game, by budget m and number h of states that are summed.

    python benchmarks/bounded_sparse_variance.py

The game is trained with sparsemax for some steps. Then the gradients of 30 draws on one batch are compared with sparsemax's,
which is exact: the mean square of their difference, relative to the square of the exact gradient, for sender and receiver.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

import estimators
from latent.experiment.configuration import load
from latent.experiment.experiment import prepare
from latent.experiment.training import Training

CONFIGURATION = Path(__file__).parents[1] / "configs" / "signal_game" / "sparsemax.yaml"
STEPS, DRAWS = (20, 60, 120), 30


def gradients(training: Training, estimator: estimators.Estimator, seed: int) -> dict[str, torch.Tensor]:
    """Of the sender and of the receiver, on a batch that is always the same; and the decoder calls."""
    games = training.task.draw(64, torch.Generator().manual_seed(0))
    objective, metrics = training.task(games, estimator, torch.Generator().manual_seed(seed))
    found = {"calls": metrics["decoder_calls"].double().mean()}
    for name in ("sender", "receiver"):
        parameters = list(getattr(training.task, name).parameters())
        found[name] = torch.cat([g.flatten() for g in torch.autograd.grad(objective, parameters, retain_graph=True)])
    return found


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        training = Training(prepare(load(CONFIGURATION, []), Path(folder)))
    print("| step | support | m | h | sender | receiver |\n|---|---|---|---|---|---|")
    for step in STEPS:
        while training.step < step:
            training.train_step()
        exact = gradients(training, estimators.build("sparsemax"), 0)
        for budget in (8, 16, 32):
            for summed in (0, budget // 4, budget // 2, budget - 2):
                estimator = estimators.build("bounded_sparse", budget=budget, summed=summed)
                errors = {"sender": 0.0, "receiver": 0.0}
                for seed in range(DRAWS):
                    found = gradients(training, estimator, seed)
                    for name in errors:
                        error = (found[name] - exact[name]).square().sum() / exact[name].square().sum()
                        errors[name] += float(error) / DRAWS
                cells = [str(step), f"{float(exact['calls']):.1f}", str(budget), str(summed)]
                print("|", " | ".join([*cells, *(f"{error:.2f}" for error in errors.values())]), "|")


if __name__ == "__main__":
    main()
