"""Training steps of latent-variable models in plain torch, written by hand for one estimator each: baselines of the benchmarks.

The same networks, sizes, data and optimiser as the framework's, and the same mathematics: what one would write without the
framework to train one estimator, and nothing else. They draw their batches by the same recipe.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from latent.datasets import ImageSet


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class ByHand(nn.Module):
    """What the hand-written steps share: images, random numbers and one step of Adam."""

    def __init__(self, data: ImageSet, batch: int) -> None:
        super().__init__()
        self.levels, self.labels = data.images.flatten(1), data.labels
        self.rows, self.batch, self.pixels = data.rows("train"), batch, self.levels.shape[1]
        self.batches, self.noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)

    def optimise(self, weight_decay: float) -> None:
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-3, weight_decay=weight_decay, fused=True)

    def draw(self, rows: Tensor) -> Tensor:
        return rows[torch.randint(len(rows), (self.batch,), generator=self.batches)]

    def step(self) -> float:
        """Draw a batch, one step of Adam; returns the objective."""
        objective = self.objective()
        self.optimizer.zero_grad(set_to_none=True)
        objective.backward()
        self.optimizer.step()
        return float(objective.detach())

    def objective(self) -> Tensor:
        raise TypeError("use a subclass")


class DenseSemiSupervised(ByHand):
    """The semi-supervised auto-encoder, all labels of an image in one batch: no loop over them.

    The first layers' products with an image and with a label are made once each, and added for every pair.
    """

    def __init__(self, data: ImageSet, batch: int, labelled: int) -> None:
        super().__init__(data, batch)
        self.seen, self.unseen = self.rows[:labelled], self.rows[labelled:]
        self.classes, self.size = data.classes, 8
        self.classifier = mlp(self.pixels, 256, 256, 256, self.classes)
        self.encoder_label, self.decoder_label = nn.Embedding(self.classes, 128), nn.Embedding(self.classes, 128)
        self.encoder_image, self.decoder_style = nn.Linear(self.pixels, 128), nn.Linear(self.size, 128)
        self.encoder_rest = nn.Sequential(nn.ReLU(), mlp(128, 128, 2 * self.size))
        self.decoder_rest = nn.Sequential(nn.ReLU(), mlp(128, 128, self.pixels))
        self.optimise(weight_decay=1e-5)

    def binarised(self, rows: Tensor) -> Tensor:
        levels = self.levels[rows]
        return (torch.randint(0, 255, levels.shape, dtype=torch.uint8, generator=self.batches) < levels).float()

    def bound(self, images: Tensor, labels: Tensor) -> Tensor:
        """Negative bounds ``[B, S]`` of images ``[B, P]`` with labels ``[S]`` for all of them, or ``[B, 1]``."""
        hidden = self.encoder_image(images).unsqueeze(1) + self.encoder_label(labels)
        mean, log_variance = self.encoder_rest(hidden).chunk(2, -1)
        noise = torch.randn(len(images), 1, self.size, generator=self.noise)
        style = mean + (log_variance / 2).exp() * noise
        logits = self.decoder_rest(self.decoder_style(style) + self.decoder_label(labels))
        target = images.unsqueeze(1).expand_as(logits)
        distortion = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
        return distortion + (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1) / 2

    def objective(self) -> Tensor:
        seen = self.draw(self.seen)
        labels, images, unlabelled = self.labels[seen], self.binarised(seen), self.binarised(self.draw(self.unseen))
        labelled_scores, scores = self.classifier(torch.cat([images, unlabelled])).chunk(2)
        supervised = functional.cross_entropy(labelled_scores, labels) + self.bound(images, labels.unsqueeze(1)).mean()
        log_q = scores.log_softmax(1)
        expected = (log_q.exp() * (self.bound(unlabelled, torch.arange(self.classes)) + log_q)).sum(1).mean()
        return supervised + 9 * expected


class ScoreFunctionBits(ByHand):
    """The bit-vector auto-encoder with one sampled vector an image, a moving average of losses, and all logits at once."""

    def __init__(self, data: ImageSet, batch: int, bits: int) -> None:
        super().__init__(data, batch)
        self.encoder, self.decoder = mlp(self.pixels, 128, bits), mlp(bits, 128, self.pixels * 5)
        self.last = nn.Linear(5, 256)
        self.average = torch.zeros(())
        self.optimise(weight_decay=0)

    def objective(self) -> Tensor:
        levels = self.levels[self.draw(self.rows)]
        scores = self.encoder(levels.float() / 255)
        q = scores.sigmoid()
        bits = torch.bernoulli(q.detach(), generator=self.noise)
        logits = self.last(self.decoder(bits).unflatten(1, (self.pixels, 5)))
        losses = functional.cross_entropy(logits.flatten(0, 1), levels.flatten().long(), reduction="none")
        losses = losses.view_as(levels).sum(1)
        log_q = -functional.binary_cross_entropy_with_logits(scores, bits, reduction="none").sum(1)
        surrogate = losses + (losses.detach() - self.average) * log_q
        self.average = self.average.lerp(losses.detach().mean(), 0.01)
        entropy = (functional.softplus(scores) - scores * q).sum(1)
        return (surrogate - entropy).mean()
