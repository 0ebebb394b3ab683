"""Data sets of images, behind one interface: grey images, labels and a split."""

from __future__ import annotations

from collections.abc import Callable

from latent.datasets.base import SPLITS, ImageSet
from latent.datasets.digits import digits
from latent.datasets.fashion_mnist import fashion_mnist
from latent.datasets.mnist import mnist
from latent.datasets.originals import DataError
from latent.datasets.preparation import listing, prepare

DATASETS: dict[str, Callable[..., ImageSet]] = {"digits": digits, "mnist": mnist, "fashion_mnist": fashion_mnist}

__all__ = ["DATASETS", "SPLITS", "DataError", "ImageSet", "listing", "prepare"]
