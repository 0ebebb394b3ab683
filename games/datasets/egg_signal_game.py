"""The original data of the signal game: an HDF5 file of features and a pickle of object names for each split."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from estimators import OptionError
from games.datasets.base import FeatureSet, existing_file
from latent.datasets.base import SPLITS

_ALLOWED = {  # all that a pickled NumPy array of names needs
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles NumPy arrays and refuses whatever else a pickle may name, before it is imported or called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not part of an array; refused")
        return super().find_class(module, name)


def _names(file: Path) -> list[str]:
    with file.open("rb") as stream:
        names = _ArrayUnpickler(stream, encoding="latin1").load()
    if not isinstance(names, np.ndarray | list) or not all(isinstance(name, str | bytes) for name in names):
        raise ValueError(f"it holds a {type(names).__name__} of something else than names")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _features(file: Path) -> np.ndarray:
    try:
        import h5py
    except ImportError as error:
        raise OptionError("name", "needs h5py: pip install 'discrete-latent[hdf5]'") from error
    with h5py.File(file, "r") as archive:
        arrays = [item for item in archive.values() if isinstance(item, h5py.Dataset)]
        if len(arrays) != 1:
            raise ValueError(f"it must hold one data set, it holds {len(arrays)}")
        return np.asarray(arrays[0])


def egg_signal_game(*, path: str) -> FeatureSet:
    """The original game's folder: HDF5 features and pickled names in train/ and test/; features are scaled to unit length.

    Args:
        path: the folder that holds ``train`` and ``test``, each with ``ours_images_single_sm0.h5`` and ``.objects``.
    """
    features, labels, split = [], [], []
    for part in ("train", "test"):
        stem = Path(path) / part / "ours_images_single_sm0"
        files = [existing_file(f"{stem}.h5"), existing_file(f"{stem}.objects")]
        reading = files[0]
        try:
            features.append(_features(reading))
            reading = files[1]
            names = _names(reading)
            if len(names) != len(features[-1]):
                raise ValueError(f"it has {len(names)} names, {files[0].name} has {len(features[-1])} rows")
        except OptionError:
            raise
        except Exception as error:  # a damaged pickle can raise anything
            raise OptionError("path", f"{reading} cannot be read: {error}") from error
        labels += [name.split("_")[0] for name in names]
        split += [SPLITS[part]] * len(names)
    try:
        data = FeatureSet.from_arrays(np.concatenate(features), np.array(labels), np.array(split), source=path)
    except ValueError as error:
        raise OptionError("path", f"{path} cannot be read as features: {error}") from error
    return data.normalised()
