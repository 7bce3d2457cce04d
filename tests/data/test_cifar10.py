import importlib.util
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparseflow import data
from sparseflow.errors import ConfigError, DataError

module = importlib.import_module("sparseflow.data.cifar10")
ASSETS = Path(module.__file__).parents[1] / "assets" / "cifar10_subset"


@pytest.fixture(scope="module")
def subset():
    return data.cifar10_subset()


@pytest.fixture
def sheets(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_COUNTS", {"train": 2000, "test": 2000})
    shutil.copytree(ASSETS, tmp_path / "c10")
    return tmp_path / "c10"


def test_the_subset_is_real(subset):
    assert subset.images.shape == (2000, 3, 32, 32)
    assert [subset.classes[i] for i in subset.labels[:4]] == ["cat", "ship", "ship", "airplane"]
    assert subset.labels.bincount().min() > 180
    mean = subset.normalize(subset.images).mean((0, 2, 3))
    assert mean.abs().max() < 0.05


def test_a_folder_of_sheets(sheets, subset):
    assert torch.equal(data.cifar10(sheets, "test").images, subset.images)


def test_a_folder_of_png(tmp_path, subset, monkeypatch):
    monkeypatch.setattr(module, "_COUNTS", {"train": 20, "test": 20})
    for label, name in enumerate(subset.classes):
        folder = tmp_path / "test" / name
        folder.mkdir(parents=True)
        for i, index in enumerate((subset.labels == label).nonzero()[:2, 0]):
            Image.fromarray(subset.images[index].permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    loaded = data.cifar10(tmp_path, "test")
    assert loaded.labels.tolist() == [i // 2 for i in range(20)]
    first = (subset.labels == 0).nonzero()[0, 0]
    assert torch.equal(loaded.images[0], subset.images[first])
    (tmp_path / "test" / "unicorn").mkdir()
    with pytest.raises(DataError, match="unicorn"):
        data.cifar10(tmp_path, "test")


def test_official_batches(tmp_path, subset, monkeypatch):
    spec = importlib.util.spec_from_file_location("test_batches", Path(__file__).with_name("test_batches.py"))
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    monkeypatch.setattr(module, "_COUNTS", {"train": 2000, "test": 2000})
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    raw = writer.official(subset.images.numpy(), subset.labels.tolist())
    (folder / "test_batch").write_bytes(raw)
    for path in (tmp_path, folder):
        loaded = data.cifar10(path, "test")
        assert torch.equal(loaded.images, subset.images)
        assert torch.equal(loaded.labels, subset.labels)
    with pytest.raises(DataError, match="data_batch_1"):
        data.cifar10(tmp_path, "train")


def test_wrong_folder(tmp_path):
    with pytest.raises(DataError, match="is no folder"):
        data.cifar10(tmp_path / "none")
    with pytest.raises(DataError, match="holds no CIFAR-10"):
        data.cifar10(tmp_path)
    with pytest.raises(ConfigError, match="'train' or 'test'"):
        data.cifar10(tmp_path, "val")


def test_missing_sheet(sheets):
    (sheets / "sheets" / "test_01.webp").unlink()
    with pytest.raises(DataError, match=r"test_01\.webp is missing"):
        data.cifar10(sheets, "test")


def test_truncated_sheet(sheets):
    path = sheets / "sheets" / "test_01.webp"
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"test_01\.webp is damaged"):
        data.cifar10(sheets, "test")


def test_sheet_of_another_size(sheets):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(sheets / "sheets" / "test_01.webp", lossless=True)
    with pytest.raises(DataError, match="32×32; expected 800×1280"):
        data.cifar10(sheets, "test")


@pytest.mark.parametrize("text", ["", "3 cat.png\n", "cat\n" * 1000, "12 cat.png\n" * 2000])
def test_bad_index(sheets, text):
    with lzma.open(sheets / "test_index.txt.xz", "wt") as f:
        f.write(text)
    with pytest.raises(DataError):
        data.cifar10(sheets, "test")


def test_damaged_or_missing_index(sheets):
    path = sheets / "test_index.txt.xz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="damaged"):
        data.cifar10(sheets, "test")
    path.unlink()
    with pytest.raises(DataError, match="cannot read"):
        data.cifar10(sheets, "test")


def test_wrong_count():
    with pytest.raises(DataError, match="holds 2000 test images; CIFAR-10 has 10000"):
        data.cifar10(ASSETS, "test")
