"""A layer's costs are the page's formulas, and shares of it carry gradients."""

import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.hardware.proxy import KINDS, LayerSpec
from sparseflow.hardware.proxy.layer_spec import element_bytes
from sparseflow.trace import trace


def _spec(kind, **more):
    sizes = {
        "patch_embed": {"attrs": (("in_features", 48),)},
        "attn": {"heads": 4},
        "mlp": {"mlp_ratio": 4.0},
        "conv": {"attrs": (("in_channels", 16), ("in_tokens", 36), ("taps", 9))},
        "scan": {"attrs": (("inner", 48), ("rank", 8), ("state", 16))},
        "other": {},
    }[kind]
    return LayerSpec(**{"name": kind, "kind": kind, "tokens": 36, "channels": 32, **sizes, **more})


def test_attention_and_mlp_have_the_flops_of_the_page():
    attn, mlp = _spec("attn", batch=3), _spec("mlp", batch=3)
    assert attn.flops == 3 * (8 * 36 * 32**2 + 4 * 36**2 * 32)
    assert mlp.flops == 3 * 4 * 4 * 36 * 32**2


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_doubles_tensors_but_not_weights(kind):
    one, two = _spec(kind), _spec(kind, batch=2)
    assert two.flops == 2 * one.flops
    assert two.weight_bytes == one.weight_bytes
    assert two.activation_bytes == 2 * one.activation_bytes
    assert two.bytes - two.weight_bytes == 2 * (one.bytes - one.weight_bytes)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "other"])
def test_half_precision_halves_all_bytes(kind):
    wide, narrow = _spec(kind), _spec(kind, precision="bfloat16")
    for figure in ("weight_bytes", "activation_bytes", "bytes", "output_bytes"):
        assert getattr(wide, figure) == 2 * getattr(narrow, figure)


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        ("attn", "keep_token"),
        ("attn", "keep_head"),
        ("mlp", "keep_channel"),
        ("mlp", "keep_block"),
        ("conv", "keep_channel"),
    ],
)
def test_what_is_kept_carries_gradients_that_differences_agree_with(kind, share):
    keep = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    flops = _spec(kind, **{share: keep}).flops
    (slope,) = torch.autograd.grad(flops, keep)
    step = 1e-6
    high, low = (_spec(kind, **{share: 0.6 + d}).flops for d in (step, -step))
    assert slope.item() == pytest.approx((high - low) / (2 * step), rel=1e-6)
    assert slope > 0


def test_a_dropped_block_costs_nothing_but_passes_its_input_on():
    gone = _spec("mlp", keep_block=0.0)
    assert gone.flops == gone.bytes == gone.weight_bytes == gone.activation_bytes == 0
    assert gone.output_bytes == _spec("mlp").output_bytes


def test_formulas_count_what_the_trace_counts():
    linear = trace(nn.Linear(48, 32), torch.zeros(2, 36, 48)).flops
    conv = trace(nn.Conv2d(16, 32, 3, padding=1, bias=False), torch.zeros(2, 16, 6, 6)).flops
    # The trace adds one operation a bias.
    assert _spec("patch_embed", batch=2).flops == pytest.approx(linear, rel=0.02)
    assert _spec("conv", batch=2).flops == conv


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"kind": "lstm"}, "lstm"),
        ({"precision": "float8"}, "float8"),
        ({"tokens": 0}, "tokens"),
        ({"heads": 0}, "heads"),
        ({"keep_token": 1.5}, "keep_token"),
        ({"kind": "scan"}, "inner"),
    ],
)
def test_what_cannot_be_is_refused(wrong, told):
    with pytest.raises(ConfigError, match=told):
        _spec("attn", **wrong) if wrong.get("kind") not in ("lstm", "scan") else LayerSpec(
            name="x", tokens=4, channels=4, **wrong
        )


def test_bytes_of_a_number():
    assert [element_bytes(p) for p in ("float32", "float16", "int8")] == [4.0, 2.0, 1.0]
    with pytest.raises(ConfigError, match="int3"):
        element_bytes("int3")
