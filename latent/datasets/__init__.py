"""Data sets of images, behind one interface: grey images, labels and a split."""

from __future__ import annotations

from collections.abc import Callable

from estimators.parts import Registry
from latent.datasets.base import GROUP, SPLITS, DataSet, ImageSet
from latent.datasets.digits import digits
from latent.datasets.fashion_mnist import fashion_mnist
from latent.datasets.mnist import mnist
from latent.datasets.originals import DataError
from latent.datasets.preparation import listing, prepare

DATASETS = Registry[Callable[..., ImageSet]](
    "data set",
    {"digits": digits, "mnist": mnist, "fashion_mnist": fashion_mnist},
    makes=ImageSet,
    group=GROUP,
    family=DataSet,
)
"""Data sets by name; other distributions add those that their return annotation says to be an :class:`ImageSet`."""

__all__ = ["DATASETS", "SPLITS", "DataError", "ImageSet", "listing", "prepare"]
