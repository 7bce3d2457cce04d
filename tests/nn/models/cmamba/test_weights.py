from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.models.cmamba import (
    CMamba,
    ModelArgs,
    build_model,
    convert_weights,
    load_model,
    load_npz_input,
    load_weights,
    save_weights,
)
from sparseflow.nn.models.cmamba.files import FORMATS
from sparseflow.nn.models.cmamba.primitives import sincos

ENDINGS = tuple(FORMATS)
SIZES = {"d_model": 8, "seq_len": 24, "patch_len": 8, "stride": 4, "d_state": 3, "num_channels": 3, "n_layer": 1}
ARGS = ModelArgs(**SIZES)
KEY = "encoder.layers.0.mixer.A_log"
Tensors = dict[str, torch.Tensor]


def equal(a: CMamba, b: CMamba) -> bool:
    other = b.state_dict()
    return all(torch.equal(t, other[k]) for k, t in a.state_dict().items())


def store(path: Path, tensors: Tensors) -> Path:
    """Write tensors as another project would, without metadata."""
    if path.suffix == ".safetensors":
        save_file({k: t.clone() for k, t in tensors.items()}, path)
    elif path.suffix == ".npz":
        np.savez(path, **{k: t.numpy() for k, t in tensors.items()})
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("args", [ARGS, ModelArgs(variant="seed", **SIZES), ModelArgs.paper(1)])
def test_a_model_comes_back(tmp_path: Path, ending: str, args: ModelArgs) -> None:
    model = build_model(args)
    save_weights(tmp_path / f"w{ending}", model, record={"mse": 0.375})
    again, record = load_model(tmp_path / f"w{ending}")
    assert again.args == args
    assert record == {"mse": 0.375}
    assert not again.training
    assert equal(model, again)
    report = load_weights(other := build_model(args), tmp_path / f"w{ending}")
    assert report.ok
    assert set(report.loaded) == set(model.state_dict())
    assert equal(model, other)


def test_a_round_through_all_formats_is_byte_identical(tmp_path: Path) -> None:
    save_weights(tmp_path / "1.pt", build_model(ARGS), record={"seed": 1})
    path = tmp_path / "1.pt"
    for name in ("1.safetensors", "1.npz", "2.pt", "2.npz", "2.safetensors"):
        convert_weights(path, tmp_path / name)
        path = tmp_path / name
    for ending in ENDINGS:
        assert (tmp_path / f"1{ending}").read_bytes() == (tmp_path / f"2{ending}").read_bytes()
    model, record = load_model(path)
    save_weights(tmp_path / "3.pt", model, record=record)
    assert (tmp_path / "3.pt").read_bytes() == (tmp_path / "1.pt").read_bytes()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model."])
def test_a_published_state_dict(tmp_path: Path, ending: str, prefix: str) -> None:
    """Its names are the network's; its persistent table of positions is compared and dropped."""
    source = build_model(ARGS)
    pe = "patch_embedding.position_embedding.pe"
    published = {**source.state_dict(), pe: sincos(5000, 8).unsqueeze(0)}
    path = store(tmp_path / f"w{ending}", {prefix + k: t for k, t in published.items()})
    model = build_model(ARGS)
    assert load_weights(model, path).dropped == (pe,)
    assert equal(source, model)


def test_other_positions_are_refused(tmp_path: Path) -> None:
    tensors = {**build_model(ARGS).state_dict(), "position.pe": sincos(5000, 8).flip(0)}
    with pytest.raises(DataError, match=r"position\.pe"):
        load_weights(build_model(ARGS), store(tmp_path / "w.pt", tensors))


def test_names_by_a_map(tmp_path: Path) -> None:
    source = build_model(ARGS)
    tensors = dict(source.state_dict())
    tensors["projection.weight"] = tensors.pop("head.linear.weight")
    path = store(tmp_path / "w.npz", tensors)
    load_weights(model := build_model(ARGS), path, key_map={"projection.weight": "head.linear.weight"})
    assert equal(source, model)
    with pytest.raises(ConfigError, match="absent"):
        load_weights(model, path, key_map={"absent": "head.linear.weight"})
    with pytest.raises(ConfigError, match=r"several.*head\.linear\.bias"):
        load_weights(model, path, key_map={"projection.weight": "head.linear.bias"})


def change(key: str, how: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, key: how(tensors[key])}


