"""VIMCO: a multi-sample bound, and not the expected loss, with a leave-one-out learning signal."""

from __future__ import annotations

import math
from typing import Literal, final

import torch
from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.options import OptionError
from estimators.spaces import Space

MOST_TUPLES = 1 << 20
"""Tuples of samples that the exact objective is summed over."""


@final
class VIMCO(Estimator):
    r"""VIMCO: gradients of the importance-weighted bound of S samples. Its objective is not the expected loss.

    .. math:: \mathcal{L}_S = -\mathbb{E}_{z_1, \ldots, z_S \sim q} \Big[ \log \frac{1}{S} \sum_{s=1}^{S} w_s \Big], \qquad
        w_s = e^{-\ell(z_s)} \;\text{ or }\; \frac{e^{-\ell(z_s)}}{q(z_s)}

    With ``weights = "likelihood"`` q is the model's own distribution of z (a policy, a sender), and the loss
    ``-log p(y | z)``. With ``"importance"`` q approximates a posterior, and the loss is ``-log p(x, z)``: the bound then holds
    the entropy, so that a task must not add it again.

    .. math:: \nabla \mathcal{L}_S \approx -\sum_s (\hat L - \hat L_{-s}) \nabla \log q(z_s)
        - \sum_s \tilde w_s \nabla \log w_s

    with :math:`\hat L` the logarithm above, :math:`\hat L_{-s}` the same with :math:`w_s` replaced by the geometric mean of the
    others, and :math:`\tilde w_s = w_s / \sum_j w_j`. Decoder calls: ``samples``. Unbiased for its own objective, which is at
    most the expected loss and falls with S.

    Choose it to maximise a multi-sample bound; never compare its training loss with that of other estimators.

    Args:
        samples: samples of each example, S, at least 2.
        weights: ``likelihood`` or ``importance``.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Mnih and Rezende (2016), Variational inference for Monte Carlo objectives, https://arxiv.org/abs/1602.06725.
        - Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, https://arxiv.org/abs/1509.00519.
    """

    unbiased = True
    samples_states = True
    uses = frozenset({"sample", "log_probability", "entropy"})

    def __init__(
        self,
        *,
        samples: int = 4,
        weights: Literal["likelihood", "importance"] = "likelihood",
    ) -> None:
        super().__init__()
        if samples < 2:
            raise OptionError("samples", f"must be at least 2, got {samples}")
        if weights not in ("likelihood", "importance"):
            raise OptionError("weights", f"must be likelihood or importance, got {weights!r}")
        self.samples = samples
        self.importance = self.holds_entropy = weights == "importance"
        self.objective = self.bound

    def bound(self, probabilities: Tensor, losses: Tensor) -> Tensor:
        """The exact objective ``[B]``, summed over all tuples of samples.

        Raises:
            ValueError: if there are too many.
        """
        states = probabilities.shape[1]
        if states**self.samples > MOST_TUPLES:
            raise ValueError(f"the bound of {self.samples} samples of {states} states sums over too many tuples")
        tuples = torch.cartesian_prod(*[torch.arange(states, device=losses.device)] * self.samples)
        # A tuple with a state of no mass has no mass; its weight, infinite or not, must not count.
        mass = probabilities[:, tuples].prod(-1)
        log_weights = -losses - (probabilities.clamp(min=torch.finfo(losses.dtype).tiny).log() if self.importance else 0)
        return -(mass * (log_weights[:, tuples].logsumexp(-1) - math.log(self.samples))).sum(1)

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        states = space.sample(draws, self.samples)
        log_probability, entropy = space.weigh(states)
        return Proposal(
            pairs=space.select(states),
            weights=space.full(1 / self.samples, space.batch_size * self.samples),
            entropy=entropy,
            log_probability=log_probability.flatten(),
            context=context,
        )

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        assert proposal.log_probability is not None
        log_weights = -losses.view(-1, self.samples)
        log_q = proposal.log_probability.view_as(log_weights)
        if self.importance:
            log_weights = log_weights - log_q
        bound = log_weights.logsumexp(1) - math.log(self.samples)
        with torch.no_grad():
            own = torch.eye(self.samples, dtype=torch.bool, device=losses.device)
            others = torch.where(own, 0, log_weights.unsqueeze(1)).sum(2, keepdim=True) / (self.samples - 1)
            replaced = torch.where(own, others, log_weights.unsqueeze(1))
            signal = bound.unsqueeze(1) - (replaced.logsumexp(2) - math.log(self.samples))
        return Estimate.of(proposal, surrogate=-bound - (signal * log_q).sum(1), value=-bound)
