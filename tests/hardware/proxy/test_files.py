"""What is written is read again, and what is none is refused with the mend."""

import pytest
import torch

from sparseflow.errors import DataError
from sparseflow.hardware import load_target
from sparseflow.hardware.proxy import Fitted, LayerProxyModel, LayerSpec, read_fitted, tabulate, write_fitted

H200 = load_target("h200")


def _fitted():
    torch.manual_seed(0)
    model = LayerProxyModel("lat_ms", members=2, hidden=8)
    model.look_at(
        tabulate([LayerSpec(name="a", kind="attn", tokens=t, channels=64, heads=4) for t in (8, 64)], H200).features
    )
    return Fitted(models={"lat_ms": model}, target=H200, tdp_w=700.0, about={"lat_ms": {"train": 2}})


def test_models_come_back_to_half_precision(tmp_path):
    path, fitted = tmp_path / "p.safetensors", _fitted()
    write_fitted(path, fitted)
    found = read_fitted(path)
    assert (found.target, found.tdp_w, found.about) == (fitted.target, 700.0, {"lat_ms": {"train": 2}})
    table = tabulate([LayerSpec(name="a", kind="attn", tokens=20, channels=64, heads=4)], H200)
    both = [f.models["lat_ms"](table).item() for f in (found, fitted)]
    assert both[0] == pytest.approx(both[1], rel=5e-3)


@pytest.mark.parametrize("content", [None, b"", b"not a file of tensors"])
def test_what_is_no_proxy_is_refused_with_the_mend(tmp_path, content):
    path = tmp_path / "p.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"p.safetensors.*codesign fit"):
        read_fitted(path)


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        write_fitted(tmp_path / "nowhere" / "p.safetensors", _fitted())
