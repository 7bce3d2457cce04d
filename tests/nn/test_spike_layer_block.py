"""Packed layers give what the modules give that they stand for."""

import pytest
import torch
from torch import nn

from sparseflow.compress.sparsify.fold import fold_bn
from sparseflow.compress.sparsify.fuse import neuron_constants
from sparseflow.errors import UnsupportedError
from sparseflow.nn.layers import BatchNorm2d, Conv2d
from sparseflow.nn.neurons import LIFNode, ParametricLIFNode
from sparseflow.nn.spike_layer_block import FloatBlock, Part, SpikeLayerBlock
from sparseflow.nn.spikes import Spikes, add, flatten, pack, unpack

KERNELS = ("dense", "library")


def _bits(*sizes: int) -> torch.Tensor:
    return (torch.rand(*sizes) < 0.4).float()


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    bn = BatchNorm2d(outputs).eval()
    nn.init.uniform_(bn.running_mean, -0.2, 0.2)
    nn.init.uniform_(bn.bias, -0.2, 0.2)
    return Conv2d(inputs, outputs, size, stride, size // 2), bn


def _part(pair: tuple[nn.Module, nn.Module], planes: int = 1) -> Part:
    padding = pair[0].kernel_size[0] // 2
    return Part(*pair, fold=fold_bn, padding=(padding, padding), planes=planes)


@torch.no_grad()
@pytest.mark.parametrize("kernel", KERNELS)
def test_two_sources_identity_and_sum(kernel: str) -> None:
    neuron = LIFNode(v_threshold=0.5, step_mode="m")
    main, short = _conv(35, 40, 3, 2), _conv(20, 40, 1, 2)
    x, y, i, a = _bits(4, 2, 35, 7, 6), _bits(4, 2, 20, 7, 6), _bits(4, 2, 40, 4, 3), _bits(4, 2, 40, 4, 3)
    block = SpikeLayerBlock([_part(main), _part(short)], neuron, neuron_constants, kernel=kernel)
    want = neuron(main[1](main[0](x)) + short[1](short[0](y)))
    assert torch.equal(unpack(block(pack(x), pack(y))), want)
    block = SpikeLayerBlock(
        [_part(main)], neuron, neuron_constants, kernel=kernel, identity=2, out_planes=2, precision="exact"
    )
    neuron.reset()
    want = neuron(main[1](main[0](x)) + 2 * i) + a
    made = block(pack(x), None, add(pack(i), pack(i), 2), pack(a))
    assert made.planes == 2
    assert torch.equal(unpack(made), want)
    neuron.reset()


@torch.no_grad()
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("channels", [32, 35])
def test_linear_on_a_map(kernel: str, channels: int) -> None:
    layer, x = nn.Linear(channels * 6, 10), _bits(4, 2, channels, 2, 3)
    block = SpikeLayerBlock([Part(layer, size=(2, 3))], kernel=kernel)
    torch.testing.assert_close(block(flatten(pack(x), 2)), layer(x.flatten(2)))
    counts = add(pack(x), pack(x), 2)
    block = SpikeLayerBlock([Part(layer, size=(2, 3), planes=2)], kernel=kernel)
    torch.testing.assert_close(block(flatten(counts, 2)), layer(2 * x.flatten(2)))


@torch.no_grad()
@pytest.mark.parametrize("kernel", KERNELS)
def test_state_is_kept_if_told_so(kernel: str) -> None:
    neuron, twin = LIFNode(v_threshold=0.5, step_mode="m"), LIFNode(v_threshold=0.5, step_mode="m")
    conv = _conv(8, 8, 3)
    block = SpikeLayerBlock([_part(conv)], neuron, neuron_constants, kernel=kernel, keep=True)
    for _ in range(3):
        x = _bits(2, 2, 8, 5, 5)
        assert torch.equal(unpack(block(pack(x))), twin(conv[1](conv[0](x))))
        torch.testing.assert_close(neuron.v, twin.v)


@torch.no_grad()
@pytest.mark.parametrize("kernel", KERNELS)
def test_packs_again_when_a_weight_or_a_constant_changes(kernel: str) -> None:
    neuron = ParametricLIFNode(step_mode="m")
    conv = _conv(8, 8, 3)
    block, x = SpikeLayerBlock([_part(conv)], neuron, neuron_constants, kernel=kernel), _bits(2, 2, 8, 5, 5)
    before = unpack(block(pack(x)))
    for change in (
        lambda: conv[0].weight.mul_(3.0),
        lambda: conv[1].running_var.mul_(0.2),
        lambda: neuron.w.add_(5.0),
        lambda: setattr(conv[0], "bias", nn.Parameter(torch.full((8,), 0.7))),
    ):
        change()
        made = unpack(block(pack(x)))
        assert torch.equal(made, neuron(conv[1](conv[0](x))))
        assert not torch.equal(made, before)
        neuron.reset()
        before = made
    block.settle()
    assert torch.equal(unpack(block(pack(x))), before)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_float_layers(dtype: torch.dtype) -> None:
    conv, x = _conv(3, 8, 3), torch.randn(4, 2, 3, 6, 6)
    made = FloatBlock(_part(conv), dtype=dtype)(x)
    assert made.dtype == dtype
    torch.testing.assert_close(made.float(), conv[1](conv[0](x)), atol=1e-2 if dtype == torch.float16 else 1e-5, rtol=0)
    layer = nn.Linear(5, 4)
    made = FloatBlock(Part(layer), dtype=dtype)(torch.ones(2, 3, 5))
    torch.testing.assert_close(made.float(), layer(torch.ones(2, 3, 5)), atol=1e-2, rtol=0)


def test_one_step_without_a_sequence() -> None:
    neuron, conv = LIFNode(v_threshold=0.5), _conv(8, 8, 1)
    x = _bits(2, 8, 5, 5)
    with torch.no_grad():
        made = SpikeLayerBlock([_part(conv)], neuron, neuron_constants)(pack(x))
        assert isinstance(made, Spikes)
        assert torch.equal(unpack(made), neuron(conv[1](conv[0](x))))


@pytest.mark.parametrize("precision", ["fp16", "exact", "int8"])
def test_weights_of_8_bits_are_taken_where_nothing_is_lost_or_loss_was_allowed(precision: str) -> None:
    conv = Conv2d(20, 9, 3, 1, 1)
    neuron = LIFNode(step_mode="m")
    spiking = SpikeLayerBlock([Part(conv, padding=(1, 1))], neuron, neuron_constants, precision=precision)
    currents = SpikeLayerBlock([Part(conv, padding=(1, 1))], precision=precision)
    for block in (spiking, currents):
        block.kernel = "int8"
        if block is spiking and precision == "int8":
            assert block._pack().tensors["weights"].dtype == torch.int8
            continue
        with pytest.raises(UnsupportedError, match="no grid of 8 bits"):
            block._pack()
    with torch.no_grad():
        conv.weight.copy_(torch.randint(-127, 128, conv.weight.shape) * 0.003)
    for block in (spiking, currents):
        made = block._pack()
        assert (made.kernel, made.precision) == ("cuda", "int8")
    spiking.kernel, spiking.crossover = "gated int8", 0.25
    made = spiking._pack()
    assert (made.kernel, made.precision) == ("gated", "int8")
    assert made.tensors["crossover"].item() == 0.25
    spiking.kernel = "cuda"
    assert spiking._pack().precision == ("exact" if precision == "exact" else "fp16")


@torch.no_grad()
def test_a_new_crossover_is_packed_anew() -> None:
    block = SpikeLayerBlock([Part(Conv2d(3, 4, 1))], LIFNode(step_mode="m"), neuron_constants, kernel="gated")
    for crossover in (0.1, 0.2):
        block.crossover = crossover
        with pytest.raises(UnsupportedError, match="cannot run"):
            block(pack(_bits(2, 1, 3, 4, 4)))
        assert block.fresh((block.kernel, block.precision, crossover), block._pack).tensors["crossover"] == crossover
