"""Features begin with the design's thirteen, and agree with the layer's own arithmetic."""

import math

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.hardware import load_target
from sparseflow.hardware.chiplet import load_library
from sparseflow.hardware.proxy import (
    FEATURES,
    KINDS,
    SEED_FEATURES,
    LayerSpec,
    build_layer_features,
    rates_of,
    tabulate,
)

H200 = load_target("h200")
SIZES = {
    "patch_embed": {"attrs": (("in_features", 48),)},
    "attn": {"heads": 4},
    "mlp": {"mlp_ratio": 4.0},
    "conv": {"attrs": (("in_channels", 16), ("in_tokens", 36), ("taps", 9))},
    "scan": {"attrs": (("inner", 48), ("rank", 8), ("state", 16))},
    "other": {},
}


def _spec(kind, **more):
    return LayerSpec(**{"name": kind, "kind": kind, "tokens": 36, "channels": 32, **SIZES[kind], **more})


def test_the_first_thirteen_are_the_designs_in_its_order():
    layer = _spec("mlp", precision="float16", batch=2)
    found = build_layer_features(layer, H200)[:13].tolist()
    wanted = [
        math.log10(layer.flops + 1), math.log10(layer.bytes + 1), math.log10(989e12 + 1), math.log10(4.8e12 + 1),
        0, 0, 1, 0, 32 / 1024, 0, 1.0, 36 / 1024, 1,
    ]  # fmt: skip
    assert found == pytest.approx(wanted)
    assert FEATURES[:13] == SEED_FEATURES


def test_columns_agree_with_the_layers_one_by_one():
    layers = [_spec(kind, batch=b) for b in (1, 3) for kind in KINDS]
    table = tabulate(layers, H200)
    for i, layer in enumerate(layers):
        assert table.weight_mb[i] == pytest.approx(layer.weight_bytes / 1e6)
        assert table.ends_mb[i] + table.between_mb[i] == pytest.approx(layer.activation_bytes / 1e6)
        assert torch.equal(table.features[i], build_layer_features(layer, H200))


@pytest.mark.parametrize("kind", KINDS)
def test_no_layer_beats_its_bound(kind):
    layer = _spec(kind)
    rates = rates_of(H200, "float32")
    bound = tabulate([layer], H200).roofline_ms[0]
    assert bound >= 1e3 * max(
        layer.flops / rates.flops_per_s * (kind != "other"), layer.weight_bytes / rates.bytes_per_s
    )


def test_features_and_bound_carry_gradients():
    keep = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    table = tabulate([_spec("attn", keep_token=keep), _spec("mlp")], H200)
    for column in (table.features.sum(), table.roofline_ms.sum()):
        (slope,) = torch.autograd.grad(column, keep, retain_graph=True)
        assert slope > 0


def test_a_chip_that_does_not_state_a_precision_has_it_by_the_width_of_numbers():
    big = load_library(names=["big_core"])[0]
    assert rates_of(big, "float32").flops_per_s == big.peak_flops_per_s / 2
    assert rates_of(big, "bfloat16") == (big.peak_flops_per_s, big.peak_bw_bytes_per_s)


def test_no_layer_is_refused():
    with pytest.raises(ConfigError, match="at least one"):
        tabulate([], H200)
