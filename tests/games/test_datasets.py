"""Data sets: what is read, what is refused, and that nothing runs while reading."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from estimators import OptionError
from games.datasets import SPLITS
from games.datasets.base import FeatureSet
from games.datasets.egg_signal_game import egg_signal_game
from games.datasets.emoji import emoji
from games.datasets.features import features
from games.datasets.synthetic import synthetic


def arrays(count=12):
    random = np.random.default_rng(0)
    return {
        "features": random.standard_normal((count, 5)).astype(np.float16),
        "labels": np.arange(count) % 3,
        "split": (np.arange(count) >= 9).astype(np.int64),
    }


def save(path: Path, **changes):
    content = {name: array for name, array in (arrays() | changes).items() if array is not None}
    np.savez(path, **content)
    return str(path)


def test_emoji_is_463_concepts_in_six_styles_of_which_two_are_for_test():
    data = emoji()
    assert data.features.shape == (463 * 6, 512)
    assert torch.equal(torch.bincount(data.labels), torch.full((463,), 6))
    assert torch.equal(torch.bincount(data.labels[data.split == SPLITS["test"]]), torch.full((463,), 2))
    file = Path(emoji.__code__.co_filename).with_name("emoji.npz")
    assert file.stat().st_size < 5e6
    assert file.with_name("ATTRIBUTION.md").exists()


def test_emoji_features_mean_something():
    """A nearest-centroid classifier finds a test drawing among all 463 concepts far more often than chance, 0.2 %."""
    data = emoji().normalised()
    test = data.split == SPLITS["test"]
    centroids = torch.zeros(463, 512).index_add(0, data.labels[~test], data.features[~test])
    found = (data.features[test] @ torch.nn.functional.normalize(centroids, dim=1).t()).argmax(1)
    assert (found == data.labels[test]).double().mean() > 0.5


def test_a_share_of_each_concept_is_kept_for_validation():
    data = synthetic(concepts=5, images=40).with_validation(0.1)
    counts = torch.bincount(data.labels[data.split == SPLITS["validation"]], minlength=5)
    assert counts.tolist() == [3] * 5  # 30 training images each
    assert torch.equal(data.split, synthetic(concepts=5, images=40).with_validation(0.1).split)
    assert data.with_validation(0.5) is data


def test_concepts_with_one_training_image_cannot_be_divided():
    data = FeatureSet.from_arrays(np.eye(4), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), "four")
    with pytest.raises(OptionError, match="single training image"):
        data.with_validation(0.1)
    with pytest.raises(OptionError, match="without any training image"):
        synthetic().with_validation(0.99)


def test_features_reads_what_was_saved(tmp_path):
    data = features(path=save(tmp_path / "a.npz", labels=np.array(list("xyz") * 4)))
    assert data.features.dtype == torch.float32
    assert data.labels.tolist() == [0, 1, 2] * 4
    torch.testing.assert_close(data.features, torch.from_numpy(arrays()["features"]).float())
    unit = features(path=save(tmp_path / "a.npz"), normalise=True).features
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(12))


def test_the_same_content_has_the_same_fingerprint(tmp_path):
    one, two = (features(path=save(tmp_path / name)) for name in ("a.npz", "b.npz"))
    other = features(path=save(tmp_path / "c.npz", labels=np.arange(12) % 4))
    assert one.fingerprint == two.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "no array 'labels'"),
        ({"features": np.full((12, 5), np.nan)}, "12 rows, the first is row 0"),
        ({"features": np.ones(12)}, "numeric matrix"),
        ({"features": np.array([["a"] * 5] * 12)}, "numeric matrix"),
        ({"labels": np.zeros(11)}, "one for each row"),
        ({"split": np.full(12, 7)}, "only the integers"),
        ({"split": np.full(12, 0.5)}, "only the integers"),
        ({"labels": np.array([{}] * 12, dtype=object)}, "cannot be read"),
        ({"features": np.full((12, 5), 1e39)}, "NaN or infinite values in 12 rows"),
        ({"labels": np.full(12, np.nan)}, "labels must be integers or names"),
        ({"labels": np.zeros(12, dtype=int)}, "at least 2 concepts in every split, train has 1"),
        ({"split": np.zeros(12, dtype=int)}, "at least 2 concepts in every split, test has 0"),
    ],
    ids=[
        "no labels",
        "NaN",
        "vector",
        "text",
        "short labels",
        "unknown split",
        "fractional split",
        "objects",
        "too large",
        "NaN labels",
        "one concept",
        "no test images",
    ],
)
def test_wrong_arrays_are_refused(tmp_path, changes, message):
    with pytest.raises(OptionError, match=message) as caught:
        features(path=save(tmp_path / "a.npz", **changes))
    assert caught.value.option == "path"


def test_damaged_files_are_refused(tmp_path):
    whole = Path(save(tmp_path / "a.npz")).read_bytes()
    broken = tmp_path / "b.npz"
    for size in (0, 3, 100, len(whole) // 2, len(whole) - 10):
        broken.write_bytes(whole[:size])
        with pytest.raises(OptionError, match="cannot be read"):
            features(path=str(broken))
    np.save(tmp_path / "c.npy", np.eye(3))
    (tmp_path / "c.npy").rename(tmp_path / "c.npz")
    with pytest.raises(OptionError, match="cannot be read"):
        features(path=str(tmp_path / "c.npz"))
    with pytest.raises(OptionError, match="missing"):
        features(path=str(tmp_path / "none.npz"))
    with pytest.raises(OptionError, match="not a file"):
        features(path=str(tmp_path))


def write_egg(root: Path, objects=None, rows=8):
    for part in ("train", "test"):
        folder = root / part
        folder.mkdir(parents=True)
        with h5py.File(folder / "ours_images_single_sm0.h5", "w") as archive:
            archive["dataset_1"] = np.random.default_rng(1).standard_normal((rows, 6)).astype(np.float32) * 9
        names = np.array([f"{['cat', 'dog', 'cow', 'pig'][i % 4]}_{i}" for i in range(8)]) if objects is None else objects
        with (folder / "ours_images_single_sm0.objects").open("wb") as stream:
            pickle.dump(names, stream)
    return str(root)


@pytest.mark.parametrize("kind", [str, object, bytes])
def test_the_original_format_is_read(tmp_path, kind):
    names = np.array([f"{['cat', 'dog', 'cow', 'pig'][i % 4]}_{i}" for i in range(8)])
    names = names.astype("S") if kind is bytes else names.astype(kind)
    data = egg_signal_game(path=write_egg(tmp_path, names))
    assert data.features.shape == (16, 6)
    torch.testing.assert_close(data.features.norm(dim=1), torch.ones(16))
    assert data.labels.tolist() == [0, 2, 1, 3] * 4  # cat, dog, cow, pig in alphabetical order
    assert data.split.tolist() == [0] * 8 + [1] * 8


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_a_pickle_that_tries_to_run_code_is_refused_before_it_does(tmp_path):
    marker = tmp_path / "ran"
    path = write_egg(tmp_path / "data", Malicious(marker))
    with pytest.raises(OptionError, match="refused"):
        egg_signal_game(path=path)
    assert not marker.exists()


def test_wrong_original_files_are_refused(tmp_path):
    with pytest.raises(OptionError, match="8 names"):
        egg_signal_game(path=write_egg(tmp_path / "a", rows=9))
    with pytest.raises(OptionError, match="something else than names"):
        egg_signal_game(path=write_egg(tmp_path / "b", {"a": 1}))
    with pytest.raises(OptionError, match="missing"):
        egg_signal_game(path=str(tmp_path / "none"))
    path = Path(write_egg(tmp_path / "c"))
    file = path / "train/ours_images_single_sm0.h5"
    file.write_bytes(file.read_bytes()[:600])
    with pytest.raises(OptionError, match="cannot be read"):
        egg_signal_game(path=str(path))


@pytest.mark.parametrize(
    ("options", "option"),
    [({"concepts": 1}, "concepts"), ({"images": 3}, "images"), ({"noise": -1.0}, "noise"), ({"seed": -1}, "seed")],
)
def test_synthetic_options_out_of_range_are_refused_by_name(options, option):
    with pytest.raises(OptionError) as caught:
        synthetic(**options)
    assert caught.value.option == option
