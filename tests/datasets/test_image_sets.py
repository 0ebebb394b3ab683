"""What the data sets hold, how they are divided, and what a run without them is told."""

import numpy as np
import pytest
import torch

from estimators import OptionError
from latent.datasets import DATASETS, SPLITS, digits, idx, mnist, prepare, store
from latent.datasets.fashion_mnist import split as fashion_split
from latent.datasets.mnist import split as mnist_split
from tests.datasets.conftest import PUBLISHED, write_files


def sizes(data):
    return [len(data.rows(split)) for split in ("train", "validation", "test")]


def test_digits_are_embedded_and_divided():
    data = digits()
    assert data.images.shape == (1797, 8, 8)
    assert data.images.dtype == torch.uint8
    assert (int(data.images.min()), int(data.images.max()), data.classes) == (0, 255, 10)
    assert len(data.images.unique()) == 17
    assert sizes(data) == [1297, 200, 300]
    assert data.fingerprint == digits().fingerprint == "1993c82ea02fdc0f"
    assert torch.bincount(data.labels[:100], minlength=10).min() > 0  # the first training images are a random subset


def test_digits_mean_something():
    """A nearest-centroid classifier knows nine of ten test images."""
    data = digits()
    pixels, labels = data.images.flatten(1).float(), data.labels
    train, test = data.rows("train"), data.rows("test")
    centroids = torch.stack([pixels[train][labels[train] == label].mean(0) for label in range(10)])
    found = torch.cdist(pixels[test], centroids).argmin(1)
    assert (found == labels[test]).double().mean() > 0.85


@pytest.mark.parametrize("labelled", [1, 100, 5000])
def test_the_split_of_mnist_is_the_published_experiments(labelled):
    random, rows, free = np.random.RandomState(351245), np.arange(60_000), np.ones(60_000, bool)
    validation = random.choice(rows, 10_000, replace=False)
    free[validation] = False
    expected = random.choice(rows[free], labelled, replace=False)
    train, kept = mnist_split(60_000, 10_000)
    assert np.array_equal(kept, validation)
    assert np.array_equal(train[:labelled], expected)
    assert np.array_equal(np.sort(np.concatenate([train, kept])), rows)


def test_the_validation_images_of_fashion_mnist_are_the_last_ones():
    train, kept = fashion_split(60_000, 5_000)
    assert np.array_equal(kept, np.arange(55_000, 60_000))
    assert np.array_equal(np.sort(train), np.arange(55_000))
    assert train[:5].tolist() == [24483, 27046, 40110, 35760, 12352]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("kind", ["cache", "prepared folder", "published files"])
def test_images_and_labels_stay_together(tmp_path, name, kind):
    files = write_files(tmp_path / "files", name)
    path = None
    if kind == "published files":
        path = str(files)
    else:
        file = prepare(name, None if kind == "cache" else tmp_path / "other", files)
        path = None if kind == "cache" else str(file.parent)
    data = DATASETS[name](validation=7, path=path)
    assert sizes(data) == [33, 7, 10]
    assert data.labels.dtype == data.split.dtype == torch.int64
    images, labels = (idx.parse(PUBLISHED[name][array]) for array in ("train_images", "train_labels"))
    train, kept = (mnist_split if name == "mnist" else fashion_split)(40, 7)
    for rows, split in ((train, "train"), (kept, "validation")):
        assert np.array_equal(data.images[data.split == SPLITS[split]].numpy(), images[rows])
        assert data.labels[data.split == SPLITS[split]].tolist() == labels[rows].tolist()
    assert np.array_equal(data.images[data.rows("test")].numpy(), idx.parse(PUBLISHED[name]["test_images"]))


@pytest.mark.parametrize("validation", [0, -1, 40])
def test_validation_out_of_range(tmp_path, validation):
    write_files(tmp_path / "files")
    with pytest.raises(OptionError, match="must be from 1 to 39") as caught:
        mnist(validation=validation, path=str(tmp_path / "files"))
    assert caught.value.option == "validation"


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_without_data_the_command_is_named(empty_machine, name):
    with pytest.raises(OptionError, match=f"with: latent data prepare {name}$") as caught:
        DATASETS[name]()
    assert caught.value.option == "name"
    assert f"{empty_machine}/{name}.npz is missing" in caught.value.message
    assert not empty_machine.exists()


def corrupt(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def replace_array(file, **changes):
    with np.load(file) as archive:
        content = {name: archive[name] for name in archive if changes.get(name, 0) is not None}
    np.savez_compressed(file, **content | {name: array for name, array in changes.items() if array is not None})


@pytest.mark.parametrize(
    "damage",
    [
        corrupt,
        lambda file: file.write_bytes(file.read_bytes()[:-100]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"PK\x03\x04" + b"\0" * 100),
        lambda file: replace_array(file, train_labels=None),
        lambda file: replace_array(file, record=None),
        lambda file: replace_array(file, train_labels=np.zeros(40, np.uint8)),
        lambda file: replace_array(file, test_labels=np.zeros(10)),
        lambda file: replace_array(file, record=np.array({}, dtype=object)),
    ],
)
def test_a_damaged_cache_is_named_and_mended(tmp_path, damage):
    file = prepare("mnist", from_path=write_files(tmp_path / "work/data"))
    whole = file.read_bytes()
    damage(file)
    with pytest.raises(OptionError, match=r"mend it with: latent data prepare mnist$") as caught:
        mnist(validation=5)
    assert f"{file} is damaged" in caught.value.message
    prepare("mnist")
    assert file.read_bytes() == whole
    assert sizes(mnist(validation=5)) == [35, 5, 10]


@pytest.mark.parametrize("path", ["nowhere", "~nobody-of-this-name/data", "\0"])
def test_a_path_that_is_no_folder(path):
    with pytest.raises(OptionError) as caught:
        mnist(path=path)
    assert caught.value.option == "path"


def test_a_path_with_other_files(tmp_path):
    write_files(tmp_path / "files", "fashion_mnist")
    with pytest.raises(OptionError, match="is not the published file"):
        mnist(path=str(tmp_path / "files"))
    with pytest.raises(OptionError, match="no file of MNIST, such as train-images-idx3-ubyte"):
        mnist(path=str(tmp_path))


def test_where_the_cache_is(tmp_path, monkeypatch):
    assert store.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("DISCRETE_LATENT_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert store.cache_folder() == tmp_path / "xdg/discrete-latent"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store.cache_folder() == tmp_path / "home/.cache/discrete-latent"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:2], "cut off after 2 bytes"),
        (lambda content: content[:6], "cut off after 6 bytes"),
        (lambda content: content[:-1], r"is cut off: 47 bytes, 48 are needed for \[40\]"),
        (lambda content: content + b"\0", "goes on too long"),
        (lambda content: b"<html>" + content, "no IDX file of unsigned bytes: it starts with 3c68746d"),
        (lambda content: b"\0\0\x0d" + content[3:], "no IDX file of unsigned bytes"),
    ],
)
def test_what_is_no_idx_file(change, message):
    with pytest.raises(ValueError, match=message):
        idx.parse(change(PUBLISHED["mnist"]["train_labels"]))
