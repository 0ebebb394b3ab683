"""Prepared data sets as parts of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from estimators import OptionError
from latent.datasets import store
from latent.datasets.base import SPLITS, ImageSet
from latent.datasets.originals import ORIGINALS, DataError
from latent.datasets.preparation import COMMAND

Split = Callable[[int, int], tuple[np.ndarray, np.ndarray]]
"""From the numbers of images and of validation images to the rows of training images, in order, and of validation images."""


def image_set(name: str, path: str | None, validation: int, split: Split) -> ImageSet:
    """A prepared data set with its published test images, and its training images divided by ``split``.

    Raises:
        OptionError: if the images are not there, saying how to get them, or ``validation`` leaves no image on either side.
    """
    prepared = _read(name, path)
    images, labels = prepared.arrays["train_images"], prepared.arrays["train_labels"]
    if not 1 <= validation < len(labels):
        raise OptionError("validation", f"must be from 1 to {len(labels) - 1:,}, got {validation:,}")
    train, kept = split(len(labels), validation)
    order = np.concatenate([train, kept])
    test = prepared.arrays["test_labels"]
    codes = np.repeat([SPLITS["train"], SPLITS["validation"], SPLITS["test"]], [len(train), len(kept), len(test)])
    return ImageSet(
        torch.from_numpy(np.concatenate([images[order], prepared.arrays["test_images"]])),
        torch.from_numpy(np.concatenate([labels[order], test]).astype(np.int64)),
        torch.from_numpy(codes.astype(np.int64)),
        f"{ORIGINALS[name].title} ({prepared.source})",
    )


def _read(name: str, path: str | None) -> store.Prepared:
    if path is None:
        folder = store.cache_folder()
        there = store.file_of(name, folder).exists()
        try:
            return store.load(name, folder)
        except DataError as error:
            remedy = "mend it with" if there else f"get {ORIGINALS[name].title} with"
            raise OptionError("name", f"{error}; {remedy}: {COMMAND.format(name)}") from error
    try:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise OptionError("path", f"{path!r} is no folder here")
        return store.read(name, folder)
    except (DataError, RuntimeError, OSError) as error:
        raise OptionError("path", str(error)) from error
