"""Operators, kernels and candidates."""

from dataclasses import replace

import pytest

from sparseflow import ops
from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir import FLOAT16, Layer, Operand, Target

CPU = Target(name="cpu", kind="cpu", peak_flops_per_s={"float32": 1e11}, bw_bytes_per_s=1e10, memory_bytes=1e9, cores=2)
GPU = Target(name="gpu", kind="gpu", peak_flops_per_s={"float32": 1e13}, bw_bytes_per_s=1e12, memory_bytes=1e9, cores=9)


def conv(structure="spikes", density=0.1, **changes):
    x = Operand(role="input", shape=(1, 64, 8, 8), structure=structure, density=density, **changes)
    weight, bias = Operand(role="weight", shape=(32, 64, 3, 3)), Operand(role="bias", shape=(32,))
    out = Operand(role="output", shape=(1, 32, 8, 8))
    return Layer(name="c", op="conv2d", operands=(x, weight, bias, out), attrs=(("groups", 1),))


def by_name(layer, target):
    return {c.kernel: c.refusal for c in ops.candidates(layer, target)}


def test_dense_is_always_a_candidate():
    for layer in (conv(), Layer(name="x", op="softmax", operands=())):
        for target in (CPU, GPU):
            assert ops.candidates(layer, target)[0] == ops.Candidate(kernel="dense")


@pytest.mark.parametrize(
    ("layer", "target", "words"),
    [
        (conv("dense", None), CPU, "no spiking layer"),
        (conv(), GPU, "CPUs only"),
        (conv(precision=FLOAT16), CPU, "float16"),
        (Layer(name="c", op="conv2d", operands=()), CPU, "not known"),
    ],
)
def test_every_refusal_has_its_reason(layer, target, words):
    assert words in by_name(layer, target)["event"]


@pytest.mark.parametrize(
    ("layer", "target", "words"),
    [
        (conv("sparse"), CPU, "takes spikes and counts"),
        (conv(), CPU, "amx_int8"),
        (conv(), GPU, "CPUs only"),
        (Layer(name="c", op="conv2d", operands=conv().operands[:1]), CPU, "weight is not known"),
    ],
)
def test_tiles_are_refused_with_a_reason(layer, target, words):
    assert words in by_name(layer, target)["amx"]


def test_event_costs_follow_the_density():
    op = ops.get("conv2d_spike")
    dense = op.flops(conv())
    macs = 32 * 64 * 9 * 64
    assert dense == 2 * macs + 32 * 64
    assert op.flops(conv(density=0.1), "event") == pytest.approx(0.1 * macs)
    assert op.flops(conv(density=None), "event") == macs
    assert op.flops(conv(density=0.1), "amx") == 6 * macs
    assert op.bytes(conv()) == conv().bytes
    assert op.bytes(conv(), "event") > op.bytes(conv())


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="no operator 'teleport'"):
        ops.get("teleport")
    with pytest.raises(ConfigError, match="no kernel 'magic'"):
        ops.get("lif").flops(conv(), "magic")
    with pytest.raises(UnsupportedError, match="serves linear"):
        ops.get("linear_spike").candidates(conv(), CPU)


def test_every_operator_serves_what_it_says():
    for op in ops.OPS:
        assert op.kernels[0].name == "dense"
        for stem in op.serves:
            assert op in ops.serving(Layer(name="x", op=stem, operands=()))
            assert ops.has_flops(stem)
    assert len({op.name for op in ops.OPS}) == len(ops.OPS)
    assert all(ops.has_flops(name) for name in ("spike_layer", "conv2d_block", "spike_matmul", "fire"))


def test_later_operators_add_what_runs_and_no_refusals():
    sm90 = replace(GPU, features=("sm_90a",))
    assert list(by_name(conv(), CPU)) == ["dense", "event", "amx"]
    found = by_name(conv(), sm90)
    assert {k for k, refusal in found.items() if refusal is None} == {
        "dense", "event", "triton", "cuda", "small", "gated",
    }  # fmt: skip
    assert "CPUs only" in found["amx"]
    assert "CPUs only" in by_name(conv(), GPU)["event"]


def test_an_operator_is_found_by_its_kernel_and_where_it_runs():
    sm90 = replace(GPU, features=("sm_90a",))
    assert ops.find(conv()) is ops.get("conv2d_spike")
    assert ops.find(conv(), "event") is ops.get("conv2d_spike")
    assert ops.find(conv(), "event", CPU) is ops.get("conv2d_spike")
    assert ops.find(conv(), "event", sm90) is ops.get("spike_layer")
    assert ops.find(conv(), "cuda") is ops.get("spike_layer")
    assert ops.find(conv("dense"), "triton", GPU) is ops.get("conv2d_block")
    assert ops.find(conv(), "magic") is None
