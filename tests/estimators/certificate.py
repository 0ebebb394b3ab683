"""The certificate of an estimator: its exact expected gradient, by enumerating its draws, against the exact gradient.

The problem is small and in float64: a linear encoder, and a decoder that is a neural network reading the latent and the
example. The oracle computes q and its Jacobian from their definitions, sharing nothing with the estimators.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import nn

from estimators import Estimator, LatentLinear, Latents, enumerate_outcomes

FLAT, PEAKED = 0.3, 3.0


def entmax_oracle(scores: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities ``[K]`` and Jacobian ``[K, K]`` of alpha-entmax by root finding; softmax for alpha = 1."""
    if alpha == 1:
        probabilities = np.exp(scores - scores.max())
        probabilities /= probabilities.sum()
        sensitivity = probabilities
    else:

        def masses(threshold):
            return np.maximum((alpha - 1) * scores - threshold, 0) ** (1 / (alpha - 1))

        top = (alpha - 1) * scores.max()
        threshold = brentq(lambda t: masses(t).sum() - 1, top - 1, top, xtol=1e-15, rtol=1e-15)
        probabilities = masses(threshold)
        sensitivity = np.where(probabilities > 0, np.maximum(probabilities, 1e-300) ** (2 - alpha), 0)
    jacobian = np.diag(sensitivity) - np.outer(sensitivity, sensitivity) / sensitivity.sum()
    return probabilities, jacobian


class Problem(nn.Module):
    """``B`` examples ``x``, scores ``x W`` and losses of a small decoder; ``scale`` makes q flat or peaked."""

    def __init__(self, scale: float, batch_size: int = 2, states: int = 3, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.states = states
        self.x = torch.randn(batch_size, 2, dtype=torch.float64)
        self.encoder = nn.Parameter(scale * torch.randn(2, states, dtype=torch.float64))
        self.embed = LatentLinear(states, 5).double()
        self.read = nn.Linear(2, 5).double()
        self.out = nn.Linear(5, 1).double()

    def scores(self) -> torch.Tensor:
        return self.x @ self.encoder

    def loss_function(self, latents: Latents) -> torch.Tensor:
        hidden = torch.tanh(3 * self.embed(latents) + latents.gather(self.read(self.x)))
        return 5 * self.out(hidden)[:, 0] ** 2 + 1

    def gradients(self, objective: torch.Tensor) -> torch.Tensor:
        """Gradient of the encoder, then of the decoder, as one vector."""
        return torch.cat([g.flatten() for g in torch.autograd.grad(objective, list(self.parameters()), materialize_grads=True)])

    def exact(self, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The exact gradient of the mean over examples of E_q[loss], and the exact value of each example."""
        batch_size = len(self.x)
        index = torch.arange(self.states).expand(batch_size, -1)
        losses = self.loss_function(Latents.regular(index, self.states, torch.float64)).view(batch_size, -1)
        oracle = [entmax_oracle(row.numpy(), alpha) for row in self.scores().detach()]
        q = torch.from_numpy(np.stack([probabilities for probabilities, _ in oracle]))
        jacobian = torch.from_numpy(np.stack([jacobian for _, jacobian in oracle]))
        encoder = self.x.t() @ (jacobian @ losses.detach().unsqueeze(-1))[..., 0] / batch_size
        decoder = torch.autograd.grad((q * losses).sum(1).mean(), list(self.parameters())[1:])
        return torch.cat([encoder.flatten(), *(g.flatten() for g in decoder)]), (q * losses).sum(1).detach()


@dataclass
class Certificate:
    """Relative errors of the expected gradients and value, and the variance of the encoder's gradient."""

    encoder: float
    decoder: float
    value: float
    variance: float
    outcomes: int

    @property
    def worst(self) -> float:
        return max(self.encoder, self.decoder, self.value)


def certify(estimator: Estimator, problem: Problem, alpha: float = 1) -> Certificate:
    """Enumerate the estimator's draws, from the state that it is in, and compare expectations."""

    def program(draws):
        fresh = copy.deepcopy(estimator)
        proposal = fresh.propose(problem.scores(), draws)
        estimate = fresh.combine(proposal, problem.loss_function(proposal.latents))
        return problem.gradients(estimate.surrogate.mean()), estimate.value

    outcomes = list(enumerate_outcomes(program))
    probabilities = torch.tensor([p for p, _ in outcomes], dtype=torch.float64)
    assert abs(float(probabilities.sum()) - 1) < 1e-12
    gradients = torch.stack([g for _, (g, _) in outcomes])
    mean = probabilities @ gradients
    value = probabilities @ torch.stack([v for _, (_, v) in outcomes])
    exact, exact_value = problem.exact(alpha)
    size = problem.encoder.numel()

    def error(mean, exact):
        return float((mean - exact).norm() / exact.norm())

    return Certificate(
        encoder=error(mean[:size], exact[:size]),
        decoder=error(mean[size:], exact[size:]),
        value=error(value, exact_value),
        variance=float((probabilities @ (gradients - mean) ** 2)[:size].sum()),
        outcomes=len(outcomes),
    )
