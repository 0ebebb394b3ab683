"""What every data set of a signaling game is: image features, a concept for each image, and a split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from estimators import OptionError, derived_seed
from latent.datasets.base import SPLITS, DataSet


@dataclass(frozen=True, eq=False)
class FeatureSet(DataSet):
    """Features ``[N, F]`` float32, labels ``[N]`` int64 from 0 to C - 1, split ``[N]`` int64, and the source it came from."""

    features: Tensor
    labels: Tensor
    split: Tensor
    source: str

    @classmethod
    def from_arrays(cls, features: np.ndarray, labels: np.ndarray, split: np.ndarray, source: str) -> FeatureSet:
        """Check the arrays and renumber the labels without gaps.

        Raises:
            ValueError: naming the array, and the first row where there is one, if shapes, types or values are wrong.
        """
        if features.ndim != 2 or 0 in features.shape or features.dtype.kind not in "fiu":
            raise ValueError(f"features must be a numeric matrix [N, F], got {features.dtype} {list(features.shape)}")
        for name, array in (("labels", labels), ("split", split)):
            if array.shape != features.shape[:1]:
                raise ValueError(f"{name} must be [{len(features)}], one for each row of features, got {list(array.shape)}")
        if split.dtype.kind not in "iub" or not np.isin(split, list(SPLITS.values())).all():
            codes = ", ".join(f"{code} ({name})" for name, code in SPLITS.items())
            raise ValueError(f"split must hold only the integers {codes}, got {np.unique(split)[:5].tolist()}")
        with np.errstate(over="ignore"):  # what single precision cannot hold is found below
            features = np.ascontiguousarray(features, dtype=np.float32)
        rows = np.flatnonzero(~np.isfinite(features).all(1))
        if len(rows):
            raise ValueError(f"features hold NaN or infinite values in {len(rows)} rows, the first is row {rows[0]}")
        if labels.dtype.kind not in "iuUS":
            raise ValueError(f"labels must be integers or names, got {labels.dtype}")
        marked = [name for name, code in SPLITS.items() if name != "validation" or code in split]
        for name in marked:
            concepts = len(np.unique(labels[split == SPLITS[name]]))
            if concepts < 2:
                raise ValueError(f"a game needs images of at least 2 concepts in every split, {name} has {concepts}")
        _, labels = np.unique(labels, return_inverse=True)
        return cls(
            torch.from_numpy(features),
            torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64)),
            torch.from_numpy(np.ascontiguousarray(split, dtype=np.int64)),
            source,
        )

    @property
    def content(self) -> Tensor:
        return self.features

    def normalised(self) -> FeatureSet:
        """The same with every feature vector scaled to unit Euclidean length; vectors of zeros stay zero."""
        features = torch.nn.functional.normalize(self.features, dim=1)
        return FeatureSet(features, self.labels, self.split, self.source)

    def with_validation(self, fraction: float) -> FeatureSet:
        """Move a fixed random fraction of each concept's training images, at least one, to the validation split.

        The choice depends on nothing but the labels and the split, so that it is the same for every run. A data set that
        already has validation images is returned as it is.

        Raises:
            OptionError: if a concept has no two training images to divide, or would keep none.
        """
        if (self.split == SPLITS["validation"]).any():
            return self
        if fraction not in self._with_validation:
            self._with_validation[fraction] = self._divided(fraction)
        return self._with_validation[fraction]

    @cached_property
    def _with_validation(self) -> dict[float, FeatureSet]:
        """What was made of this set before: a sweep asks for the same division, and its fingerprint, for every run."""
        return {}

    def _divided(self, fraction: float) -> FeatureSet:
        train = self.rows("train")
        shuffled = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(derived_seed("validation images")))]
        order = shuffled[self.labels[shuffled].argsort(stable=True)]
        labels = self.labels[order]
        counts = torch.bincount(labels, minlength=int(self.labels.max()) + 1)
        scarce = (counts == 1).nonzero()[:, 0]
        if len(scarce):
            raise OptionError(
                "validation_fraction",
                f"{len(scarce)} concepts have a single training image, so none can be kept for validation; "
                f"mark validation images with {SPLITS['validation']} in the split of {self.source}",
            )
        place = torch.arange(len(order)) - (counts.cumsum(0) - counts)[labels]
        kept = (counts * fraction).round().long().clamp(min=1)
        if (kept == counts)[counts > 0].any():
            raise OptionError("validation_fraction", f"{fraction} leaves a concept without any training image")
        split = self.split.clone()
        split[order[place < kept[labels]]] = SPLITS["validation"]
        return FeatureSet(self.features, self.labels, split, self.source)


def existing_file(path: str) -> Path:
    """The file that a data set's option ``path`` names.

    Raises:
        OptionError: if there is no such file.
    """
    try:
        file = Path(path).expanduser().absolute()
        there, is_file = file.exists(), file.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        raise OptionError("path", f"{path!r} names no file: {error}") from error
    if not is_file:
        raise OptionError("path", f"{file} is {'not a file' if there else 'missing'}")
    return file
