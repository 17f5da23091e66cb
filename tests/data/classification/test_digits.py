"""MNIST's idx files, and what is wrong with them."""

import gzip
import struct

import numpy as np
import pytest

from platform.data.classification import digits
from platform.errors import InputError


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def files() -> dict[str, bytes]:
    """Contents by file name: each digit 30 times to train on and 5 times for the test."""
    made = {}
    for prefix, count in (("train", 30), ("t10k", 5)):
        labels = np.tile(np.arange(10, dtype=np.uint8), count)
        images = np.random.default_rng(count).integers(0, 256, (len(labels), 6, 5), dtype=np.uint8)
        made |= {f"{prefix}-images-idx3-ubyte": idx(images), f"{prefix}-labels-idx1-ubyte": idx(labels)}
    return made


def write(folder, files: dict[str, bytes], packed: bool = False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    return folder


def refusal(folder, files, tmp_path) -> str:
    with pytest.raises(InputError) as caught:
        digits.read(write(folder, files), tmp_path, 0)
    return str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_and_their_test_split_is_kept(files, packed, tmp_path):
    data = digits.read(write(tmp_path / "mnist", files, packed), tmp_path, 0)
    assert data.images.shape == (350, 6, 5)
    assert data.splits.tolist().count("val") == 30
    assert (data.splits[300:] == "test").all()
    assert not (data.splits[:300] == "test").any()
    assert np.array_equal(
        data.images[300:], np.frombuffer(files["t10k-images-idx3-ubyte"][16:], np.uint8).reshape(-1, 6, 5)
    )
    for split, count in (("train", 27), ("val", 3), ("test", 5)):
        assert np.bincount(data.labels[data.splits == split]).tolist() == [count] * 10


def test_what_torchvision_fetched_is_found_where_it_puts_it(files, tmp_path):
    from torchvision.datasets import MNIST

    write(tmp_path / "root" / "MNIST" / "raw", files)
    theirs = MNIST(str(tmp_path / "root"), train=False)
    ours = digits.read(tmp_path / "root", tmp_path, 0)
    assert np.array_equal(ours.images[ours.splits == "test"], theirs.data.numpy())
    assert ours.labels[ours.splits == "test"].tolist() == theirs.targets.tolist()


def test_gzipped_or_not_it_is_the_same_data_and_another_seed_is_not(files, tmp_path):
    plain, packed = (digits.read(write(tmp_path / str(p), files, p), tmp_path, 0) for p in (False, True))
    assert plain.fingerprint == packed.fingerprint
    assert digits.read(tmp_path / "False", tmp_path, 1).fingerprint != plain.fingerprint


def test_the_embedded_digits_are_split_by_class(tmp_path):
    data = digits.read(None, tmp_path, 0)
    assert data.images.shape == (1797, 8, 8)
    assert data.images.max() == 255
    for split in ("train", "val", "test"):
        shares = np.bincount(data.labels[data.splits == split]) / (data.splits == split).sum()
        assert shares == pytest.approx(np.full(10, 0.1), abs=0.02)


def test_every_missing_file_is_reported(tmp_path):
    message = refusal(tmp_path / "empty", {}, tmp_path)
    assert "train-images-idx3-ubyte" in message
    assert "t10k-images-idx3-ubyte" in message
    assert digits.FETCH in message


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda content: content[:-7], "bytes"),
        (lambda content: content[:6], "unpack"),
        (lambda content: b"<html>not found</html>", "starts with 3c68746d"),
        (lambda content: content[:2] + b"\x0d" + content[3:], "starts with 00000d03"),
    ],
)
def test_a_broken_file_is_reported_by_its_name(files, spoil, part, tmp_path):
    files["train-images-idx3-ubyte"] = spoil(files["train-images-idx3-ubyte"])
    message = refusal(tmp_path / "broken", files, tmp_path)
    assert "train-images-idx3-ubyte" in message
    assert part in message


def test_a_truncated_archive_is_reported(files, tmp_path):
    folder = write(tmp_path / "packed", files, packed=True)
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match="t10k-labels"):
        digits.read(folder, tmp_path, 0)


def test_letters_and_labels_of_other_images_are_refused(files, tmp_path):
    letters = np.tile(np.arange(26, dtype=np.uint8), 20)[:300]
    assert "25 in train-labels" in refusal(tmp_path / "a", {**files, "train-labels-idx1-ubyte": idx(letters)}, tmp_path)
    few = idx(np.zeros(9, np.uint8))
    assert "300 images and 9 labels" in refusal(tmp_path / "b", {**files, "train-labels-idx1-ubyte": few}, tmp_path)


def test_fetching_without_a_network_is_reported(tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(InputError, match="fetch MNIST"):
        digits.read(digits.Path(digits.FETCH), tmp_path, 0)
