"""The tile kernel against the reference in float64, its weights and sums emulated, and what it refuses."""

import numpy as np
import pytest
import torch

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops import conv2d_spike as ops
from sparseflow.ops._library import ABSENT, native
from sparseflow.ops.conv2d_spike import amx, reference
from sparseflow.ops.conv2d_spike.check import check_random_configs
from sparseflow.ops.conv2d_spike.reference import Geometry
from sparseflow.ops.lif import LIFParams, pack_spikes, unpack_spikes
from tests.ops.conv2d_spike.test_cpp import LAYOUTS, SHAPES, exact, inputs, poisoned, weights
from tests.tolerances import assert_near

tiles = pytest.mark.skipif(amx.machine_refusal() is not None, reason=str(amx.machine_refusal()))
UNGROUPED = [shape for shape in SHAPES if shape[2].groups == 1] + [
    ((3, 96, 9, 7), (40, 96, 3, 3), Geometry((2, 2), (1, 1))),
    ((1, 300, 5, 5), (50, 300, 3, 3), Geometry(padding=(1, 1))),
    ((40, 64, 4, 4), (64, 64, 4, 4), Geometry()),
    ((2, 32, 20, 17), (16, 32, 1, 3), Geometry((1, 1), (0, 2), (1, 2))),
]


