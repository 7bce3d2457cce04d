import os
import pickle
import struct

import numpy as np
import pytest

from sparseflow.data._batches import read_batch
from sparseflow.errors import DataError


def official(images, labels):
    """Write what Python 2's cPickle wrote: a dict of labels, a uint8 matrix and file names."""

    def text(s):
        return (b"U" + bytes([len(s)]) if len(s) < 256 else b"T" + struct.pack("<I", len(s))) + s

    pixels = images.reshape(len(images), -1)
    return b"".join(
        [
            b"\x80\x02}q\x01(",
            text(b"batch_label"),
            b"q\x02",
            text(b"testing batch 1 of 1"),
            b"q\x03",
            text(b"labels"),
            b"q\x04]q\x05(",
            *(b"K" + bytes([label]) for label in labels),
            b"e",
            text(b"data"),
            b"q\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01M",
            struct.pack("<H", len(pixels)),
            b"M",
            struct.pack("<H", pixels.shape[1]),
            b"\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            text(pixels.tobytes()),
            b"tb",
            text(b"filenames"),
            b"]q\x0c(",
            *(text(b"name_%d.png" % i) for i in range(len(labels))),
            b"eu.",
        ]
    )


@pytest.fixture
def batch(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 3, 32, 32), np.uint8)
    labels = rng.integers(0, 10, 300)
    path = tmp_path / "test_batch"
    path.write_bytes(official(images, labels))
    return path, images, labels


def test_reads_what_unpickling_reads(batch):
    path, images, labels = batch
    got_images, got_labels = read_batch(path)
    assert np.array_equal(got_images, images)
    assert np.array_equal(got_labels, labels)
    body = pickle.loads(path.read_bytes(), encoding="bytes")
    assert np.array_equal(body[b"data"], images.reshape(300, -1))


def test_code_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "data_batch_1"
    for protocol in range(6):
        path.write_bytes(pickle.dumps({"data": Bomb()}, protocol))
        with pytest.raises(DataError, match="data_batch_1"):
            read_batch(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 1, 40, 5000, -1])
def test_truncated(batch, keep):
    path, _, _ = batch
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="test_batch"):
        read_batch(path)


def test_missing_or_another_pickle(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_batch(tmp_path / "no")
    path = tmp_path / "other"
    path.write_bytes(pickle.dumps([1, 2], 2))
    with pytest.raises(DataError, match="not an official"):
        read_batch(path)
