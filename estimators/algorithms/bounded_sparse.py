"""Bounded sparse marginalization: sparsemax marginalization that never makes more than m decoder calls."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from estimators.base import Estimate, Estimator, Proposal
from estimators.draws import Draws
from estimators.mappings import alpha_entmax, gini_entropy, sparse_entmax, support_entropy
from estimators.options import OptionError
from estimators.spaces import Space


@final
class BoundedSparse(Estimator):
    r"""Bounded sparse marginalization: a support of up to m states is summed; of a larger one, a part is sampled.

    .. math:: L = \sum_{k \in H} q_k \ell(k) + \frac{n}{r} \sum_{k \in T} q_k \ell(k), \qquad q = \mathrm{sparsemax}(s)

    H are the h heaviest states, T is a uniform sample, without replacement, of r = m - h of the n others in the support. The
    decoder's gradient is that of this sum. The encoder's has a control variate made of the sampled losses themselves:

    .. math:: \hat g = \sum_{k \in H} (\ell(k) - \bar\ell)\, \nabla q_k
        + \frac{n - 1}{r - 1} \sum_{k \in T} (\ell(k) - \bar\ell)\, \nabla q_k, \qquad
        \bar\ell = \frac{1}{r} \sum_{k \in T} \ell(k)

    The factor is n / r for the sampling, times :math:`\frac{(n - 1) / n}{(r - 1) / r}` because losses that are centred on
    their own mean shrink; with it, and since :math:`\sum_k \nabla q_k = 0`, both gradients are unbiased. A uniform sample
    suits the encoder: sparsemax's Jacobian treats every state of the support alike, however little mass it has.
    Decoder calls: the size of the support, and never more than ``budget``. Exact for examples whose support fits.

    Choose it in place of sparsemax where the large supports of the first steps do not fit into memory or time.

    Args:
        budget: most decoder calls of an example, m, at least 2.
        summed: states of a larger support that are summed, h, at most m - 2. More of them lower the variance of the decoder's
            gradient, and raise that of the encoder's.

    Raises:
        OptionError: if an option is out of its range.

    References:
        - The estimator is this project's own. Its parts: Correia, Niculae, Aziz and Martins (2020), Efficient marginalization
          of discrete and structured latent variables via sparsity, https://arxiv.org/abs/2007.01919.
        - Liu, Regier, Tripuraneni, Jordan and McAuliffe (2019), Rao-Blackwellized stochastic gradients for discrete
          distributions, https://arxiv.org/abs/1810.04777, for summing the heaviest states.
        - Horvitz and Thompson (1952), A generalization of sampling without replacement from a finite universe,
          https://doi.org/10.1080/01621459.1952.10483446.
    """

    unbiased = True
    sparse = True
    regulariser = staticmethod(gini_entropy)
    uses = frozenset({"all_states", "score", "k_best"})

    def __init__(self, *, budget: int = 32, summed: int = 0) -> None:
        super().__init__()
        if budget < 2:
            raise OptionError("budget", f"must be at least 2, got {budget}")
        if not 0 <= summed <= budget - 2:
            raise OptionError("summed", f"must lie between 0 and budget - 2 = {budget - 2}, got {summed}")
        self.budget = budget
        self.summed = summed
        self.sampled = budget - summed

    def probabilities(self, space: Space) -> Tensor:
        return alpha_entmax(space.all_scores, 2.0)

    def propose(self, space: Space, draws: Draws, context: Tensor | None = None) -> Proposal:
        places, q = sparse_entmax(space.all_scores, 2.0)
        support = q.detach() > 0
        size = support.sum(1, keepdim=True)
        beyond = size > self.budget
        heaviest = support & self._summed(space, places)
        tail = self._tail(support & ~heaviest & beyond, beyond, draws, q.dtype)
        keep = torch.where(beyond, heaviest | tail, support)
        others = (size - self.summed).to(q.dtype)
        weights = torch.where(tail, q * others / self.sampled, q)
        return Proposal(
            space.select(space.at(places), keep),
            weights[keep],
            support_entropy(q).sum(1),
            context=context,
            memory={"tail": tail[keep], "others": others[:, 0], "beyond": beyond[:, 0]},
            metrics={"support": size[:, 0].to(q.dtype), "beyond_budget": beyond[:, 0].to(q.dtype)},
        )

    def _summed(self, space: Space, places: Tensor) -> Tensor:
        """``[B, W]``: which of the states at ``places`` are among the heaviest of all."""
        none = torch.zeros(space.batch_size, int(space.states), dtype=torch.bool, device=places.device)
        return none.scatter(1, space.code(space.k_best(self.summed)), True).gather(1, places)

    def _tail(self, rest: Tensor, beyond: Tensor, draws: Draws, dtype: torch.dtype) -> Tensor:
        """``[B, W]``: which of the others are sampled; none where the support fits."""
        none = torch.zeros_like(rest)
        if not beyond.any():
            return none
        # An example whose support fits needs no draw: all its mass is on one state, and what follows it does not count.
        eligible = torch.where(beyond, rest, none.index_fill(1, beyond.new_zeros(1, dtype=torch.int64), True)).to(dtype)
        chosen = draws.without_replacement(eligible / eligible.sum(1, keepdim=True), self.sampled)
        return none.scatter(1, chosen, True) & rest

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        latents, weights = proposal.pairs, proposal.weights
        tail, others, beyond = (proposal.memory[key] for key in ("tail", "others", "beyond"))
        detached = losses.detach()
        mean = torch.where(beyond, latents.sum(tail * detached) / self.sampled, 0)
        grown = (others - 1) / others * self.sampled / (self.sampled - 1)
        signal = (detached - latents.gather(mean)) * torch.where(tail, latents.gather(grown), 1.0)
        value = latents.sum(weights.detach() * losses)
        return Estimate.of(proposal, surrogate=value + latents.sum(weights * signal), value=value)
