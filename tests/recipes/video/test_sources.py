from dataclasses import replace

import numpy as np
import pytest
import torch

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.video.sources import open_sources
from tests.video_runs import small_video

CPU = torch.device("cpu")


def check(source, size=4):
    """Check what every source promises."""
    a, b, other = (list(source.epoch(size, seed)) for seed in (1, 1, 2))
    assert len(a) == source.batches(size) > 0
    for (x, y), (p, q) in zip(a, b, strict=True):
        assert torch.equal(x, p)
        assert torch.equal(y, q)
        assert x.shape[1:3] == (4, source.channels)
        assert len(x) == len(y) == size
        assert source.scale(x).dtype == torch.float32
    assert any(not torch.equal(x, p) for (x, _), (p, _) in zip(a, other, strict=True))
    parts = [list(source.epoch(size, 1, share=s)) for s in (slice(0, 2), slice(2, 4))]
    for (x, y), (x0, y0), (x1, y1) in zip(a, *parts, strict=True):
        assert torch.equal(torch.cat([x0, x1]), x)
        assert torch.equal(torch.cat([y0, y1]), y)


def test_digits(tmp_path):
    train, test = open_sources(small_video(tmp_path), CPU)
    check(train)
    assert train.synthetic
    assert (len(train), len(test), len(train.classes)) == (32, 24, 16)
    batches = list(test.every(10))
    assert torch.cat([v for _, _, v in batches]).tolist() == list(range(24))
    again = list(open_sources(small_video(tmp_path, seed=5), CPU, roles=("test",))[0].every(24))
    assert torch.equal(torch.cat([x for x, _, _ in batches]), again[0][0])
    with pytest.raises(ConfigError, match="only those of a test"):
        next(train.every(4))
    with pytest.raises(ConfigError, match="MovingDigits lacks"):
        open_sources(small_video(tmp_path, digits={"colour": 1}), CPU)


def write_tracks(folder, n=12):
    """Write joint tracks of three classes, every third of the test."""
    r = np.random.default_rng(0)
    np.savez(
        folder / "jhmdb14_pose.npz",
        pose=r.uniform(-0.8, 0.8, (5 * n, 15, 2)).astype(np.float32),
        offsets=np.arange(n + 1) * 5,
        label=np.arange(n) % 3,
        classes=np.array(["a", "b", "c"]),
        split=np.repeat(np.arange(n)[:, None] % 3 == 0, 3, 1).astype(np.int8),
    )


def test_joint_tracks(tmp_path):
    write_tracks(tmp_path)
    train, test = open_sources(small_video(tmp_path, dataset="jhmdb", data=str(tmp_path)), CPU)
    check(train)
    assert not train.synthetic
    assert (len(train), len(test)) == (8, 4)
    assert torch.cat([v for _, _, v in test.every(3)]).tolist() == [0, 1, 2, 3]


def test_videos_without_data_are_a_sample_tree_that_is_written_once(tmp_path):
    config = small_video(tmp_path, dataset="ucf101", per_video=1, test_per_video=2, clip_lens=(4,))
    train, test = open_sources(config, CPU)
    check(train)
    assert train.synthetic
    assert not train.clips.flip
    written = (tmp_path / "ucf101_sample" / "README.txt").stat().st_mtime_ns
    open_sources(config, CPU)
    assert (tmp_path / "ucf101_sample" / "README.txt").stat().st_mtime_ns == written
    assert torch.cat([v for _, _, v in test.every(5)]).bincount().tolist() == [2] * 32
    named = small_video(tmp_path, dataset="ucf101", data=str(tmp_path / "ucf101_sample"))
    assert not open_sources(named, CPU)[0].synthetic
    with pytest.raises(DataError, match="is no folder"):
        open_sources(small_video(tmp_path, dataset="ucf101", data=str(tmp_path / "nothing")), CPU)


def test_to_validate_a_fifth_of_the_digits_is_held_back(tmp_path):
    train, test = open_sources(small_video(tmp_path, validate=True), CPU)
    check(train)
    learned, held, whole = (
        {d.numpy().tobytes() for d in s.digits.images.images}
        for s in (train, test, open_sources(small_video(tmp_path), CPU)[0])
    )
    assert (len(learned), len(held)) == (2400, 600)
    assert learned | held == whole


def test_to_validate_tracks_and_groups_of_videos_are_divided(tmp_path):
    write_tracks(tmp_path)
    parts = open_sources(small_video(tmp_path, dataset="jhmdb", data=str(tmp_path), validate=True), CPU)
    check(parts[0])
    assert [s.chosen.tolist() for s in parts] == [[0, 1, 2, 3, 5, 6, 7], [4]]
    config = small_video(tmp_path, dataset="ucf101", per_video=1)
    whole = {v.path for v in open_sources(config, CPU)[0].clips.source.videos}
    learned, held = (s.clips.source.videos for s in open_sources(replace(config, validate=True), CPU))
    assert {v.path for v in (*learned, *held)} == whole
    assert not {v.name.rpartition("_c")[0] for v in learned} & {v.name.rpartition("_c")[0] for v in held}
    assert len(held) < len(learned)
