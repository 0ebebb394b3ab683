"""Score function (REINFORCE) with a choice of baselines."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from estimators.base import Estimate, Estimator, OptionError, Proposal, as_scores
from estimators.baselines import BASELINES, BaselineName
from estimators.categorical import Categorical
from estimators.draws import Draws


@final
class ScoreFunction(Estimator):
    r"""Score function estimator: samples weighted by their loss, less a baseline.

    .. math:: \nabla L \approx \frac{1}{S} \sum_{s=1}^{S}
        \nabla \ell(z_s) + (\ell(z_s) - b_s) \, \nabla \log q(z_s), \qquad z_s \sim q

    Decoder calls: ``samples``, and one more with a self-critic. Unbiased with every baseline here.

    Args:
        samples: samples of each example, S.
        baseline: what is subtracted: ``none``; ``moving_average`` of past batches' losses; ``self_critic``, the loss of the
            most likely state; ``sampled_self_critic``, the loss of an independent sample; ``leave_one_out``, the mean loss
            of the example's other samples (needs two or more).
        decay: forgetting factor of the moving average, in (0, 1]; 1 is the running mean of all past batches.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - Williams (1992), Simple statistical gradient-following algorithms, https://doi.org/10.1007/BF00992696.
        - Rennie et al. (2017), Self-critical sequence training, https://arxiv.org/abs/1612.00563.
        - Kool, van Hoof and Welling (2019), Buy 4 REINFORCE samples, get a baseline for free!,
          https://openreview.net/forum?id=r1lgTGL5DE.
    """

    unbiased: ClassVar[bool] = True
    samples_states: ClassVar[bool] = True

    def __init__(
        self,
        *,
        samples: int = 1,
        baseline: BaselineName = "none",
        decay: float = 0.99,
    ) -> None:
        super().__init__()
        if baseline not in BASELINES:
            raise OptionError("baseline", f"must be one of {', '.join(BASELINES)}, got {baseline!r}")
        if not 0 < decay <= 1:
            raise OptionError("decay", f"must lie in (0, 1], got {decay}")
        self.baseline = BASELINES[baseline](decay)
        if samples < self.baseline.minimum_samples:
            raise OptionError(
                "samples", f"must be at least {self.baseline.minimum_samples} with baseline {baseline!r}, got {samples}"
            )
        self.samples = samples

    def probabilities(self, scores: Tensor) -> Tensor:
        return Categorical(as_scores(scores)).probabilities

    def propose(self, scores: Tensor, draws: Draws, context: Tensor | None = None) -> Proposal:
        q = Categorical(as_scores(scores))
        index = q.sample(draws, self.samples)
        extra = self.baseline.extra_states(q, draws)
        weights = q.scores.new_full(index.shape, 1 / self.samples)
        weights = torch.cat([weights, q.scores.new_zeros(extra.shape)], 1)
        return Proposal(
            latents=q.select(torch.cat([index, extra], 1)),
            weights=weights.flatten(),
            entropy=q.entropy(),
            log_probability=q.log_probability(index).flatten(),
            context=context,
        )

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        assert proposal.log_probability is not None
        losses, extra = losses.view(proposal.latents.batch_size, -1).tensor_split([self.samples], dim=1)
        detached = losses.detach()
        advantage = detached - self.baseline(detached, extra.detach())
        surrogate = losses + advantage * proposal.log_probability.view_as(losses)
        if self.training:
            self.baseline.update(detached)
        return Estimate.of(proposal, surrogate=surrogate.mean(1), value=losses.mean(1))
