import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.hardware.mapping import coarse_partition, traffic_bytes
from sparseflow.hardware.proxy.layer_spec import LayerSpec


def block(n, **more):
    return [
        LayerSpec(name=f"{n}.attn", kind="attn", tokens=16, channels=32, heads=4, **more),
        LayerSpec(name=f"{n}.mlp", kind="mlp", tokens=16, channels=32, mlp_ratio=4, **more),
    ]


def other(n):
    return LayerSpec(name=n, kind="other", tokens=16, channels=32, attrs=(("in_features", 32),))


def conv(n):
    attrs = (("in_channels", 8), ("taps", 9), ("in_tokens", 64))
    return LayerSpec(name=n, kind="conv", tokens=64, channels=8, attrs=attrs)


def test_segments_are_two_blocks_each_and_hold_every_layer_once():
    layers = [x for n in range(5) for x in block(n)]
    segments = coarse_partition(layers)
    assert [s.layer_indices for s in segments] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    assert [s.id for s in segments] == [0, 1, 2]
    assert sum(s.flops for s in segments) == pytest.approx(sum(x.flops for x in layers))
    assert segments[0].num_heads == 4
    assert segments[0].mlp_ratio == 4


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_mixed_network_is_cut_whole(size):
    layers = [conv("c0"), other("norm"), conv("c1"), *block(0), other("norm"), *block(1), other("head")]
    segments = coarse_partition(layers, segment_size=size)
    assert [i for s in segments for i in s.layer_indices] == list(range(len(layers)))
    assert all(len(s.layer_indices) >= 1 for s in segments)


def test_an_mlp_stays_with_its_attention_and_other_layers_with_what_is_before():
    segments = coarse_partition([conv("c"), other("n"), *block(0), other("n")], segment_size=1)
    assert [s.layer_indices for s in segments] == [(0, 1), (2, 3, 4)]


def test_traffic_is_what_the_last_layer_gives_and_ends_are_silent():
    segments = coarse_partition([x for n in range(4) for x in block(n)], segment_size=1)
    assert segments[0].traffic_in_bytes == 0
    assert segments[-1].traffic_out_bytes == 0
    assert traffic_bytes(segments) == [16 * 32 * 4.0] * 3
    assert [s.traffic_in_bytes for s in segments[1:]] == traffic_bytes(segments)


def test_a_limit_of_operations_cuts_earlier():
    layers = [x for n in range(6) for x in block(n)]
    one = sum(x.flops for x in layers[:2])
    assert len(coarse_partition(layers, segment_size=6)) == 1
    assert len(coarse_partition(layers, segment_size=6, max_flops=1.5 * one)) == 3


def test_only_attention_with_traffic_may_be_split():
    attention = coarse_partition(block(0) * 2, segment_size=1)
    assert not attention[0].can_split_fine  # attention has a third of these operations
    assert coarse_partition(block(0), fine_share=0.3)[0].can_split_fine
    assert not coarse_partition(block(0), fine_share=0.3, fine_traffic_bytes=1e9)[0].can_split_fine
    assert not coarse_partition([conv("c")], fine_share=0.0)[0].can_split_fine


def test_gradients_of_keeps_pass_through():
    keep = torch.tensor(0.5, requires_grad=True)
    segment = coarse_partition(block(0, keep_token=keep))[0]
    for figure in (segment.flops, segment.bytes, segment.activation_bytes):
        (g,) = torch.autograd.grad(figure, keep, retain_graph=True)
        assert g > 0


def test_faulty_arguments_are_named():
    with pytest.raises(ConfigError, match="without layers"):
        coarse_partition([])
    with pytest.raises(ConfigError, match="segment_size"):
        coarse_partition([conv("c")], segment_size=0)
