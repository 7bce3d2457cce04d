"""Packs: what is written comes back, the same bytes each time, and nothing else is taken."""

import json
import shutil

import numpy as np
import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.export.fpga.layout import tile
from sparseflow.export.fpga.pack import ALIGNMENT, GOLDEN, MANIFEST, MIRROR, WEIGHTS, read_pack, write_pack
from tests.export.fpga.networks import small


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    write_pack(folder, *small(), others={"hls/note.txt": "text\n"})
    return folder


def test_a_pack_comes_back(written):
    spec, arrays, golden = small()
    pack = read_pack(written)
    assert pack.spec == spec
    for found, given in ((pack.arrays, arrays), (pack.golden, golden)):
        assert list(found) == list(given)
        for name, values in given.items():
            assert found[name].dtype == values.dtype
            assert np.array_equal(found[name], values)
    assert set(pack.files) == {MIRROR, "hls/note.txt"}


def test_the_same_network_gives_the_same_bytes(written, tmp_path):
    write_pack(tmp_path, *small(), others={"hls/note.txt": "text\n"})
    for name in (MANIFEST, WEIGHTS, GOLDEN, MIRROR, "hls/note.txt"):
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes()


def test_the_manifest_says_where_arrays_lie(written):
    _, arrays, _ = small()
    head = json.loads((written / MANIFEST).read_text())
    entry = next(e for e in head["arrays"] if e["name"] == "head.linear.weight")
    data = (written / WEIGHTS).read_bytes()[entry["offset"] : entry["offset"] + entry["bytes"]]
    assert data == tile(arrays["head.linear.weight"].astype(np.int64)).tobytes()
    assert entry["layout"] == "tiles_8x8"
    assert len(entry["scale"]) == 10
    assert all(e["offset"] % ALIGNMENT == 0 for e in head["arrays"])


def test_the_mirror_has_the_same_names_and_no_pickle(written):
    _, arrays, golden = small()
    with np.load(written / MIRROR, allow_pickle=False) as mirror:
        assert set(mirror.files) == set(arrays) | {f"golden.{name}" for name in golden}
        assert all(np.array_equal(mirror[name], values) for name, values in arrays.items())


def test_other_files_are_held_to_their_hashes(written, tmp_path):
    shutil.copytree(written, tmp_path / "p")
    (tmp_path / "p" / "hls" / "note.txt").write_text("other\n")
    with pytest.raises(DataError, match=r"note\.txt is not the file"):
        read_pack(tmp_path / "p")
    assert read_pack(tmp_path / "p", files=False).arrays


def test_what_cannot_be_stored_is_refused(tmp_path):
    spec, _, golden = small()
    with pytest.raises(ConfigError, match="float64"):
        write_pack(tmp_path, spec, {"a": np.ones(3)}, golden)
