import sys

import numpy as np
import pytest
from PIL import Image

from sparseflow.data.video_frames import count_frames, read_frames
from sparseflow.errors import DataError, UnsupportedError


def grey(level):
    return Image.fromarray(np.full((16, 16, 3), level, np.uint8))


@pytest.fixture
def folder(tmp_path):
    for i in range(1, 13):
        grey(20 * i).save(tmp_path / f"frame{i}.jpg")
    (tmp_path / "notes.txt").write_text("no frame")
    return tmp_path


def level(picture):
    return round(float(np.asarray(picture).mean()) / 20)


def test_frames_of_a_folder_come_in_their_natural_order(folder):
    assert count_frames(folder) == 12
    assert [level(p) for p in read_frames(folder, [0, 1, 9, 11, 11])] == [1, 2, 10, 12, 12]


def test_a_broken_frame_is_named(folder):
    whole = (folder / "frame3.jpg").read_bytes()
    for cut in (0, 10, len(whole) // 2):
        (folder / "frame3.jpg").write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"frame3\.jpg is a broken frame"):
            read_frames(folder, [1, 2])
    with pytest.raises(DataError, match="holds 12 frames; frame 12 was asked"):
        read_frames(folder, [12])


def test_an_empty_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(DataError, match="holds no frame"):
        count_frames(tmp_path)
    with pytest.raises(DataError, match=r"a\.avi is missing"):
        count_frames(tmp_path / "a.avi")


def write_video(path, frames=6, codec="mpeg4"):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        for i in range(1, frames + 1):
            for packet in stream.encode(av.VideoFrame.from_image(grey(20 * i))):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.mark.parametrize("ending", ["avi", "mp4", "mkv"])
def test_frames_of_a_video_file(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    write_video(path)
    assert count_frames(path) == 6
    assert [level(p) for p in read_frames(path, [5, 0, 0, 3])] == [6, 1, 1, 4]


def test_a_damaged_video_file_is_named(tmp_path):
    path = tmp_path / "a.avi"
    write_video(path)
    whole = path.read_bytes()
    path.write_bytes(b"no video")
    with pytest.raises(DataError, match=r"a\.avi is damaged"):
        count_frames(path)
    with pytest.raises(DataError, match=r"a\.avi is damaged"):
        read_frames(path, [0])
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match=r"a\.avi (is damaged|ends before frame)"):
        read_frames(path, [0, 5])


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.avi").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnsupportedError, match=r"sparseflow\[video\]"):
        count_frames(tmp_path / "a.avi")
