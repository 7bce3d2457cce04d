import pytest
from PIL import Image

from sparseflow.data import ucf101, write_sample
from sparseflow.errors import ConfigError, DataError


def test_the_tree_has_the_layout_and_says_what_it_is(tmp_path):
    root = write_sample(tmp_path / "a", train=3, test=2, frames=4, side=32, seed=1)
    names = sorted(p.name for p in root.iterdir())
    assert names == ["README.txt", "frames", "splits"]
    assert "Not UCF101" in (root / "README.txt").read_text()
    found = ucf101(root)
    assert len(found) == 12
    frames = sorted(p.name for p in found.videos[0].path.iterdir())
    assert frames == [f"frame{i:04}.jpg" for i in range(1, 5)]
    with Image.open(found.videos[0].path / frames[0]) as picture:
        assert (picture.size, picture.mode) == ((32, 32), "RGB")
    again = write_sample(tmp_path / "b", train=3, test=2, frames=4, side=32, seed=1)
    first = "frames/" + found.videos[5].name + "/frame0002.jpg"
    assert (root / first).read_bytes() == (again / first).read_bytes()


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="is not empty"):
        write_sample(tmp_path)
    with pytest.raises(ConfigError, match="at least 1 video"):
        write_sample(tmp_path / "a", test=0)


def test_nothing_half_written_stays_where_the_disk_is_full(tmp_path, monkeypatch):
    left = iter(range(3))

    def save(*_, **__):
        if next(left, None) is None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(DataError, match="No space left"):
        write_sample(tmp_path / "new" / "a", train=3, test=2, frames=4, side=32)
    assert list((tmp_path / "new").iterdir()) == []
