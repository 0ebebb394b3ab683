"""Drawing games: distinct concepts, one image of each, one of them the target."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from estimators import OptionError
from games.datasets.base import FeatureSet


class Games(NamedTuple):
    """``images`` ``[B, C]``: rows of the data set that the receiver sees; ``target`` ``[B]``: the place of the target."""

    images: Tensor
    target: Tensor

    @property
    def target_image(self) -> Tensor:
        """``[B]``: the row of the data set that the sender sees."""
        return self.images.gather(1, self.target[:, None])[:, 0]

    def to(self, device: torch.device) -> Games:
        """The same games on another device."""
        return Games(*(part.to(device, non_blocking=True) for part in self))


class GameSampler:
    """Draws games from the images of one split; every concept with an image there is as likely as any other.

    Args:
        data: the data set.
        split: ``train``, ``validation`` or ``test``.
        candidates: distinct concepts of a game.

    Raises:
        OptionError: if the split has fewer concepts than a game needs.
    """

    def __init__(self, data: FeatureSet, split: str, candidates: int) -> None:
        rows = data.rows(split)
        self.images = rows[data.labels[rows].argsort(stable=True)]
        counts = torch.bincount(data.labels[rows], minlength=1)
        self.first = (counts.cumsum(0) - counts)[counts > 0]
        self.counts = counts[counts > 0]
        self.candidates = candidates
        if not 2 <= candidates <= len(self.counts):
            raise OptionError(
                "candidates",
                f"must lie between 2 and the {len(self.counts)} concepts with {split} images in {data.source}, "
                f"got {candidates}",
            )

    def draw(self, batch_size: int, generator: torch.Generator) -> Games:
        """``batch_size`` independent games. The candidates come in random order: the largest of random keys, ranked."""
        keys = torch.rand(batch_size, len(self.counts), generator=generator)
        concepts = keys.topk(self.candidates).indices
        image = torch.rand(concepts.shape, generator=generator, dtype=torch.float64) * self.counts[concepts]
        target = torch.randint(self.candidates, (batch_size,), generator=generator)
        return Games(self.images[self.first[concepts] + image.long()], target)
