"""Bounded sparse marginalization: sparsemax marginalization that never makes more than m decoder calls."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from estimators.base import Estimate, Estimator, OptionError, Proposal
from estimators.draws import Draws
from estimators.mappings import alpha_entmax, support_entropy
from estimators.spaces import Categorical


class LossTable(nn.Module):
    """A prediction of the loss of every state from the context: ``[B, ...]`` to ``[B, K]``. Sizes are those of the first call."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden = nn.LazyLinear(hidden_size)
        self.states = nn.LazyLinear(hidden_size, bias=False)  # its weight [H, K] holds a column for each state

    def forward(self, context: Tensor, states: int) -> Tensor:
        features = context.detach().flatten(1).to(self.hidden.bias.dtype)
        if isinstance(self.states.weight, UninitializedParameter):
            self.states(features.new_zeros(1, states))
        hidden = torch.tanh(self.hidden(features))
        prediction: Tensor = hidden @ self.states.weight
        return prediction


@final
class BoundedSparse(Estimator):
    unbiased = True

    def __init__(self, *, budget: int = 32, summed: int = 0, hidden_size: int = 0) -> None:
        super().__init__()
        if budget < 2:
            raise OptionError("budget", f"must be at least 2, got {budget}")
        if not 0 <= summed <= budget - 2:
            raise OptionError("summed", f"must lie between 0 and budget - 2 = {budget - 2}, got {summed}")
        self.budget = budget
        self.summed = summed
        self.table = LossTable(hidden_size) if hidden_size else None

    def probabilities(self, scores: Tensor) -> Tensor:
        return alpha_entmax(Categorical(scores).scores, 2.0)

    def propose(self, scores: Tensor, draws: Draws, context: Tensor | None = None) -> Proposal:
        space = Categorical(scores)
        q = alpha_entmax(space.scores, 2.0)
        support = q.detach() > 0
        size = support.sum(1, keepdim=True)
        beyond = size > self.budget
        keep, tail = support, torch.zeros_like(support)
        sampled = self.budget - self.summed
        if beyond.any():
            rest = support.scatter(1, q.detach().topk(self.summed, 1).indices, False) if self.summed else support
            first = torch.zeros_like(support).index_fill(1, torch.zeros_like(size[0]), True)
            eligible = torch.where(beyond, rest, first).to(q.dtype)
            chosen = draws.without_replacement(eligible / eligible.sum(1, keepdim=True), sampled)
            tail = torch.zeros_like(support).scatter(1, chosen, True) & rest & beyond
            keep = torch.where(beyond, (support & ~rest) | tail, support)
        others = (size - self.summed).to(q.dtype)
        weights = torch.where(tail, q * others / sampled, q)
        return Proposal(
            space.select(space.all_states(), keep),
            weights[keep],
            support_entropy(q).sum(1),
            context=context,
            memory={"q": q, "keep": keep, "tail": tail[keep], "others": others, "beyond": beyond},
            metrics={"beyond_budget": beyond[:, 0].to(q.dtype)},
        )

    def combine(self, proposal: Proposal, losses: Tensor) -> Estimate:
        latents, weights = proposal.latents, proposal.weights
        q, tail, keep = proposal.memory["q"], proposal.memory["tail"], proposal.memory["keep"]
        others, beyond = proposal.memory["others"], proposal.memory["beyond"]
        signal, known, auxiliary = losses.detach(), torch.zeros(()), None
        correction = 0.0
        if self.table is not None:
            assert proposal.context is not None
            prediction = self.table(proposal.context, q.shape[1]).to(q.dtype)
            auxiliary = (signal - prediction[keep]).square().mean()
            known = prediction.detach()
            correction = (q * known).sum(1)
            signal = signal - known[keep]
        sampled = self.budget - self.summed
        mean = latents.sum(tail * signal) / sampled
        baseline = latents.gather(torch.where(beyond[:, 0], mean, 0))
        # Centred on their own mean, the sampled losses shrink: (n - 1) / n of a population over (m - 1) / m of a sample.
        shrink = latents.gather((others[:, 0] - 1) / others[:, 0] * sampled / (sampled - 1))
        encoder = weights * (signal - baseline) * torch.where(tail, shrink, 1.0)
        decoder = latents.sum(weights.detach() * losses)
        return Estimate.of(proposal, surrogate=decoder + latents.sum(encoder) + correction, value=decoder, auxiliary=auxiliary)
