"""What is counted for a sample agrees with the parameters and outputs of the modules themselves."""

import pytest
import torch

from sparseflow.hardware.proxy._kinds import costs, parts
from sparseflow.hardware.proxy.layer_spec import LayerSpec
from sparseflow.nn.models.cmamba.args import ModelArgs
from sparseflow.nn.models.cmamba.blocks import CMambaBlock
from sparseflow.nn.models.cmamba.primitives import Float
from sparseflow.nn.models.video_vit import VideoViTArgs
from sparseflow.nn.models.video_vit.blocks import Block


def _matrices(module):
    return sum(p.numel() for p in module.parameters() if p.ndim >= 2)


def test_halves_of_a_block_hold_its_matrices():
    args = VideoViTArgs(img_size=32, patch_size=8, num_frames=2, embed_dim=32, depth=1, num_heads=4)
    attn = LayerSpec(name="a", kind="attn", tokens=32, channels=32, heads=4)
    mlp = LayerSpec(name="m", kind="mlp", tokens=32, channels=32, mlp_ratio=4.0)
    block = Block(args, 4, 128)
    assert costs(attn).weights == _matrices(block.attn)
    assert costs(mlp).weights == _matrices(block.mlp)


def test_a_block_with_a_scan_holds_its_matrices():
    args = ModelArgs(d_model=32, seq_len=48, num_channels=6, reduction_ratio=2, expand=1.5, d_state=8, dt_rank=4)
    sizes = {"inner": args.d_inner, "state": args.d_state, "rank": args.rank, "series": 6, "mixed": 3}
    spec = LayerSpec(name="s", kind="scan", tokens=args.num_patches, channels=32, attrs=tuple(sizes.items()))
    block = CMambaBlock(args, Float())
    # A_log, one row of `state` numbers, is no product.
    assert costs(spec).weights == _matrices(block) - args.d_state
    assert costs(spec).outputs == block(torch.zeros(6, args.num_patches, 32)).numel() / 6


def test_other_layers_are_products_or_what_their_attributes_say():
    product = LayerSpec(name="fc", kind="other", tokens=1, channels=10, attrs=(("in_features", 512),))
    assert costs(product).flops == 2 * 512 * 10
    pool = LayerSpec(name="pool", kind="other", tokens=1, channels=8, attrs=(("flops", 64.0), ("reads", 128)))
    assert (costs(pool).flops, costs(pool).inputs, costs(pool).outputs) == (64.0, 128, 8)
    half = LayerSpec(name="pool", kind="other", tokens=4, channels=8, keep_token=0.5)
    assert (costs(half).inputs, costs(half).outputs) == pytest.approx((16, 16))


@pytest.mark.parametrize(
    "layer",
    [
        LayerSpec(name="a", kind="attn", tokens=50, channels=64, heads=4, keep_head=0.5, keep_token=0.5),
        LayerSpec(name="m", kind="mlp", tokens=50, channels=64, mlp_ratio=4.0, keep_channel=0.25),
        LayerSpec(name="l", kind="other", tokens=50, channels=64, attrs=(("in_features", 32),)),
        LayerSpec(
            name="c", kind="conv", tokens=49, channels=64, attrs=(("in_channels", 8), ("in_tokens", 49), ("taps", 9))
        ),
        LayerSpec(name="s", kind="scan", tokens=12, channels=64, attrs=(("inner", 64), ("rank", 4), ("state", 16))),
    ],
    ids=lambda s: s.kind,
)
def test_the_operators_of_a_layer_add_up_to_it(layer):
    found, whole = parts(layer), costs(layer)
    assert sum(p.flops for p in found) == pytest.approx(whole.flops)
    assert sum(p.weights for p in found) == pytest.approx(whole.weights)
    assert sum(p.numbers for p in found) >= whole.inputs + whole.outputs
