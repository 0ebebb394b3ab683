"""DisARM and ARMS: antithetic samples of bit vectors."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.options import OptionError
from estimators.spaces import Space


def disagreement(scores: Tensor, samples: int) -> Tensor:
    r"""``[B, D]``: the probability that, of two coupled samples of a bit, the first is on and the second off.

    .. math:: P(1, 0) = (1 - p) - (1 - 2t)_+^{n - 1}, \qquad t = 1 - (1 - p)^{1 / (n - 1)}, \quad p = \sigma(s)
    """
    precise = scores.double()
    off = torch.sigmoid(-precise)
    threshold = -torch.expm1(nn.functional.logsigmoid(-precise) / (samples - 1))
    # For a small p, 1 - P(0, 0) and p are both small, and so is the error of their difference.
    either = -torch.expm1((samples - 1) * torch.log1p(-(2 * threshold).clamp(max=1)))
    return torch.where(2 * threshold < 1, either - torch.sigmoid(precise), off).to(scores.dtype)


@final
class ARMS(Estimator):
    r"""ARMS: n antithetic samples of a bit vector, each the others' baseline; DisARM with n = 2.

    .. math:: \hat g_d = \frac{1}{n - 1} \sum_{i=1}^{n} \big(\ell(b^{(i)}) - \bar\ell\big)\,
        \frac{b^{(i)}_d - p_d}{1 - \rho_d}, \qquad p = \sigma(s), \quad
        1 - \rho_d = \frac{P(b^{(i)}_d = 1, b^{(j)}_d = 0)}{p_d (1 - p_d)}

    The samples of a bit share the noise of a Dirichlet copula, which makes them disagree more often than independent ones;
    :math:`\rho_d` is their correlation, known exactly. Decoder calls: ``samples``. Unbiased.

    Choose it for bit vectors where losses are no more than numbers: its variance is below that of leave-one-out at the same
    calls.

    Args:
        samples: samples of each example, n, at least 2.

    Raises:
        OptionError: if the number of samples is out of its range.

    References:
        - Dong, Mnih and Tucker (2020), DisARM, https://arxiv.org/abs/2006.10680.
        - Yin, Ho, Yan, Qian and Zhou (2020), Probabilistic best subset selection via gradient-based optimization (the same
          estimator, U2G), https://arxiv.org/abs/2006.06448.
        - Dimitriev and Zhou (2021), ARMS: antithetic-REINFORCE-multi-sample gradient for binary variables,
          https://arxiv.org/abs/2105.14141.
    """

    unbiased = True
    uses = frozenset({"bit_scores", "entropy"})

    def __init__(self, *, samples: int = 4) -> None:
        super().__init__()
        if samples < 2:
            raise OptionError("samples", f"must be at least 2, got {samples}")
        self.samples = samples

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        scores = space.bit_scores()
        bits = draws.antithetic_bits(torch.sigmoid(scores), self.samples)
        weights = space.full(1 / self.samples, space.batch_size * self.samples)
        memory = {"scores": scores, "bits": bits}
        return Proposal(space.select(bits), weights, space.entropy(), context=context, memory=memory)

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        losses = losses.view(-1, self.samples)
        scores, bits = proposal.memory["scores"], proposal.memory["bits"]
        with torch.no_grad():
            p = torch.sigmoid(scores)
            differ = disagreement(scores, self.samples)
            independent = p * torch.sigmoid(-scores)
            correction = torch.where(differ > 0, independent / differ, 0.0)
            signal = (losses - losses.mean(1, keepdim=True)) / (self.samples - 1)
            # The signals sum to zero, so that p drops out.
            gradient = (signal.unsqueeze(2) * bits).sum(1) * correction
        finite = scores.masked_fill(scores == -torch.inf, 0)
        value = losses.mean(1)
        return Estimate.of(proposal, surrogate=value + (gradient * finite).sum(1), value=value)


def disarm() -> ARMS:
    """DisARM: a pair of antithetic samples of a bit vector; ARMS with two samples.

    Decoder calls: 2.
    """
    return ARMS(samples=2)
