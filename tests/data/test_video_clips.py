import pytest
import torch

from sparseflow.data import Cover, VideoClips, ucf101, write_sample
from sparseflow.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("video") / "set", train=2, test=1, frames=9, side=36)


def clips(root, role="train", **more):
    return VideoClips(source=ucf101(root, role=role), **({"frames": 4, "side": 16, "lengths": (4, 8)} | more))


def test_an_epoch_follows_from_its_seed_whatever_reads_it(root):
    found = clips(root)
    a, b, other = (list(found.epoch(4, seed)) for seed in (1, 1, 2))
    workers = list(clips(root, workers=2).epoch(4, 1))
    for (x, y), (p, q), (u, v) in zip(a, b, workers, strict=True):
        assert x.shape == (4, 4, 3, 16, 16)
        assert x.dtype == torch.uint8
        assert torch.equal(x, p)
        assert torch.equal(y, q)
        assert torch.equal(x, u)
        assert torch.equal(y, v)
    assert not torch.equal(a[0][0], other[0][0])
    halves = [list(found.epoch(4, 1, share=s)) for s in (slice(0, 2), slice(2, 4))]
    assert torch.equal(torch.cat([h[0][0] for h in halves]), a[0][0])


def test_a_test_reads_all_covers_in_order(root):
    found = clips(root, "test")
    batches = list(found.every(3))
    videos = torch.cat([v for _, _, v in batches])
    # Covers of 4 of 9 frames start at 0, 2, 4; of 8 at 0.
    assert videos.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert torch.equal(torch.cat([y for _, y, _ in batches]), videos)
    assert torch.equal(batches[0][0][0], found.clip(0, Cover(start=0, length=4)))
    few = torch.cat([v for _, _, v in clips(root, "test", per_video=1).every(3)])
    assert few.tolist() == [0, 1, 2, 3]


def test_per_video_and_a_batch_too_large(root):
    found = clips(root, per_video=1)
    ((x, y),) = found.epoch(8, 0)
    assert (len(x), found.batches(8), found.batches(3)) == (8, 1, 2)
    assert list(found.epoch(9, 0)) == []
    # Covers of 4 of 9 frames start at 0, 2, 4; of 8 at 0.
    assert clips(root).batches(1) == 8 * 4
    assert sorted(y.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_mirroring_is_drawn_and_can_be_left_out(root):
    found = clips(root)
    plain = clips(root, flip=False)
    cover = Cover(start=0, length=8)
    same = [torch.equal(found.clip(0, cover, s), plain.clip(0, cover, s)) for s in range(24)]
    assert 4 < sum(same) < 20
    s = same.index(False)
    assert torch.equal(found.clip(0, cover, s), plain.clip(0, cover, s).flip(-1))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_frame_is_named_even_out_of_a_worker(tmp_path, workers):
    root = write_sample(tmp_path / "set", train=1, test=1, frames=2, side=36)
    broken = next((root / "frames" / "DigitsUp").glob("*_g02_*")) / "frame0002.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError) as caught:
        list(clips(root, workers=workers).epoch(1, 0))
    assert str(caught.value).startswith(f"{broken} is a broken frame")
    assert "Traceback" not in str(caught.value)


def test_one_frame_makes_a_clip_and_none_an_error(tmp_path):
    root = write_sample(tmp_path / "set", train=1, test=1, frames=1, side=36)
    found = clips(root)
    x, _ = next(iter(found.epoch(1, 0)))
    assert (x == x[:, :1]).all()
    folder = found.source.videos[1].path
    (folder / "frame0001.jpg").unlink()
    with pytest.raises(DataError, match=f"{folder.name} holds no frame"):
        list(clips(root).epoch(1, 0))


def test_bad_settings(root):
    with pytest.raises(ConfigError, match="workers is -1"):
        clips(root, workers=-1)
    with pytest.raises(ConfigError, match="per_video is 0"):
        clips(root, per_video=0)
