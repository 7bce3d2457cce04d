import gzip
import struct
from pathlib import Path

import pytest

from sparseflow import data
from sparseflow.errors import ConfigError, DataError

WHOLE = Path(__file__).parents[3] / "shared" / "data" / "mnist"


def test_what_ships_is_the_beginning_of_the_original():
    train, test = data.mnist(), data.mnist(split="test")
    assert (train.images.shape, test.images.shape) == ((3000, 1, 28, 28), (1000, 1, 28, 28))
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert train.normalize(train.images).mean().abs() < 0.02


@pytest.mark.skipif(not WHOLE.is_dir(), reason="the whole of MNIST is not here")
def test_the_whole_set_begins_with_what_ships():
    whole = data.mnist(WHOLE)
    assert len(whole) == 60_000
    assert bool((whole.images[:3000] == data.mnist().images).all())


def test_bad_sets(tmp_path):
    with pytest.raises(ConfigError, match="'train' or 'test'"):
        data.mnist(split="val")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is missing; give the folder"):
        data.mnist(tmp_path)
    body = b"\0\0\x08\x03" + struct.pack(">3I", 2, 4, 4) + bytes(32)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(body))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 2) + b"\1\2")
    )
    with pytest.raises(DataError, match=r"are \(2, 4, 4\); expected"):
        data.mnist(tmp_path)
