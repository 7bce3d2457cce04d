import numpy as np
import pytest
import torch

from sparseflow.data import Pairs, npz_xy
from sparseflow.data.npz_xy import read_array
from sparseflow.errors import DataError


def arrays():
    r = np.random.default_rng(0)
    return {
        "X_train": r.normal(size=(6, 3, 8)), "y_train": r.normal(size=(6, 3, 2)).astype(np.float32),
        "X_val": r.normal(size=(4, 3, 8)), "y_val": r.normal(size=(4, 3, 2)),
    }  # fmt: skip


def check(train, val, body):
    for part, name in ((train, "train"), (val, "val")):
        assert np.array_equal(part.x.numpy(), body[f"X_{name}"].astype(np.float32))
        assert np.array_equal(part.y.numpy(), body[f"y_{name}"].astype(np.float32))
    assert (len(train), train.variates, len(val)) == (6, 3, 4)


def test_one_file_and_a_folder_hold_the_same(tmp_path):
    body = arrays()
    np.savez(tmp_path / "all.npz", **body)
    check(*npz_xy(tmp_path / "all.npz"), body)
    folder = tmp_path / "parts"
    (folder / "val").mkdir(parents=True)
    np.savez_compressed(folder / "train.npz", feats=body["X_train"], xy=body["y_train"])
    np.save(folder / "val" / "feats.npy", body["X_val"])
    np.save(folder / "val" / "xy.npy", body["y_val"])
    check(*npz_xy(folder), body)


def test_rows_are_taken():
    pairs = Pairs(x=torch.arange(6.0).view(3, 2), y=torch.arange(3.0)).to("cpu")
    x, y = pairs.take(torch.tensor([2, 0]))
    assert (x.tolist(), y.tolist()) == ([[4, 5], [0, 1]], [2, 0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"X_val": None}, "no array X_val"),
        ({"y_train": np.ones((5, 3, 2))}, "6 inputs and 5 answers"),
        ({"X_val": np.ones((4, 2, 8))}, "inputs to train on"),
        ({"y_val": np.ones((4, 3, 1))}, "answers to train on"),
        ({"X_train": np.full((6, 3, 8), np.nan)}, "row 0"),
        ({"X_train": np.array([{"a": 1}] * 6, object), "X_val": np.array([{}] * 4, object)}, "X_train: damaged, pickl"),
        ({"X_train": np.array([["a"]] * 6), "X_val": np.array([["b"]] * 4)}, "expected numbers"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, said):
    body = {k: v for k, v in (arrays() | change).items() if v is not None}
    np.savez(tmp_path / "a.npz", **body)
    with pytest.raises(DataError, match=said):
        npz_xy(tmp_path / "a.npz")


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays())
    whole = path.read_bytes()
    for keep in (0, 10, len(whole) // 2):
        path.write_bytes(whole[:keep])
        with pytest.raises(DataError, match=r"a\.npz"):
            npz_xy(path)
    np.save(tmp_path / "b.npy", np.ones(3))
    for missing in (tmp_path / "none.npz", tmp_path / "b.npy", tmp_path):
        with pytest.raises(DataError):
            npz_xy(missing)
    (tmp_path / "feats.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"feats\.npy is damaged"):
        read_array(tmp_path, "", "feats")
