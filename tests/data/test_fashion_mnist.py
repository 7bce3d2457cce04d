import gzip
import struct
from pathlib import Path

import pytest

from sparseflow import data
from sparseflow.errors import ConfigError, DataError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_set():
    images = data.fashion_mnist(split="test")
    assert images.images.shape == (10_000, 1, 28, 28)
    assert images.labels.bincount().tolist() == [1000] * 10
    assert images.classes[int(images.labels[0])] == "ankle boot"
    assert images.normalize(images.images[:2000]).mean().abs() < 0.05


def write(folder, images=4, labels=4, magic=3, cut=0):
    body = b"\0\0\x08" + bytes([magic]) + struct.pack(">3I", images, 28, 28) + bytes(images * 784)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(body[: len(body) - cut]))
    body = b"\0\0\x08\x01" + struct.pack(">I", labels) + bytes(labels)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(body))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected 10000"),
        ({"magic": 1}, "no idx file"),
        ({"cut": 10}, "its header says 3136"),
        ({"cut": 3150}, "no idx"),
    ],
)
def test_bad_files(tmp_path, arguments, message):
    write(tmp_path, **arguments)
    with pytest.raises(DataError, match=message):
        data.fashion_mnist(tmp_path, "test")


def test_missing_damaged_or_unknown(tmp_path):
    with pytest.raises(DataError, match="dataset-fashion-mnist"):
        data.fashion_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="damaged"):
        data.fashion_mnist(tmp_path)
    with pytest.raises(ConfigError, match="'train' or 'test'"):
        data.fashion_mnist(tmp_path, "val")
