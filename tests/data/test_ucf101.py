import tarfile
from pathlib import Path

import pytest

from sparseflow.data import ucf101, write_sample
from sparseflow.data.ucf101 import read_list
from sparseflow.errors import ConfigError, DataError

# The official lists, unchanged: CRCV, University of Central Florida (Soomro, Zamir, Shah 2012).
LISTS = Path(__file__).parent / "ucf101_lists.tar.xz"


@pytest.mark.parametrize(("split", "train", "test"), [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)])
def test_the_official_lists_parse_whole(tmp_path, split, train, test):
    with tarfile.open(LISTS) as archive:
        archive.extractall(tmp_path, filter="data")
    a, b = (read_list(tmp_path / f"{role}list{split:02}.txt") for role in ("train", "test"))
    assert (len(a), len(b)) == (train, test)
    assert not {name for name, _ in a} & {name for name, _ in b}
    numbers = {name.split("/")[0]: number for name, number in a}
    assert sorted(numbers.values()) == list(range(1, 102))
    assert all(number is None for _, number in b)


@pytest.fixture
def tree(tmp_path):
    return write_sample(tmp_path / "set", train=2, test=1, frames=3, side=32)


def test_a_tree_in_the_layout_opens(tree):
    train, test = ucf101(tree), ucf101(tree, role="test")
    assert train.classes == ("DigitsRight", "DigitsDown", "DigitsLeft", "DigitsUp") == test.classes
    assert [v.label for v in train.videos] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [v.label for v in test.videos] == [0, 1, 2, 3]
    assert train.videos[0].path == tree / "frames" / train.videos[0].name
    assert not {v.name for v in train.videos} & {v.name for v in test.videos}


def test_classes_without_an_index_follow_the_numbers_then_the_names(tree):
    (tree / "splits" / "classInd.txt").unlink()
    assert ucf101(tree).classes == ("DigitsRight", "DigitsDown", "DigitsLeft", "DigitsUp")
    train = tree / "splits" / "trainlist01.txt"
    train.write_text("\r\n".join(line.split()[0] for line in train.read_text().splitlines()))
    assert ucf101(tree).classes == ("DigitsDown", "DigitsLeft", "DigitsRight", "DigitsUp")


def test_video_files_are_found_beside_frames(tree):
    video = ucf101(tree).videos[0]
    target = tree / "videos" / f"{video.name}.avi"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"")
    assert ucf101(tree).videos[0].path == video.path
    video.path.rename(tree / "gone")
    assert ucf101(tree).videos[0].path == target


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "names no video"),
        ("A/v_A_g01_c01.avi 1 2", "line 1.*is no 'Class/video.avi'"),
        ("v_A_g01_c01.avi 1", "line 1"),
        ("../v_A.avi 1", "line 1"),
        ("/v_A.avi 1", "line 1"),
        ("A/v_A.avi one", "line 1"),
        ("A/v_A.avi 1\n\nA/v_A.mp4 1", "line 3.*twice"),
        ("A/v_A.avi 1\nA/v_B.avi 2", "class A has the numbers 1 and 2"),
    ],
)
def test_bad_lists_name_file_and_line(tree, lines, message):
    (tree / "splits" / "classInd.txt").unlink()
    (tree / "splits" / "trainlist01.txt").write_text(lines)
    with pytest.raises(DataError, match=message):
        ucf101(tree)


def test_missing_things_are_named(tree, tmp_path):
    with pytest.raises(ConfigError, match="role is 'val'"):
        ucf101(tree, role="val")
    with pytest.raises(DataError, match="is no folder"):
        ucf101(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"trainlist02\.txt is missing"):
        ucf101(tree, split=2)
    index = tree / "splits" / "classInd.txt"
    index.write_text(index.read_text() + "5 Empty\n")
    with pytest.raises(DataError, match="class Empty has no video"):
        ucf101(tree)
    index.write_text("1 DigitsRight\n1 DigitsDown\n")
    with pytest.raises(DataError, match="twice"):
        ucf101(tree)
    index.write_text("words")
    with pytest.raises(DataError, match="is no list"):
        ucf101(tree)
    index.unlink()
    (tree / "splits" / "testlist01.txt").write_text("Other/v_Other_g01_c01.avi\n")
    with pytest.raises(DataError, match="class Other"):
        ucf101(tree, role="test")
    ucf101(tree).videos[3].path.rename(tree / "gone")
    with pytest.raises(DataError, match=r"1 of 8 videos of trainlist01\.txt.*v_DigitsDown_g03_c01"):
        ucf101(tree)
