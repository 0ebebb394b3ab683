"""Synthetic data sets in the place of the published ones, and a machine that has nothing."""

import dataclasses
import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from latent.datasets import originals, sources
from latent.datasets.originals import FILES, ORIGINALS

SIZES = {"train_images": (40, 28, 28), "train_labels": (40,), "test_images": (10, 28, 28), "test_labels": (10,)}
MIRRORS = ("http://127.0.0.1:9/one/", "http://127.0.0.1:9/two/")  # where nobody listens


def idx_file(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def contents(seed):
    """The four files of a small data set, by array."""
    random = np.random.default_rng(seed)
    return {
        name: idx_file(random.integers(0, 256 if len(shape) > 1 else 10, shape, dtype=np.uint8))
        for name, shape in SIZES.items()
    }


PUBLISHED = {name: contents(seed) for seed, name in enumerate(ORIGINALS)}


def write_files(folder: Path, name="mnist", gz=True, **changes):
    """The published files, with the content of some changed; None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    for array, content in (PUBLISHED[name] | changes).items():
        if content is not None:
            file = folder / f"{FILES[array]}{'.gz' if gz else ''}"
            file.write_bytes(gzip.compress(content, 1) if gz else content)
    return folder


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    """No data, no mirrors, no package managers; the published files are the small ones. Returns the cache folder."""
    for name, files in PUBLISHED.items():
        hashes = {array: hashlib.sha256(content).hexdigest() for array, content in files.items()}
        small = dataclasses.replace(ORIGINALS[name], hashes=hashes, mirrors=MIRRORS)
        monkeypatch.setitem(originals.ORIGINALS, name, small)
    (tmp_path / "bin").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("DISCRETE_LATENT_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "KNOWN_FOLDERS", ("data", "~/data", str(tmp_path / "system")))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "cache"
