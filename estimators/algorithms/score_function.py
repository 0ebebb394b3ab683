"""Score function (REINFORCE) with a choice of baselines."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal
from estimators.baselines import BaselineName, VarianceNormalisation, make_baseline
from estimators.draws import Draws
from estimators.options import OptionError
from estimators.spaces import Space


@final
class ScoreFunction(Estimator):
    r"""Score function estimator: samples weighted by their loss, less a baseline.

    .. math:: \nabla L \approx \frac{1}{S} \sum_{s=1}^{S}
        \nabla \ell(z_s) + (\ell(z_s) - b_s) \, \nabla \log q(z_s), \qquad z_s \sim q

    Decoder calls: ``samples``, and one more with a self-critic. Unbiased with every baseline here. With
    ``normalise_variance`` the encoder's gradient keeps its expected direction, and is shorter by a known factor.

    Choose it where losses are no more than numbers (no gradient in z, no sum over states); several samples with
    ``leave_one_out`` where the decoder is cheap, ``nvil`` where one call is all there is.

    Args:
        samples: samples of each example, S.
        baseline: what is subtracted: ``none``; ``moving_average`` of past batches' losses; ``self_critic``, the loss of the
            most likely state; ``sampled_self_critic``, the loss of an independent sample; ``leave_one_out``, the mean loss
            of the example's other samples (needs two or more); ``nvil``, a network of the context plus the moving average.
        decay: forgetting factor of moving averages, in (0, 1]; 1 is the running mean of all past batches.
        hidden_size: hidden units of the network of ``nvil``.
        normalise_variance: divide the learning signal by the moving average of its size, where that is above 1.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Williams (1992), Simple statistical gradient-following algorithms, https://doi.org/10.1007/BF00992696.
        - Mnih and Gregor (2014), Neural variational inference and learning in belief networks,
          https://arxiv.org/abs/1402.0030.
        - Rennie et al. (2017), Self-critical sequence training, https://arxiv.org/abs/1612.00563.
        - Kool, van Hoof and Welling (2019), Buy 4 REINFORCE samples, get a baseline for free!,
          https://openreview.net/forum?id=r1lgTGL5DE.
    """

    unbiased = True
    samples_states = True

    def __init__(
        self,
        *,
        samples: int = 1,
        baseline: BaselineName = "none",
        decay: float = 0.99,
        hidden_size: int = 64,
        normalise_variance: bool = False,
    ) -> None:
        super().__init__()
        self.baseline = make_baseline(baseline, decay, hidden_size)
        if samples < self.baseline.minimum_samples:
            raise OptionError(
                "samples", f"must be at least {self.baseline.minimum_samples} with baseline {baseline!r}, got {samples}"
            )
        self.samples = samples
        self.uses = self.baseline.uses.union({"sample", "log_probability", "entropy"})
        self.scale = VarianceNormalisation(decay) if normalise_variance else None
        self.unbiased = not normalise_variance

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        sampled = space.sample(draws, self.samples)
        extra = self.baseline.extra_states(space, draws, sampled)
        states, weights = sampled, space.full(1 / self.samples, *sampled.shape[:2])
        if extra.shape[1]:
            states = torch.cat([sampled, extra], 1)
            weights = torch.cat([weights, space.full(0, *extra.shape[:2])], 1)
        log_probability, entropy = space.weigh(sampled)
        return Proposal(
            pairs=space.select(states),
            weights=weights.flatten(),
            entropy=entropy,
            log_probability=log_probability.flatten(),
            context=context,
        )

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        assert proposal.log_probability is not None
        losses = losses.view(proposal.pairs.batch_size, proposal.pairs.width)
        losses, extra = losses[:, : self.samples], losses[:, self.samples :]
        detached = losses.detach()
        baseline = self.baseline(detached, extra.detach(), proposal.context)
        advantage = detached - baseline.detach()
        signal = self.scale(advantage) if self.scale else advantage
        surrogate = losses + signal * proposal.log_probability.view_as(losses)
        if self.training:
            self.baseline.update(detached)
            if self.scale:
                self.scale.update(advantage)
        auxiliary = (detached - baseline).square().mean() if baseline.requires_grad else None
        return Estimate.of(proposal, surrogate=surrogate.mean(1), value=losses.mean(1), auxiliary=auxiliary)
