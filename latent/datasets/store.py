"""The cache of prepared images: one compressed ``.npz`` file for each data set, whole and verified or not there."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latent.datasets import idx, originals
from latent.datasets.originals import FILES, ORIGINALS, DataError
from latent.files import write_atomically


@dataclass(frozen=True)
class Prepared:
    """Verified arrays: images uint8 ``[N, 28, 28]``, labels uint8 ``[N]``, for training and test; and where they came from."""

    arrays: dict[str, np.ndarray]
    source: str


def cache_folder() -> Path:
    """``$DISCRETE_LATENT_DATA``, else ``$XDG_CACHE_HOME/discrete-latent``, else ``~/.cache/discrete-latent``."""
    chosen = os.environ.get("DISCRETE_LATENT_DATA")
    if chosen:
        return Path(chosen).expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache").absolute() / "discrete-latent"


def file_of(name: str, folder: Path) -> Path:
    """The file of a data set in a cache folder."""
    return folder / f"{name}.npz"


def save(name: str, folder: Path, prepared: Prepared) -> Path:
    """Write a data set's file in ``folder``, atomically.

    Raises:
        OSError: if it cannot be written.
    """
    record = {"name": name, "source": prepared.source, "sha256": ORIGINALS[name].hashes}
    content: dict[str, Any] = {**prepared.arrays, "record": np.array(json.dumps(record))}
    file = file_of(name, folder)
    write_atomically(file, lambda stream: np.savez_compressed(stream, **content))
    return file


def load(name: str, folder: Path) -> Prepared:
    """Read a data set's file; every array is compared with the hash of the published one.

    Raises:
        DataError: naming the file, if it is missing or damaged.
    """
    file = file_of(name, folder)
    if not file.is_file():
        raise DataError(f"{file} is missing")
    try:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no .npz archive, or is cut off")
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            missing = [array for array in (*FILES, "record") if array not in archive]
            if missing:
                raise ValueError(f"there is no array {missing[0]!r} in it")
            arrays = {array: archive[array] for array in FILES}
            source = str(json.loads(archive["record"].item())["source"])
    except Exception as error:  # a damaged archive can raise nearly anything
        raise DataError(f"{file} is damaged: {str(error) or type(error).__name__}") from error
    for array, values in arrays.items():
        if values.dtype != np.uint8 or idx.digest(values) != ORIGINALS[name].hashes[array]:
            raise DataError(f"{file} is damaged: {array} ({values.dtype} {list(values.shape)}) is not what was published")
    return Prepared(arrays, source)


def read(name: str, folder: Path) -> Prepared:
    """A data set from any folder: a prepared file, or the published files as torchvision, Debian or a download left them.

    Raises:
        DataError: with what is wrong at every place within the folder that holds a file of the data set.
    """
    original = ORIGINALS[name]
    problems = []
    if file_of(name, folder).is_file():
        try:
            return load(name, folder)
        except DataError as error:
            problems.append(str(error))
    for place in originals.candidates(original, folder):
        try:
            return Prepared(originals.read(original, place), f"files in {place.absolute()}")
        except DataError as error:
            problems.append(str(error))
    if not problems:
        places = ", ".join(str(folder / inner) for inner in original.folders)
        problems.append(f"no file of {original.title}, such as {FILES['train_images']}[.gz], in {places}")
    raise DataError("; ".join(problems))
