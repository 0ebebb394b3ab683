"""Sum-and-sample: the likeliest states are summed, and one of the others is sampled."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal
from estimators.baselines import make_baseline
from estimators.draws import Draws
from estimators.options import OptionError
from estimators.spaces import Space


@final
class SumAndSample(Estimator):
    r"""Sum-and-sample: the k likeliest states C exactly, the rest by one sample.

    .. math:: \nabla L \approx \sum_{z \in C} \nabla \big[ q(z) (\ell(z) - b) \big]
        + (1 - q(C)) \big[ \nabla \ell(z') + (\ell(z') - b) \nabla \log q(z') \big]

    with :math:`z' \sim q(\cdot \mid z' \notin C)`.

    One baseline b on both parts: with different ones the estimator is biased. Decoder calls: ``summed + 1``, and K where k
    is no less. Unbiased; its variance is at most that of the score function with one sample and the same baseline, and
    vanishes as q becomes certain.

    Choose it where q soon is concentrated on few states, and a softmax is wanted.

    Args:
        summed: states that are summed, k.
        baseline: what is subtracted from the losses: ``none``; ``moving_average`` of past batches' losses; ``nvil``, a
            network of the context plus the moving average.
        decay: forgetting factor of the moving average, in (0, 1].
        hidden_size: hidden units of the network of ``nvil``.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Liu, Regier, Tripuraneni, Jordan and McAuliffe (2019), Rao-Blackwellized stochastic gradients for discrete
          distributions, https://arxiv.org/abs/1810.04777.
    """

    unbiased = True
    uses = frozenset({"k_best", "sample_outside", "log_probability", "entropy"})

    def __init__(
        self,
        *,
        summed: int = 1,
        baseline: Literal["none", "moving_average", "nvil"] = "none",
        decay: float = 0.99,
        hidden_size: int = 64,
    ) -> None:
        super().__init__()
        if summed < 1:
            raise OptionError("summed", f"must be at least 1, got {summed}")
        self.summed = summed
        self.baseline = make_baseline(baseline, decay, hidden_size, ("none", "moving_average", "nvil"))

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        best = space.k_best(self.summed)
        sampled, mass = space.sample_outside(draws, best)
        mass = mass.unsqueeze(1)
        states = torch.cat([best, sampled], 1)
        # The states summed weigh q and the sampled one what they leave; its q / q has the gradient of its log.
        weights = space.probability(states)
        last = weights[:, -1:]
        ratio = torch.where(mass > 0, last / last.detach().clamp(min=torch.finfo(last.dtype).tiny), 1.0)
        weights = torch.cat([weights[:, :-1], mass * ratio], 1)
        keep = (mass > 0).expand(weights.shape).clone()
        keep[:, :-1] = True
        return Proposal(space.select(states, keep), weights[keep], space.entropy(), context=context)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        pairs, weights = proposal.pairs, proposal.weights
        value = pairs.sum(weights.detach() * losses)
        detached = value.detach().unsqueeze(1)
        baseline = self.baseline(detached, detached[:, :0], proposal.context)
        signal = losses.detach() - pairs.gather(baseline.detach().expand(pairs.batch_size, 1)[:, 0])
        if self.training:
            self.baseline.update(detached)
        auxiliary = (detached - baseline).square().mean() if baseline.requires_grad else None
        return Estimate.of(proposal, surrogate=value + pairs.sum(weights * signal), value=value, auxiliary=auxiliary)
