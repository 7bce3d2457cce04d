import pytest
import torch

from sparseflow.cost import Analytical, roofline_s
from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir import BINARY, INT8, Decision, Layer, Operand, Target

TARGET = Target(
    name="card",
    kind="gpu",
    peak_flops_per_s={"float32": 1e12, "int8": 4e12},
    bw_bytes_per_s=1e11,
    memory_bytes=8e9,
    cores=2,
    launch_s=1e-6,
    measured={"float32": 5e11, "bw_bytes_per_s": 5e10},
)


def linear(batch=1024, k=1024, n=1024, **given):
    operands = (
        Operand(role="input", shape=(batch, k), density=0.1, structure="spikes"),
        Operand(role="weight", shape=(n, k)),
        Operand(role="output", shape=(batch, n)),
    )
    return Layer(name="fc", op="linear", operands=operands, **given)


def seconds(layer, decision=None, **settings):
    return Analytical(**settings).predict_layer(layer, decision or Decision(), TARGET).latency_s


def test_a_large_product_is_bound_by_its_operations():
    assert seconds(linear(), measured=False) == pytest.approx(2 * 1024**3 / 1e12 + 1e-6)


def test_a_thin_product_is_bound_by_its_bytes():
    assert seconds(linear(batch=1), measured=False) == pytest.approx((1024 + 1024**2 + 1024) * 4 / 1e11 + 1e-6)


def test_rates_that_were_reached_replace_the_vendors():
    assert seconds(linear()) == pytest.approx(2 * 1024**3 / 5e11 + 1e-6)
    assert seconds(linear(batch=1)) == pytest.approx((1024 + 1024**2 + 1024) * 4 / 5e10 + 1e-6)


def test_the_flops_of_the_trace_come_first():
    assert seconds(linear(flops=5e12), measured=False) == pytest.approx(5 + 1e-6)


def test_an_event_kernel_adds_only_what_is_set():
    large = linear(batch=4096, k=4096, n=4096)
    dense = seconds(large, Decision(kernel="dense"), efficiency={}, measured=False) - 1e-6
    event = seconds(large, Decision(kernel="event"), efficiency={}, measured=False) - 1e-6
    assert event == pytest.approx(dense / 2 * 0.1)


def test_efficiency_lengthens_the_operations():
    whole = seconds(linear(), efficiency={}) - 1e-6
    assert seconds(linear(), efficiency={"dense": 0.5}) - 1e-6 == pytest.approx(2 * whole)


def test_a_narrower_precision_computes_faster_and_moves_less():
    decision = Decision(precision=INT8)
    assert seconds(linear(), decision, measured=False) == pytest.approx(2 * 1024**3 / 4e12 + 1e-6)
    thin = (1024 + 1024) * 4 + 1024**2
    assert seconds(linear(batch=1), decision, measured=False) == pytest.approx(thin / 1e11 + 1e-6)


def test_spikes_are_computed_in_the_arithmetic_of_the_weights():
    operands = (
        Operand(role="input", shape=(8, 64), precision=BINARY, structure="spikes"),
        Operand(role="output", shape=(8, 64), precision=BINARY),
    )
    assert seconds(Layer(name="p", op="max_pool", operands=operands)) > 0


def test_a_layer_without_a_formula_pays_for_its_traffic():
    odd = Layer(name="odd", op="teleport", operands=(Operand(role="output", shape=(1000,)),))
    assert seconds(odd) == pytest.approx(4000 / 5e10 + 1e-6)


def test_a_layer_whose_shapes_are_not_known_pays_for_its_traffic():
    blind = Layer(name="blind", op="linear", operands=(Operand(role="input", shape=(1000,)),))
    assert seconds(blind) == pytest.approx(4000 / 5e10 + 1e-6)


def test_what_no_formula_tells_is_refused():
    with pytest.raises(UnsupportedError, match="nothing tells what 'event' costs"):
        seconds(Layer(name="x", op="add", operands=()), Decision(kernel="event"))
    with pytest.raises(ConfigError, match="no kernel 'magic'"):
        seconds(linear(), Decision(kernel="magic"))
    lame = Target(
        name="fpga", kind="fpga", peak_flops_per_s={"int8": 1.0}, bw_bytes_per_s=1.0, memory_bytes=1.0, cores=1
    )
    with pytest.raises(ConfigError, match="'fpga' lists no rate for 'float32'; it has int8"):
        Analytical().predict_layer(linear(), Decision(), lame)


@pytest.mark.parametrize("value", [0.0, 1.5, -1.0, float("nan")])
def test_an_efficiency_is_a_fraction(value):
    with pytest.raises(ConfigError, match="efficiency of kernel 'dense'"):
        Analytical(efficiency={"dense": value})


def test_the_roofline_carries_gradients():
    flops = torch.tensor(4e9, requires_grad=True)
    roofline_s(flops, torch.tensor(1.0), flops_per_s=1e12, bw_bytes_per_s=1e11).backward()
    assert flops.grad.item() == pytest.approx(1e-12)
