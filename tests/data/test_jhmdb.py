import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sparseflow.data import JointTracks, jhmdb
from sparseflow.data.jhmdb import JOINTS
from sparseflow.errors import ConfigError, DataError

REAL = Path(__file__).parents[3] / "shared" / "data" / "jhmdb-skeleton"


@pytest.mark.skipif(not REAL.is_dir(), reason="J-HMDB's joint tracks are not here")
def test_the_official_splits():
    sizes = [(len(jhmdb(REAL, split=s)), len(jhmdb(REAL, split=s, role="test"))) for s in (1, 2, 3)]
    assert sizes == [(433, 176), (433, 176), (434, 175)]
    train = jhmdb(REAL)
    assert len(train.classes) == 14
    x = train.volumes(torch.arange(4))
    assert x.shape == (4, 8, 15, 64, 64)
    # Of some persons a part lies outside of the frame.
    assert (x.amax((-1, -2)) > 0.8).float().mean() > 0.95


def tracks(seed=0):
    r = np.random.default_rng(seed)
    lengths = [1, 5, 9]
    return JointTracks(
        role="train",
        pose=torch.from_numpy(r.uniform(-1, 1, (sum(lengths), 15, 2)).astype(np.float32)),
        offsets=torch.tensor([0, 1, 6, 15]),
        labels=torch.tensor([0, 1, 0]),
        classes=("a", "b"),
    )


def test_a_volume_is_that_of_a_plain_loop():
    found = tracks()
    x = found.volumes(torch.tensor([2, 0]), frames=4, side=8, sigma=1.0)
    for b, (first, length) in enumerate([(6, 9), (0, 1)]):
        for t in range(4):
            pose = found.pose[first + t * length // 4]
            for j in range(15):
                px, py = ((float(v) / 1.2 + 1) * 4 - 0.5 for v in pose[j])
                for row in range(8):
                    for column in range(8):
                        want = math.exp(-((row - py) ** 2 + (column - px) ** 2) / 2)
                        assert abs(float(x[b, t, j, row, column]) - want) < 1e-5


def test_changes_are_drawn_and_mirrored_joints_are_exchanged():
    found = tracks()
    a, b, c = (found.volumes(torch.arange(3), generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    pairs = [(i, JOINTS.index(n.replace("right", "left"))) for i, n in enumerate(JOINTS) if n.startswith("right")]
    from sparseflow.data.jhmdb import _MIRRORED

    assert all(_MIRRORED[i] == j and _MIRRORED[j] == i for i, j in pairs)
    assert [_MIRRORED[i] for i in range(3)] == [0, 1, 2]


def write(folder, **more):
    body = {
        "pose": np.zeros((6, 15, 2), np.float32),
        "offsets": np.array([0, 2, 6], np.int32),
        "label": np.array([0, 1], np.int8),
        "classes": np.array(["a", "b"]),
        "split": np.array([[0, 0, 1], [1, 1, 0]], np.int8),
    } | more
    np.savez(folder / "jhmdb14_pose.npz", **{k: v for k, v in body.items() if v is not None})


def test_files(tmp_path):
    write(tmp_path)
    assert jhmdb(tmp_path, role="test").offsets.tolist() == [0, 4]
    assert jhmdb(tmp_path / "jhmdb14_pose.npz", split=3).labels.tolist() == [1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"pose": np.zeros((6, 14, 2), np.float32)}, r"pose is float32 \(6, 14, 2\)"),
        ({"pose": np.full((6, 15, 2), np.nan, np.float32)}, "finite"),
        ({"offsets": np.array([0, 6, 6], np.int32)}, "do not fit"),
        ({"offsets": np.array([0, 2, 5], np.int32)}, "do not fit"),
        ({"label": np.array([0, 2], np.int8)}, "beyond the 2 classes"),
        ({"split": np.zeros((2, 3), np.int8)}, "no test clips"),
        ({"label": None}, "no array label"),
    ],
)
def test_damaged_files(tmp_path, more, message):
    write(tmp_path, **more)
    with pytest.raises(DataError, match=message):
        jhmdb(tmp_path, role="test")


def test_bad_arguments(tmp_path):
    with pytest.raises(ConfigError, match="split is 4"):
        jhmdb(tmp_path, split=4)
    with pytest.raises(DataError, match="is missing"):
        jhmdb(tmp_path)
    with pytest.raises(ConfigError, match="more than 0"):
        tracks().volumes(torch.tensor([0]), sigma=0.0)