def poisoned(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def poison(t: torch.Tensor) -> torch.Tensor:
        t = t.clone()
        t.view(-1)[-1] = value
        return t

    return poison


# Missing, extra, shape, dtype, NaN; cut-off files, flipped bits and pickles follow below and in test_files.
CORRUPTIONS: dict[str, tuple[str, str, Callable[[Tensors], Tensors]]] = {
    "one missing": ("head.linear.bias", "missing", lambda t: {k: v for k, v in t.items() if k != "head.linear.bias"}),
    "layer missing": (KEY, "missing", lambda t: {k: v for k, v in t.items() if "layers.0" not in k}),
    "all missing": ("head.linear.bias", "missing", lambda t: {}),
    "one extra": ("encoder.layers.1.mixer.A_log", "not in", lambda t: {**t, "encoder.layers.1.mixer.A_log": t[KEY]}),
    "renamed": ("head.bias", "not in", lambda t: {k.replace("linear.bias", "bias"): v for k, v in t.items()}),
    "transposed": (KEY, "shape", change(KEY, lambda w: w.T.contiguous())),
    "one row more": ("head.linear.bias", "shape", change("head.linear.bias", lambda w: torch.cat((w, w[:1])))),
    "flattened": ("head.linear.weight", "shape", change("head.linear.weight", lambda w: w.reshape(-1))),
    "empty": (KEY, "shape", change(KEY, lambda w: w[:0])),
    "double": (KEY, "float64", change(KEY, lambda w: w.double())),
    "half": (KEY, "float16", change(KEY, lambda w: w.half())),
    "whole numbers": (KEY, "int32", change(KEY, lambda w: w.int())),
    "nan": (KEY, "not finite", change(KEY, poisoned(float("nan")))),
    "infinite": ("head.linear.bias", "not finite", change("head.linear.bias", poisoned(float("inf")))),
    "minus infinite": ("head.linear.bias", "not finite", change("head.linear.bias", poisoned(-float("inf")))),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_a_corrupted_file_is_refused_and_the_key_named(tmp_path: Path, name: str, ending: str) -> None:
    key, what, corrupt = CORRUPTIONS[name]
    path = store(tmp_path / f"w{ending}", corrupt(dict(build_model(ARGS).state_dict())))
    model = build_model(ARGS)
    before = {k: t.clone() for k, t in model.state_dict().items()}
    with pytest.raises(DataError) as caught:
        load_weights(model, path)
    text = str(caught.value)
    assert key in text
    assert what in text
    assert str(path) in text
    assert any(mend in text for mend in ("build the network", "key_map", "cast=True", "take a"))
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items())


@pytest.mark.parametrize("ending", ENDINGS)
def test_damage_to_the_file_names_the_key(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w{ending}"
    model = build_model(ARGS)
    save_weights(path, model)
    data = path.read_bytes()
    spot = data.find(model.state_dict()["head.linear.weight"].numpy().tobytes())
    flipped = bytearray(data)
    flipped[spot + 5] ^= 1
    for damaged in (data[: spot + 7], bytes(flipped)):
        path.write_bytes(damaged)
        for load in (load_model, lambda p: load_weights(model, p)):
            with pytest.raises(DataError, match=r"head\.linear\.weight.*again"):
                load(path)


def test_settings_that_shapes_do_not_show(tmp_path: Path) -> None:
    """A network of another ε takes the same shapes, and would forecast otherwise."""
    save_weights(tmp_path / "w.npz", build_model(ARGS))
    with pytest.raises(DataError, match=r"norm_eps: 1e-05 in the file, 0\.001 in the network"):
        load_weights(build_model(ModelArgs(**SIZES, norm_eps=1e-3)), tmp_path / "w.npz")
    assert load_weights(build_model(ModelArgs(**SIZES, dropout=0.3)), tmp_path / "w.npz").ok


def test_what_fits_can_be_loaded_alone(tmp_path: Path) -> None:
    source = build_model(ModelArgs(**{**SIZES, "n_layer": 2, "forecast_len": 5}))
    tensors = {k: t for k, t in source.state_dict().items() if "patch" not in k}
    model = build_model(ARGS)
    first = model.patch_embedding.value_embedding.weight.clone()
    report = load_weights(model, store(tmp_path / "w.pt", tensors), strict=False)
    assert not report.ok
    assert report.missing == ("patch_embedding.value_embedding.weight [8, 8]",)
    assert len(report.unexpected) == 13 - 2
    assert report.shapes == (
        "head.linear.weight: [5, 48] in the file, [96, 48] in the network",
        "head.linear.bias: [5] in the file, [96] in the network",
    )
    assert torch.equal(model.state_dict()[KEY], source.state_dict()[KEY])
    assert torch.equal(model.patch_embedding.value_embedding.weight, first)


def test_floats_can_be_cast_and_whole_numbers_cannot(tmp_path: Path) -> None:
    source = build_model(ARGS)
    path = store(tmp_path / "w.safetensors", {k: t.double() for k, t in source.state_dict().items()})
    load_weights(model := build_model(ARGS), path, cast=True)
    assert equal(source, model)
    store(path, change(KEY, lambda w: w.long())(dict(source.state_dict())))
    with pytest.raises(DataError, match=KEY):
        load_weights(model, path, cast=True)


def test_a_file_without_valid_settings_makes_no_model(tmp_path: Path) -> None:
    path = store(tmp_path / "w.pt", dict(build_model(ARGS).state_dict()))
    with pytest.raises(DataError, match=r"holds no settings.*load_weights"):
        load_model(path)
    model = build_model(ARGS)
    object.__setattr__(model.args, "stride", -1)
    save_weights(path, model)
    object.__setattr__(model.args, "stride", 4)
    with pytest.raises(DataError, match="stride is -1"):
        load_model(path)


def test_series_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    x = np.random.default_rng(0).normal(size=(2, 3, 24))
    np.savez(path, x=x, a=np.zeros(1))
    assert torch.equal(load_npz_input(path), torch.from_numpy(x).float())
    np.savez(path, series=x.astype(np.int16))
    assert load_npz_input(path).dtype == torch.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds no array"),
        ({"x": np.ones((3, 4))}, r"'x' has shape \[3, 4\]; expected \[B, V, L\]"),
        ({"x": np.full((1, 1, 2), np.nan)}, "'x' holds a NaN"),
        ({"x": np.ones((1, 1, 2), dtype=complex)}, "'x' has the type complex128"),
        ({"x": np.ones((1, 1, 2), dtype=object)}, "'x' holds Python objects"),
    ],
)
def test_series_that_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "in.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_npz_input(tmp_path / "in.npz")


def test_series_from_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no \.npz file"):
        load_npz_input(tmp_path / "in.csv")
    with pytest.raises(DataError, match="no file"):
        load_npz_input(tmp_path / "in.npz")