def planes(weight):
    """Pack without asking for tiles, and return high, middle and low bytes `[3, Cout, Cin, kh, kw]` and the scales."""
    cout, cin, kh, kw = weight.shape
    taps, words = kh * kw, -(-cin // 32)
    tiles = torch.empty(native.tiles_size(*weight.shape), dtype=torch.int8)
    native.pack_tiles(weight.data_ptr(), tiles.data_ptr(), *weight.shape)
    panels, chunks = -(-cout // 16), (words * taps + 1) // 2
    scales = tiles.numpy()[panels * chunks * 3072 :].view(np.float32)[:cout]
    # [panel, chunk, byte, input / 4, output channel, input % 4]
    held = tiles.numpy()[: panels * chunks * 3072].reshape(panels, chunks, 3, 16, 16, 4)
    held = held.transpose(2, 0, 4, 1, 3, 5).reshape(3, panels * 16, chunks * 64)[:, :cout, : words * taps * 32]
    held = held.reshape(3, cout, taps, words * 32)
    assert not held[..., cin:].any()
    return held[..., :cin].transpose(0, 1, 3, 2).reshape(3, *weight.shape), scales


def combined(sums, scale, bias):
    """What csrc/amx/conv.cpp makes of the int32 sums of high, middle and low bytes, in float32."""
    high, middle, low = sums.astype(np.int32)
    rest = middle * np.int32(256) + low
    carry = (rest + np.int32(1 << 15)) >> 16
    fine, coarse = rest - (carry << 16), high + carry
    assert max(abs(fine).max(), abs(coarse).max()) < 1 << 24
    total = (coarse.astype(np.float64) * 65536 + fine).astype(np.float32)  # a fused multiply-add rounds once
    return (total.astype(np.float64) * scale.astype(np.float64) + bias).astype(np.float32)


@pytest.mark.skipif(native is None, reason=str(ABSENT))
@pytest.mark.parametrize("size", [(40, 70, 3, 3), (1, 1, 1, 1), (17, 33, 1, 2), (16, 64, 5, 5)])
def test_three_bytes_hold_weights_to_the_least_power_of_two(size):
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(size, generator=g) * torch.logspace(-40, 30, size[0])[:, None, None, None]
    weight[-1].fill_(-127 * 65536.0)
    weight[size[0] // 2, 0] = 0
    parts, scales = planes(weight)
    counts = parts[0].astype(np.int64) * 65536 + parts[1].astype(np.int64) * 256 + parts[2]
    largest = weight.numpy().reshape(size[0], -1).__abs__().max(1)
    assert abs(counts).max() <= 127 * 65536
    assert (np.frexp(scales[largest > 0])[0] == 0.5).all()
    fine = scales[:, None, None, None].astype(np.float64) * counts
    assert (abs(fine - weight.numpy()) <= scales[:, None, None, None] / 2.0).all()
    coarser = (largest > 0) & (scales > 2.0**-149)
    assert (largest[coarser] >= 127 * 32768 * scales[coarser].astype(np.float64)).all()


@pytest.mark.skipif(native is None, reason=str(ABSENT))
@pytest.mark.parametrize("density", [0.05, 0.5, 1.0])
def test_sums_on_a_grid_of_powers_of_two_are_exact(density):
    g = torch.Generator().manual_seed(1)
    inputs_of_window = 6000
    weight = torch.randint(-(1 << 11), 1 << 11, (24, inputs_of_window, 1, 1), generator=g).float()
    weight *= torch.where(torch.rand(weight.shape, generator=g) < 0.001, 512.0, 1.0)
    weight = (weight * 2.0**-20).contiguous()
    bias = torch.randint(-(1 << 20), 1 << 20, (24,), generator=g).double() * 2.0**-20
    assert amx.weight_refusal(weight) is None
    parts, scales = planes(weight)
    spikes = (torch.rand((inputs_of_window, 50), generator=g) < density).numpy()
    sums = parts.reshape(3, 24, inputs_of_window).astype(np.int64) @ spikes.astype(np.int64)
    got = combined(sums, scales[:, None], bias.numpy()[:, None])
    want = weight.double().flatten(1).numpy() @ spikes.astype(np.float64) + bias.numpy()[:, None]
    assert abs(want).max() < 2.0**4
    assert np.array_equal(got.astype(np.float64), want)


@pytest.mark.skipif(native is None, reason=str(ABSENT))
@pytest.mark.parametrize("byte", [-128, 127])
def test_the_largest_window_does_not_overflow(byte):
    counts = np.float32(100 * 65536 + byte * 256 + byte)
    weight = torch.full((1, amx.MOST_INPUTS, 1, 1), float(counts))
    weight[0, 0] = 127 * 65536 - 1.0
    parts, scales = planes(weight)
    sums = parts.reshape(3, 1, -1).astype(np.int64).sum(2, keepdims=True)
    want = weight.double().sum().float().item()
    assert combined(sums, scales[:, None], 0.0).item() == want
    assert amx.size_refusal((1, amx.MOST_INPUTS + 1, 1, 1), 1) is not None


def test_weights_far_apart_are_refused_unless_they_lie_on_a_grid():
    weight = torch.full((2, 64, 5, 5), 1e-4)
    weight[1, 3, 2, 2] = 1.0
    assert "output channel 1 has a weight 40 times" in amx.weight_refusal(weight)
    weight[weight < 1] = 2.0**-14
    assert amx.weight_refusal(weight) is None


@tiles
@pytest.mark.parametrize("kind", ["zeros", "ones", "row", "some"])
@pytest.mark.parametrize(("size", "weight_size", "moves"), UNGROUPED, ids=str)
def test_spikes(size, weight_size, moves, kind):
    x, (weight, bias) = inputs(size, kind), weights(weight_size)
    packed, words = amx.pack(weight, 1), pack_spikes(x)
    for layout in LAYOUTS:
        for b in (bias, None):
            out = poisoned(x, weight, moves, layout)
            amx.conv_words(words, packed, b, out, (size, weight_size, moves))
            assert_near(out, exact(x, weight, b, moves).float(), "conv2d_spike")


@tiles
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("size", "weight_size", "moves"), UNGROUPED, ids=str)
def test_counts(size, weight_size, moves, layout):
    x = torch.randint(0, 5, size, generator=torch.Generator().manual_seed(0)).float()
    x, (weight, bias) = x.contiguous(memory_format=layout), weights(weight_size)
    got = ops.spike_conv2d(
        x, weight, bias, kernel="amx", stride=moves.stride, padding=moves.padding, dilation=moves.dilation
    )
    assert_near(got, exact(x, weight, bias, moves).float(), "conv2d_spike")


@tiles
@pytest.mark.parametrize("layout", LAYOUTS)
def test_packing_counts(layout):
    x = torch.randint(0, 256, (3, 37, 5, 7)).float().contiguous(memory_format=layout)
    counts, reason = amx.pack_counts(x, 37)
    assert reason is None
    assert torch.equal(counts[..., :37].permute(0, 3, 1, 2).float(), x)
    assert not counts[..., 37:].any()
    for value in (-1.0, 256.0, 0.5, torch.nan, torch.inf, 1e20):
        bad = x.clone()
        bad[1, 36, 4, 6] = value
        assert amx.pack_counts(bad, 37) == (None, "1 of 3885 inputs are not integers from 0 to 255")
    assert "could overflow" in amx.pack_counts(x.clamp_min(255), 512)[1]


@tiles
@pytest.mark.parametrize("steps", [1, 3, 16])
@pytest.mark.parametrize("residual", ["none", "floats", "spikes"])
@pytest.mark.parametrize(("size", "weight_size", "moves"), UNGROUPED, ids=str)
def test_fused_neurons(size, weight_size, moves, residual, steps):
    params = LIFParams(tau=1.5, v_reset=-0.1)
    x, (weight, bias) = inputs((steps * min(size[0], 3), *size[1:]), "some"), weights(weight_size)
    y = exact(x, weight, bias, moves)
    g = torch.Generator().manual_seed(3)
    added = torch.randn(y.shape, generator=g)
    added = (added > 0.5).float() if residual == "spikes" else added
    y = y if residual == "none" else y + added
    given = {"none": None, "floats": added, "spikes": pack_spikes(added) if residual == "spikes" else None}[residual]
    v0 = torch.randn(x.shape[0] // steps, *y.shape[1:], generator=g)
    out = torch.full((x.shape[0], *y.shape[2:], -(-weight.shape[0] // 32)), -1, dtype=torch.int32)
    v = torch.full(v0.shape, torch.nan).contiguous(memory_format=torch.channels_last)
    shape = (tuple(x.shape), weight_size, moves)
    amx.conv_lif(pack_spikes(x), amx.pack(weight, 1), bias, params, steps, v0, given, out, v, shape)
    want = reference.neuron.lif(y, params, steps=steps, v0=v0.double())
    assert torch.equal(unpack_spikes(out, weight.shape[0]).double(), want[0])
    assert torch.equal(out, pack_spikes(want[0]))
    assert_near(v, want[1].float(), "conv2d_spike")


@tiles
def test_random_configurations():
    outcomes = check_random_configs(100, seed=1000, kernel="amx")
    assert [o for o in outcomes if not o.ok] == []
    assert sum(o.refusal is None for o in outcomes) > 30


@tiles
def test_thread_count_does_not_change_bits():
    x, (weight, bias) = inputs((8, 70, 9, 9), "some"), weights((48, 70, 3, 3))
    moves, packed, words = Geometry(padding=(1, 1)), amx.pack(weight, 1), pack_spikes(x)
    before, outs = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        outs.append(poisoned(x, weight, moves, torch.channels_last))
        amx.conv_words(words, packed, bias, outs[-1], (tuple(x.shape), tuple(weight.shape), moves))
    torch.set_num_threads(before)
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])


@tiles
def test_channels_of_any_scale_are_as_exact_as_float32():
    weight = torch.randn(40, 64, 3, 3, generator=torch.Generator().manual_seed(0))
    weight *= torch.logspace(-12, 12, 40)[:, None, None, None]
    weight[7] = 0
    x = inputs((2, 64, 6, 6), "some")
    got = ops.spike_conv2d(x, weight, rows=ops.pack_weight(weight, kernel="amx"), kernel="amx")
    want = exact(x, weight, None, Geometry())
    error = (got - want).abs().amax((0, 2, 3)) / want.abs().amax((0, 2, 3)).clamp_min(1e-30)
    assert error.max() < 1e-6
    assert torch.equal(got[:, 7], torch.zeros_like(got[:, 7]))


@tiles
def test_refusals_name_the_reason():
    with pytest.raises(UnsupportedError, match="the layer has 4"):
        ops.pack_weight(torch.ones(8, 2, 3, 3), 4, kernel="amx")
    with pytest.raises(UnsupportedError, match="could overflow"):
        ops.pack_weight(torch.ones(1, 65536, 1, 1), kernel="amx")
    with pytest.raises(UnsupportedError, match="NaN or infinities"):
        ops.pack_weight(torch.full((1, 2, 1, 1), torch.inf), kernel="amx")
    outlier = torch.full((2, 64, 5, 5), 1e-4)
    outlier[1, 3, 2, 2] = 1.0
    with pytest.raises(UnsupportedError, match="output channel 1 has a weight"):
        ops.pack_weight(outlier, kernel="amx")
    weight = torch.ones(5, 3, 3, 3)
    packed = ops.pack_weight(weight, kernel="amx")
    with pytest.raises(UnsupportedError, match="75 of 75 inputs are not integers"):
        ops.spike_conv2d(torch.full((1, 3, 5, 5), 0.5), weight, rows=packed, kernel="amx")
    words = pack_spikes(torch.ones(1, 3, 5, 5))
    with pytest.raises(ConfigError, match="pack it with pack_weight"):
        ops.conv_words(words, packed, channels=3, out_channels=99, kernel_size=3)


@tiles
def test_auto_runs_tiles_on_spikes_and_something_else_on_values():
    weight, bias = weights((5, 40, 3, 3))
    packed = ops.pack_weight(weight, kernel="amx")
    for kind in ("some", "ones", "counts", "relu"):
        x = inputs((2, 40, 5, 5), kind)
        assert_near(
            ops.spike_conv2d(x, weight, bias, rows=packed), exact(x, weight, bias, Geometry()).float(), "conv2d_spike"
        )


def test_without_tiles_the_machine_is_named(monkeypatch):
    monkeypatch.setattr(amx, "machine_refusal", lambda: "the processor has no AMX tiles for int8")
    with pytest.raises(UnsupportedError, match="no AMX tiles"):
        ops.pack_weight(torch.ones(2, 2, 1, 1), kernel="amx")
