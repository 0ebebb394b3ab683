"""The embedded data set: small handwritten digits (see ``ATTRIBUTION.md``).

Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from latent.datasets.base import SPLITS, ImageSet

SEED = 1998
TRAIN, VALIDATION, TEST = 1297, 200, 300


def digits() -> ImageSet:
    """1,797 handwritten digits of 8 x 8 pixels, embedded: 1,297 for training, 200 for validation, 300 for test."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as archive:
        images, labels = archive["images"], archive["labels"]
    order = np.random.RandomState(SEED).permutation(len(labels))
    codes = np.repeat([SPLITS["train"], SPLITS["validation"], SPLITS["test"]], [TRAIN, VALIDATION, TEST])
    return ImageSet(
        torch.from_numpy(images[order]),
        torch.from_numpy(labels[order].astype(np.int64)),
        torch.from_numpy(codes.astype(np.int64)),
        "digits",
    )
