"""Traced networks fall into the layers that they were built of."""

import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.hardware.proxy import layers_of
from sparseflow.ir import Workload
from sparseflow.nn.models.cmamba import CMamba, ModelArgs
from sparseflow.nn.models.convnets.resnet import resnet18
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.trace import trace


def _vit(**more):
    sizes = {"img_size": 16, "patch_size": 8, "num_frames": 2, "embed_dim": 16, "depth": 2, "num_heads": 4}
    return VideoViT(**{**sizes, "mlp_ratio": 4.0, "num_classes": 5, **more}).eval()


def test_a_transformer_is_patches_and_halves_of_blocks():
    found = layers_of(trace(_vit(), torch.zeros(3, 2, 3, 16, 16)))
    kinds = [s.kind for s in found if s.kind != "other"]
    assert kinds == ["patch_embed", "attn", "mlp", "attn", "mlp"]
    attn = next(s for s in found if s.name == "blocks.0.attn")
    assert (attn.batch, attn.tokens, attn.channels, attn.heads) == (3, 8, 16, 4)
    assert next(s for s in found if s.kind == "mlp").mlp_ratio == 4
    assert dict(found[0].attrs) == {"in_features": 3 * 64}


def test_a_sliced_transformer_keeps_the_width_of_its_heads():
    found = layers_of(trace(_vit(block_heads=[2, 2], block_hidden=[32, 32]), torch.zeros(1, 2, 3, 16, 16)))
    attn = next(s for s in found if s.kind == "attn")
    assert (attn.heads, attn.head_dim, attn.inner) == (2, 4, 8)
    assert next(s for s in found if s.kind == "mlp").hidden == 32


def test_a_scan_takes_its_gate_along():
    args = ModelArgs(n_layer=1, d_model=16, seq_len=48, num_channels=4, reduction_ratio=2)
    found = layers_of(trace(CMamba(args).eval(), torch.zeros(2, 4, 48)))
    (scan,) = [s for s in found if s.kind == "scan"]
    wanted = {"inner": args.d_inner, "state": args.d_state, "rank": args.rank, "mixed": 2, "series": 4}
    assert (scan.batch, scan.tokens, dict(scan.attrs)) == (8, args.num_patches, wanted)


def test_a_convolution_takes_norm_sum_and_activation_along():
    found = layers_of(trace(resnet18(width=0.25).eval(), torch.zeros(2, 3, 8, 8)))
    convs = [s for s in found if s.kind == "conv"]
    assert len(convs) == 20
    assert len(found) == 22
    assert sum(s.attr("residual") for s in convs) == 8
    assert {s.batch for s in convs} == {2}


@pytest.mark.parametrize(
    ("model", "sample", "least"),
    [(_vit(), (2, 2, 3, 16, 16), 0.9), (resnet18(width=0.25).eval(), (2, 3, 8, 8), 0.98)],
    ids=["transformer", "resnet"],
)
def test_layers_hold_the_operations_of_the_trace(model, sample, least):
    workload = trace(model, torch.zeros(sample))
    # Norms, activations and biases inside a layer are not counted.
    assert least <= sum(s.flops for s in layers_of(workload)) / workload.flops <= 1.0


def test_batch_and_precision_can_be_given():
    workload = trace(_vit(), torch.zeros(1, 2, 3, 16, 16))
    one, many = layers_of(workload), layers_of(workload, batch=8, precision="bfloat16")
    assert [s.batch for s in many] == [8 * s.batch for s in one]
    assert {s.precision for s in many} == {"bfloat16"}
    assert sum(s.flops for s in many) == pytest.approx(8 * sum(s.flops for s in one))


def test_names_are_unique_and_a_lone_product_is_other():
    layer = nn.Linear(4, 4)
    found = layers_of(trace(nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU()), torch.zeros(3, 4)))
    assert len({s.name for s in found}) == len(found)
    assert [s.kind for s in found] == ["other"] * len(found)


def test_nothing_is_refused():
    with pytest.raises(ConfigError, match="moves"):
        layers_of(Workload(name="empty", layers=()))
