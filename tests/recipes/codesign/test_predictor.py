import pytest
import torch

from sparseflow.errors import SparseFlowError
from sparseflow.hardware.chiplet import load_library
from sparseflow.hardware.proxy import LayerSpec
from sparseflow.recipes.codesign.predictor import Bounds, load_predictor

BIG, SMALL = load_library(names=["big_core", "small_core"])


def _layer(**given) -> LayerSpec:
    return LayerSpec(name="a", kind="attn", tokens=512, channels=768, heads=12, precision="float16", **given)


def test_bounds_are_kept_and_a_smaller_chip_is_slower():
    layers = [_layer(batch=b) for b in (1, 8, 64)]
    big, small = (Bounds().predict_layers_batch(layers, chip) for chip in (BIG, SMALL))
    for chip, found in ((BIG, big), (SMALL, small)):
        for layer, ms, watts in zip(layers, found["lat_ms"], found["power_w"], strict=True):
            assert float(ms) * 1e-3 >= max(
                layer.flops / chip.peak_flops_per_s, layer.bytes / chip.peak_bw_bytes_per_s
            )  # fmt: skip
            assert 0.1 * chip.tdp_w <= float(watts) <= chip.tdp_w
    assert bool((small["lat_ms"] > big["lat_ms"]).all())


def test_gradients_reach_the_shares():
    keep = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    Bounds().predict_layers_batch([_layer(batch=64, keep_token=keep)], BIG)["lat_ms"].sum().backward()
    assert float(keep.grad) > 0


def test_roofline_is_asked_for_by_name_and_nothing_stands_in_for_missing_weights(tmp_path):
    assert isinstance(load_predictor("roofline"), Bounds)
    with pytest.raises(SparseFlowError):
        load_predictor(str(tmp_path / "none.safetensors"))
