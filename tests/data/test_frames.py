import json

import numpy as np
import pytest
import torch

from sparseflow.data import frames_lazy
from sparseflow.errors import ConfigError, DataError

T, DIN = 30, 4


def recording(tmp_path, roles=None, **more):
    r = np.random.default_rng(0)
    body = {"feats": r.normal(3.0, 2.0, (T, DIN)).astype(np.float32), "xy": r.normal(size=(T, 2))} | more
    for name, array in body.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "all.npz", **body)
    roles = (
        {"train": list(range(15)), "val": list(range(15, 22)), "test": list(range(22, 30))} if roles is None else roles
    )
    (tmp_path / "roles.json").write_text(roles if isinstance(roles, str) else json.dumps(roles))
    return body


@pytest.mark.parametrize(("label", "first"), [("current", 2), ("next", 3)])
def test_both_conventions_are_those_of_a_plain_loop(tmp_path, label, first):
    body = recording(tmp_path)
    found = frames_lazy(tmp_path, tmp_path / "roles.json", window=3, label=label)
    train, test = found["train"], found["test"]
    assert train.index.tolist() == list(range(first, 15))
    assert test.index.tolist() == list(range(22, 30))
    assert isinstance(train.feats, np.memmap)
    end = 1 if label == "current" else 0
    used = body["feats"][: 15 - 1 + end].astype(np.float64)
    assert np.allclose(train.mean, used.mean(0), rtol=1e-6)
    assert np.allclose(train.std, used.std(0), rtol=1e-6)
    x, y = test.take(torch.tensor([0, 7]))
    assert (x.shape, y.shape) == ((2, DIN, 3), (2, 2))
    for i, t in enumerate((22, 29)):
        seen = body["feats"][t - 3 + end : t + end]
        assert np.allclose(x[i].numpy(), ((seen - train.mean) / train.std).T, rtol=1e-6)
        assert np.array_equal(y[i].numpy(), body["xy"][t].astype(np.float32))


def test_a_file_and_a_list_of_roles_are_taken(tmp_path):
    recording(tmp_path, [{"role": "train", "indices": [5, 9]}, {"role": "val", "indices": [20]}])
    a, b = (frames_lazy(tmp_path / p, tmp_path / "roles.json", window=2) for p in ("all.npz", "."))
    assert [len(f) for f in a.values()] == [2, 1]
    one = torch.tensor([1])
    assert torch.equal(a["train"].take(one)[0], b["train"].take(one)[0])


@pytest.mark.parametrize("source", ["all.npz", "."])
def test_windows_do_not_reach_over_gaps_in_time(tmp_path, source):
    ts = np.arange(T) * 0.01
    ts[10:] += 1.0
    recording(tmp_path, ts=ts)
    found = frames_lazy(tmp_path / source, tmp_path / "roles.json", window=3, label="next")
    assert found["train"].index.tolist() == [3, 4, 5, 6, 7, 8, 9, 13, 14]


def test_a_flat_feature_is_divided_by_the_floor(tmp_path):
    feats = np.random.default_rng(1).normal(size=(T, DIN))
    feats[:, 1] = 7.0
    recording(tmp_path, feats=feats)
    found = frames_lazy(tmp_path, tmp_path / "roles.json", window=2, floor=0.5)["train"]
    assert found.std[1] == 0.5
    assert not found.take(torch.arange(3))[0][:, 1].any()


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"val": [3]}, "no role 'train'"),
        ({"train": [3, 30]}, "frame 30; there are 30"),
        ({"train": [-1, 3]}, "frame -1"),
        ({"train": [3], "val": [3]}, "twice"),
        ({"train": [3.5]}, "whole numbers"),
        ({"train": [3], "val": [0]}, "role 'val'"),
        ({"train": [3], "val": []}, "role 'val'"),
        ([{"role": "train"}], "indices"),
        ("[1", "no list of frames"),
        ('"train"', "neither an object"),
    ],
)
def test_bad_roles_are_named(tmp_path, roles, said):
    recording(tmp_path, roles)
    with pytest.raises(DataError, match=said):
        frames_lazy(tmp_path, tmp_path / "roles.json", window=2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"feats": np.ones(T)}, "feats is"),
        ({"xy": np.ones((T, 3))}, "xy is"),
        ({"xy": np.full((T, 2), np.nan)}, "not finite"),
        ({"feats": np.full((T, DIN), np.inf)}, "not finite"),
        ({"ts": np.zeros(T)}, "rising"),
        ({"ts": np.arange(T - 1)}, "rising"),
    ],
)
def test_bad_arrays_are_named(tmp_path, change, said):
    recording(tmp_path, **change)
    with pytest.raises(DataError, match=said), np.errstate(invalid="ignore"):
        frames_lazy(tmp_path, tmp_path / "roles.json", window=2)


def test_settings_are_checked(tmp_path):
    recording(tmp_path)
    for bad in ({"window": 0}, {"window": 2, "label": "old"}, {"window": 2, "floor": 0.0}):
        with pytest.raises(ConfigError):
            frames_lazy(tmp_path, tmp_path / "roles.json", **bad)
    with pytest.raises(DataError, match="cannot read"):
        frames_lazy(tmp_path, tmp_path / "none.json", window=2)
    with pytest.raises(DataError, match="holds neither"):
        frames_lazy(tmp_path / "none", tmp_path / "roles.json", window=2)
