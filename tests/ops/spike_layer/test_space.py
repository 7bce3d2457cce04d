"""Refusals of the spiking layer's kernels, each with its reason."""

import pytest

from sparseflow.ir import Layer, Operand, Target
from sparseflow.ops.spike_layer import KERNELS
from sparseflow.ops.spike_layer.space import OP, refuses_cuda, refuses_event, refuses_triton
from tests.ops.test_op import conv


def target(kind="gpu", features=("sm_90a",)):
    return Target(
        name="t", kind=kind, peak_flops_per_s={}, bw_bytes_per_s=1.0, memory_bytes=1.0, cores=1, features=features
    )


def layer(structure="spikes", **attrs):
    x = Operand(role="input", shape=(4, 8, 5, 5), structure=structure)
    return Layer(name="x", op="conv2d", operands=(x,), attrs=tuple(attrs.items()))


def test_a_layer_on_spikes_runs():
    assert refuses_cuda(layer(), target()) is None
    assert refuses_event(layer(), target()) is None
    assert "counts" in (refuses_event(layer("counts"), target()) or "")
    assert refuses_triton(layer("counts"), target(features=())) is None
    assert [k.name for k in OP.kernels] == list(KERNELS)


@pytest.mark.parametrize(
    ("bad", "where", "why"),
    [
        (layer(), target("cpu"), "is a cpu"),
        (layer("dense"), target(), "the input is 'dense'"),
        (layer(groups=2), target(), "the layer has 2"),
        (layer(), target(features=()), "sm_90a"),
        (Layer(name="x", op="conv2d", operands=()), target(), "not known"),
    ],
)
def test_others_are_refused_with_a_reason(bad, where, why):
    assert why in refuses_cuda(bad, where)


def test_costs():
    macs, fired = 32 * 64 * 9 * 64, 6 * 32 * 64
    assert OP.flops(conv(), "cuda") == 2 * macs + 32 * 64 + fired
    assert OP.flops(conv(density=0.0), "event") == fired
    assert OP.flops(conv(density=None), "event") == 2 * macs + fired
    assert OP.flops(conv(density=0.1), "event") == pytest.approx(2 * macs * (1 - 0.9**16) + fired)
    assert OP.bytes(conv(), "cuda") == (64 * 64 + 32 * 64) / 8 + 2 * 32 * 64 * 9
    assert OP.bytes(Layer(name="x", op="conv2d", operands=()), "event") == 0
    assert OP.bytes(conv(), "gated") == OP.bytes(conv(), "event") + 64 * 64 / 8
