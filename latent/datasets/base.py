"""What every data set is: content to learn from, labels, and a split; and what one of images is."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

SPLITS = {"train": 0, "test": 1, "validation": 2}
"""Codes of the splits in :attr:`DataSet.split`."""

GROUP = "discrete_latent.datasets"
"""The group of entry points through which other distributions add data sets, each to the tasks whose kind of data it is."""


class DataSet(ABC):
    """Examples with labels, each in one split.

    Attributes:
        labels: ``[N]`` int64, 0 to C - 1.
        split: ``[N]`` int64, one of :data:`SPLITS`.
        source: where the examples are from, in words.
    """

    labels: Tensor
    split: Tensor
    source: str

    @property
    @abstractmethod
    def content(self) -> Tensor:
        """What there is of each example but its label, ``[N, ...]``."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content: two data sets with the same one are the same."""
        digest = hashlib.sha256()
        for tensor in (self.content, self.labels, self.split):
            digest.update(str(list(tensor.shape)).encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def rows(self, split: str) -> Tensor:
        """``[M]`` int64: the rows of ``train``, ``validation`` or ``test``, in order."""
        return (self.split == SPLITS[split]).nonzero()[:, 0]


@dataclass(frozen=True, eq=False)
class ImageSet(DataSet):
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

    @property
    def content(self) -> Tensor:
        return self.images

    @property
    def classes(self) -> int:
        """Number of labels, C."""
        return int(self.labels.max()) + 1
