"""Training steps of the signaling game in plain torch, written by hand for one estimator each: the baselines of the benchmarks.

The same networks, sizes, data and optimiser as the framework's, and the same mathematics at its cheapest: what one would write
without the framework to train one estimator, and nothing else. They draw their games by the same recipe.
"""

from __future__ import annotations

import entmax
import torch
from torch import Tensor, nn

from games.sampling import GameSampler


class ByHand:
    """Shared parameters of the hand-written steps: an MLP sender and a dot-product receiver."""

    def __init__(self, features: Tensor, sampler: GameSampler, vocabulary: int, hidden: int, batch: int) -> None:
        size = features.shape[1]
        self.features, self.sampler, self.batch = features, sampler, batch
        self.sender = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, vocabulary))
        self.candidates = nn.Linear(size, hidden, bias=False)
        self.table = nn.Parameter(torch.empty(vocabulary, hidden).uniform_(-(vocabulary**-0.5), vocabulary**-0.5))
        parameters = [*self.sender.parameters(), *self.candidates.parameters(), self.table]
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
        self.games, self.noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)

    def step(self) -> float:
        """Draw a batch, one step of Adam; returns the loss."""
        images, target = self.sampler.draw(self.batch, self.games)
        scores = self.sender(self.features[images[torch.arange(self.batch), target]])
        embedded = self.candidates(self.features[images])
        objective, loss = self.objective(scores, embedded, target)
        self.optimizer.zero_grad(set_to_none=True)
        objective.backward()
        self.optimizer.step()
        return float(loss)

    def objective(self, scores: Tensor, embedded: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        raise TypeError("use a subclass")


class Dense(ByHand):
    """Every message, one product with the whole table."""

    def objective(self, scores: Tensor, embedded: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logits = embedded @ self.table.t()
        chosen = logits.gather(1, target[:, None, None].expand(-1, 1, logits.shape[2]))[:, 0]
        losses = logits.logsumexp(1) - chosen
        log_q = scores.log_softmax(1)
        value = (log_q.exp() * losses).sum(1).mean()
        return value + 0.1 * (log_q.exp() * log_q).sum(1).mean(), value.detach()


class Sparse(ByHand):
    """The support of sparsemax, padded to its largest size."""

    def objective(self, scores: Tensor, embedded: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        q = entmax.sparsemax(scores, dim=1)
        width = int((q > 0).sum(1).max())
        weights, index = q.topk(width, dim=1)
        logits = nn.functional.embedding(index, self.table) @ embedded.transpose(1, 2)
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), target.repeat_interleave(width), reduction="none").view_as(
            weights
        )
        value = (weights * losses).sum(1).mean()
        used = weights.clamp(min=1e-30)
        return value + 0.05 * (weights * used.log()).sum(1).mean(), value.detach()


class ScoreFunction(ByHand):
    """One sampled message, no baseline."""

    def objective(self, scores: Tensor, embedded: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        log_q = scores.log_softmax(1)
        message = torch.multinomial(log_q.exp(), 1, generator=self.noise)
        logits = (embedded @ self.table[message[:, 0]].unsqueeze(2))[..., 0]
        losses = nn.functional.cross_entropy(logits, target, reduction="none")
        surrogate = losses + losses.detach() * log_q.gather(1, message)[:, 0]
        return surrogate.mean() + 0.05 * (log_q.exp() * log_q).sum(1).mean(), losses.detach().mean()
