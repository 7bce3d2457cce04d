"""The façade: units, sums over segments, gradients, and no prediction without weights."""

import pytest
import torch

from sparseflow.errors import DataError
from sparseflow.hardware import load_target
from sparseflow.hardware.chiplet import load_library
from sparseflow.hardware.proxy import (
    FIGURES,
    Fitted,
    LayerHwProxy,
    LayerProxyModel,
    LayerSpec,
    proxy_names,
    tabulate,
    write_fitted,
)  # fmt: skip

H200 = load_target("h200")
LAYERS = [LayerSpec(name="a", kind="attn", tokens=t, channels=64, heads=4) for t in (16, 64, 256)]


@pytest.fixture
def proxy():
    torch.manual_seed(0)
    models = {}
    for figure in FIGURES:
        models[figure] = LayerProxyModel(figure, members=2, hidden=8)
        models[figure].look_at(tabulate(LAYERS, H200).features, (60.0, 600.0))
    return LayerHwProxy(Fitted(models=models, target=H200, tdp_w=700.0))


def test_one_layer_is_numbers_and_equals_its_place_in_a_batch(proxy):
    batch = proxy.predict_layers_batch(LAYERS)
    for i, layer in enumerate(LAYERS):
        one = proxy.predict_layer(layer)
        assert set(one) == set(FIGURES)
        for figure in FIGURES:
            assert isinstance(one[figure], float)
            assert one[figure] == pytest.approx(batch[figure][i].item(), rel=1e-5)


def test_a_segment_adds_times_and_weights_and_weighs_power_by_time(proxy):
    each = [proxy.predict_layer(s) for s in LAYERS]
    found = proxy.predict_segment(LAYERS)
    weights = [s.weight_bytes / 1e6 for s in LAYERS]
    lat = sum(e["lat_ms"] for e in each)
    assert found["lat_ms"] == pytest.approx(lat)
    assert found["mem_mb"] == pytest.approx(
        sum(weights) + max(e["mem_mb"] - w for e, w in zip(each, weights, strict=True))
    )
    assert found["power_w"] == pytest.approx(sum(e["power_w"] * e["lat_ms"] for e in each) / lat)


def test_a_slower_chip_takes_as_much_longer_as_its_bound(proxy):
    small, big = load_library(names=["small_core", "big_core"])
    for layer in LAYERS:
        times = [proxy.predict_layer(layer, chip)["lat_ms"] for chip in (small, big)]
        bounds = [tabulate([layer], chip).roofline_ms.item() for chip in (small, big)]
        assert times[0] / times[1] == pytest.approx(bounds[0] / bounds[1], rel=1e-4)
        assert proxy.predict_layer(layer, small)["mem_mb"] == proxy.predict_layer(layer, big)["mem_mb"]
    powers = [proxy.predict_layer(LAYERS[0], chip)["power_w"] for chip in (small, big)]
    assert powers[0] / powers[1] == pytest.approx(small.tdp_w / big.tdp_w, rel=1e-5)


def test_shares_that_are_tensors_get_gradients(proxy):
    keep = torch.tensor(0.7, requires_grad=True)
    found = proxy.predict_segment([LayerSpec(name="b", kind="attn", tokens=128, channels=64, heads=4, keep_block=keep)])
    found["lat_ms"].backward()
    assert keep.grad is not None
    assert keep.grad > 0


def test_without_weights_there_is_no_prediction(tmp_path, proxy):
    with pytest.raises(DataError, match="codesign fit"):
        LayerHwProxy.load("tpu")
    with pytest.raises(DataError, match=r"gone.safetensors"):
        LayerHwProxy.load(tmp_path / "gone.safetensors")
    path = tmp_path / "half.safetensors"
    write_fitted(path, Fitted(models={"lat_ms": proxy.models["lat_ms"]}, target=H200, tdp_w=700.0))
    with pytest.raises(DataError, match="mem_mb, power_w"):
        LayerHwProxy.load(path)


@pytest.mark.parametrize("name", proxy_names())
def test_what_ships_predicts(name):
    found = LayerHwProxy.load(name).predict_segment(LAYERS)
    assert all(value > 0 for value in found.values())
