"""Any ``.npz`` file of image features."""

from __future__ import annotations

import zipfile

import numpy as np

from estimators import OptionError
from games.datasets.base import FeatureSet, existing_file


def features(*, path: str, normalise: bool = False) -> FeatureSet:
    """Image features from an ``.npz`` file with the arrays ``features`` [N, F], ``labels`` [N] and ``split`` [N].

    Args:
        path: the file, relative to the working directory; ``split`` is 0 for training, 1 for test and, where there are any, 2
            for validation images.
        normalise: scale every feature vector to unit length.
    """
    file = existing_file(path)
    try:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no .npz archive; numpy.savez makes one")
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            missing = [name for name in ("features", "labels", "split") if name not in archive]
            if missing:
                raise ValueError(f"there is no array {missing[0]!r} in it; it holds: {', '.join(archive) or 'nothing'}")
            data = FeatureSet.from_arrays(archive["features"], archive["labels"], archive["split"], source=str(file))
    except Exception as error:  # a damaged archive can raise nearly anything
        raise OptionError("path", f"{file} cannot be read as features: {error}") from error
    return data.normalised() if normalise else data
