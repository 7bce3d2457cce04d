import importlib
import io

import pytest
import torch
from PIL import Image

from sparseflow import data
from sparseflow.data import _parquet as room
from sparseflow.errors import DataError

module = importlib.import_module("sparseflow.data.cifar10")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def encoded(image):
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, format="PNG")
    return file.getvalue()


def write(path, images, labels, names=("img", "label"), plain=False):
    cells = [encoded(i) if plain else {"bytes": encoded(i), "path": None} for i in images]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({names[0]: cells, names[1]: labels}), path)


@pytest.fixture(scope="module")
def few():
    return data.cifar10_subset().take(30)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("where", [".", "plain_text"])
def test_files_are_read_in_order(tmp_path, monkeypatch, few, where, plain):
    monkeypatch.setattr(module, "_COUNTS", {"train": 30, "test": 30})
    folder = tmp_path / where
    write(folder / "test-00000-of-00002.parquet", few.images[:18], few.labels[:18].tolist(), plain=plain)
    write(folder / "test-00001-of-00002.parquet", few.images[18:], few.labels[18:].tolist(), plain=plain)
    loaded = data.cifar10(tmp_path, "test")
    assert torch.equal(loaded.images, few.images)
    assert torch.equal(loaded.labels, few.labels)
    with pytest.raises(DataError, match=r"train\*\.parquet"):
        data.cifar10(tmp_path, "train")


def test_other_counts_columns_and_sizes_are_refused(tmp_path, few):
    path = tmp_path / "test.parquet"
    write(path, few.images, few.labels.tolist())
    with pytest.raises(DataError, match="holds 30 test images"):
        data.cifar10(tmp_path, "test")
    write(path, few.images, few.labels.tolist(), names=("pixels", "label"))
    with pytest.raises(DataError, match="columns pixels, label"):
        data.cifar10(tmp_path, "test")
    write(path, few.images[:, :, :16], few.labels.tolist())
    with pytest.raises(DataError, match="row 0: 32×16"):
        data.cifar10(tmp_path, "test")
    pq.write_table(pa.table({"img": [b"no image"], "label": [1]}), path)
    with pytest.raises(DataError, match="row 0: damaged"):
        data.cifar10(tmp_path, "test")
    pq.write_table(pa.table({"img": [1], "label": [1]}), path)
    with pytest.raises(DataError, match="no bytes"):
        data.cifar10(tmp_path, "test")
    path.write_bytes(b"PAR1 broken")
    with pytest.raises(DataError, match="no parquet file"):
        data.cifar10(tmp_path, "test")
    pq.write_table(pa.table({"img": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}), path)
    with pytest.raises(DataError, match="holds no image"):
        data.cifar10(tmp_path, "test")


def test_without_pyarrow_the_error_names_what_to_install(tmp_path, monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(room.importlib, "import_module", refuse)
    with pytest.raises(DataError, match=r"sparseflow\[parquet\]"):
        room.read_parquet([tmp_path / "x.parquet"], (32, 32))
