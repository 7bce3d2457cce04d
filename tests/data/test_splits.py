import pytest
import torch

from sparseflow import data
from sparseflow.data import ImageSet, Sealed, Splits, split_train
from sparseflow.data import splits as module
from sparseflow.errors import ConfigError, DataError


def make(n=100, classes=4, side=2):
    """Images that hold their own index."""
    index = torch.arange(n)
    images = torch.stack([index // 256, index % 256], 1).to(torch.uint8)[:, :, None, None].expand(n, 2, side, side)
    return ImageSet(
        name="toy",
        split="train",
        images=images.contiguous(),
        labels=index * index % classes,
        classes=tuple("abcdefgh"[:classes]),
        mean=(0.5, 0.5),
        std=(0.2, 0.2),
    )


def indices(part):
    return (part.images[:, 0, 0, 0].long() * 256 + part.images[:, 1, 0, 0].long()).tolist()


def test_the_parts_are_disjoint_and_whole():
    images = make(1000)
    train, calib, val = split_train(images, val=100, calib=60)
    parts = [indices(train), indices(calib), indices(val)]
    assert [len(p) for p in parts] == [840, 60, 100]
    assert sorted(i for part in parts for i in part) == list(range(1000))
    assert parts[0] == sorted(parts[0])
    assert [p.split for p in (train, calib, val)] == ["train", "calib", "val"]
    for part, at in zip((train, calib, val), parts, strict=True):
        assert torch.equal(part.labels, images.labels[at])
        assert (part.name, part.mean, part.classes) == (images.name, images.mean, images.classes)


@pytest.mark.parametrize(("n", "classes", "val", "calib"), [(1000, 4, 100, 60), (1000, 7, 33, 11), (12, 4, 5, 5)])
def test_every_first_part_has_the_classes_in_proportion(n, classes, val, calib):
    images = make(n, classes)
    _, calib_set, val_set = split_train(images, val=val, calib=calib)
    share = images.labels.bincount(minlength=classes) / n
    for part in (val_set, calib_set):
        for m in (1, len(part) // 2, len(part)):
            counts = part.labels[:m].bincount(minlength=classes)
            assert ((counts - share * m).abs() <= 2).all()


def test_the_seed_decides():
    images = make(500)
    one, same, other = (indices(split_train(images, val=50, calib=50, seed=s)[2]) for s in (0, 0, 1))
    assert one == same
    assert one != other
    state = torch.get_rng_state()
    split_train(images, val=50, calib=50)
    assert torch.equal(torch.get_rng_state(), state)


def test_calibration_images_may_stay_in_train():
    train, calib, val = split_train(make(200), val=20, calib=30, held_out=False)
    assert len(train) == 180
    assert set(indices(calib)) < set(indices(train))
    assert not set(indices(val)) & set(indices(train))
    assert indices(val) == indices(split_train(make(200), val=20, calib=30)[2])


@pytest.mark.parametrize(("val", "calib"), [(0, 5), (5, 0), (60, 40), (-1, 5)])
def test_impossible_sizes(val, calib):
    with pytest.raises(ConfigError, match=r"at least 1|left to train"):
        split_train(make(100), val=val, calib=calib)


def test_a_sealed_set_is_read_once_and_remembers_why():
    calls = []

    def load():
        calls.append(1)
        return make(10)

    test = Sealed(load)
    assert (test.opened, calls) == ((), [])
    for blank in ("", "  "):
        with pytest.raises(ConfigError, match="purpose"):
            test.open(blank)
    assert test.opened == ()
    assert test.open("accuracy of the result") is test.open("accuracy of the teacher")
    assert (test.opened, calls) == (("accuracy of the result", "accuracy of the teacher"), [1])


def test_an_opening_that_fails_is_not_written_down():
    def load():
        raise DataError("gone")

    test = Sealed(load)
    with pytest.raises(DataError, match="gone"):
        test.open("accuracy")
    assert test.opened == ()


def test_cifar10_splits_read_no_test_image_before_it_is_opened(monkeypatch):
    read = []

    def load(path, split):
        read.append((path, split))
        return make(10 if split == "test" else 300)

    monkeypatch.setattr(module, "cifar10", load)
    splits = data.cifar10_splits("folder", val=30, calib=20)
    assert isinstance(splits, Splits)
    assert read == [("folder", "train")]
    assert [len(p) for p in (splits.train, splits.calib, splits.val)] == [250, 20, 30]
    assert len(splits.test.open("the end")) == 10
    assert read[1:] == [("folder", "test")]


def test_cifar10s_constants_are_the_pages():
    images = data.cifar10_subset()
    assert [round(m, 4) for m in images.mean] == [0.4914, 0.4822, 0.4465]
    assert [round(s, 4) for s in images.std] == [0.2470, 0.2435, 0.2616]


def test_the_shipped_images_are_divided_without_overlap_and_the_test_part_stays_sealed():
    splits = data.subset_splits()
    parts = [splits.train, splits.calib, splits.val]
    assert [len(p) for p in parts] == [844, 256, 400]
    assert splits.test.opened == ()
    parts.append(splits.test.open("this test"))
    rows = [row.numpy().tobytes() for part in parts for row in part.images]
    shipped = [row.numpy().tobytes() for row in data.cifar10_subset().images]
    assert sorted(rows) == sorted(shipped)
    assert len(parts[-1]) == 500
    assert parts[-1].labels.bincount().min() >= 40


def test_splits_come_from_the_path_or_without_one_from_the_shipped_images(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "cifar10", lambda path, split: seen.append((path, split)) or make(20000))
    whole = data.open_splits("here")
    assert [len(p) for p in (whole.train, whole.calib, whole.val)] == [12952, 2048, 5000]
    assert seen == [("here", "train")]
    few = data.open_splits("here", val=50, calib=20, seed=3, held_out=False)
    assert [len(p) for p in (few.train, few.calib, few.val)] == [19950, 20, 50]
    assert len(data.open_splits(val=10, calib=5).train) == 1485
    with pytest.raises(ConfigError, match="take fewer"):
        data.open_splits(val=1600)
    with pytest.raises(ConfigError, match="at least 1"):
        data.open_splits(val=0)
