"""What every data set of images is: grey images, labels, and a split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

SPLITS = {"train": 0, "test": 1, "validation": 2}
"""Codes of the splits in :attr:`ImageSet.split`."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Grey images with labels.

    The training images come in a fixed random order, so that the first n of them are a random subset: those whose labels a
    semi-supervised model may see.

    Attributes:
        images: ``[N, H, W]`` uint8, 0 to 255.
        labels: ``[N]`` int64, 0 to C - 1.
        split: ``[N]`` int64, one of :data:`SPLITS`.
        source: where the images are from, in words.
    """

    images: Tensor
    labels: Tensor
    split: Tensor
    source: str

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content: two data sets with the same one are the same."""
        digest = hashlib.sha256()
        for tensor in (self.images, self.labels, self.split):
            digest.update(str(list(tensor.shape)).encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def classes(self) -> int:
        """Number of labels, C."""
        return int(self.labels.max()) + 1

    def rows(self, split: str) -> Tensor:
        """``[M]`` int64: the rows of ``train``, ``validation`` or ``test``, in order."""
        return (self.split == SPLITS[split]).nonzero()[:, 0]
