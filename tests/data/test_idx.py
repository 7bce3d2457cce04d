import gzip
import struct

import numpy as np
import pytest

from sparseflow.data.idx import read_idx
from sparseflow.errors import DataError


def test_an_array_comes_back(tmp_path):
    values = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 3, 2, 2) + values.tobytes()))
    assert np.array_equal(read_idx(path, 3), values)
    with pytest.raises(DataError, match=r"a\.gz is no idx file of 1 dimensions"):
        read_idx(path, 1)
    with pytest.raises(DataError, match=r"b\.gz is missing; fetch it"):
        read_idx(tmp_path / "b.gz", 3, hint="fetch it")
