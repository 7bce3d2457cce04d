"""The event kernel against the reference in float64, on every instruction set."""

import pytest
import torch

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops import conv2d_spike as ops
from sparseflow.ops._library import ABSENT, native
from sparseflow.ops.conv2d_spike import cpp, reference
from sparseflow.ops.conv2d_spike.reference import Geometry
from sparseflow.ops.lif import LIFParams, pack_spikes, unpack_spikes
from tests.tolerances import assert_near

pytestmark = pytest.mark.skipif(native is None, reason=str(ABSENT))
ISAS = ["scalar"] if native is None else native.isas()
LAYOUTS = [torch.contiguous_format, torch.channels_last]

# Input shape, weight shape, how the window moves.
SHAPES = [
    ((2, 64, 8, 8), (64, 64, 3, 3), Geometry(padding=(1, 1))),
    ((1, 1, 1, 1), (1, 1, 1, 1), Geometry()),
    ((3, 33, 5, 7), (17, 33, 1, 1), Geometry()),
    ((2, 40, 7, 5), (30, 20, 3, 3), Geometry((2, 2), (1, 1), (1, 1), 2)),
    ((2, 35, 6, 6), (35, 1, 3, 3), Geometry((1, 1), (1, 1), (1, 1), 35)),
    ((1, 70, 9, 9), (48, 70, 5, 5), Geometry((1, 2), (4, 4), (2, 2))),
    ((2, 3, 2, 1), (5, 3, 7, 7), Geometry(padding=(3, 3))),
    ((4, 128, 1, 1), (10, 128, 1, 1), Geometry()),
]


def weights(size, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=g) / 4, torch.randn(size[0], generator=g)


def inputs(size, kind, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = (torch.rand(size, generator=g) < 0.2).float()
    if kind == "zeros":
        return torch.zeros(size)
    if kind == "ones":
        return torch.ones(size)
    if kind == "row":
        x = torch.zeros(size)
        x[:, :, size[2] // 2] = 1
    if kind == "counts":
        x = x + (torch.rand(size, generator=g) < 0.2).float() * 2
    if kind == "relu":
        x = torch.randn(size, generator=g).relu() * x
    return x


def exact(x, weight, bias, moves):
    return reference.spike_conv2d(x.double(), weight.double(), None if bias is None else bias.double(), moves)


def poisoned(x, weight, moves, layout):
    size = (x.shape[0], weight.shape[0], *moves.output(x.shape[2:], weight.shape[2:]))
    return torch.full(size, torch.nan).contiguous(memory_format=layout)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["zeros", "ones", "row", "some"])
@pytest.mark.parametrize(("size", "weight_size", "moves"), SHAPES, ids=str)
def test_spikes(size, weight_size, moves, kind, isa):
    x, (weight, bias) = inputs(size, kind), weights(weight_size)
    rows, words = cpp.pack(weight, moves.groups), pack_spikes(x)
    for layout in LAYOUTS:
        for b in (bias, None):
            out = poisoned(x, weight, moves, layout)
            cpp.conv_words(words, rows, b, out, (size, weight_size, moves), isa)
            assert_near(out, exact(x, weight, b, moves).float(), "conv2d_spike")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["zeros", "counts", "relu"])
@pytest.mark.parametrize(("size", "weight_size", "moves"), SHAPES, ids=str)
def test_values(size, weight_size, moves, kind, isa):
    x, (weight, bias) = inputs(size, kind), weights(weight_size)
    rows = cpp.pack(weight, moves.groups)
    for layout in LAYOUTS:
        given = x.contiguous(memory_format=layout)
        out = poisoned(x, weight, moves, layout)
        cpp.conv_values(given, rows, bias, out, (size, weight_size, moves), isa)
        assert_near(out, exact(x, weight, bias, moves).float(), "conv2d_spike")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("residual", ["none", "floats", "spikes"])
@pytest.mark.parametrize(("size", "weight_size", "moves"), SHAPES, ids=str)
def test_fused_neurons(size, weight_size, moves, residual, isa):
    params, steps = LIFParams(tau=1.5, v_reset=None, decay_input=False), 3
    x, (weight, bias) = inputs((steps * size[0], *size[1:]), "some"), weights(weight_size)
    y = exact(x, weight, bias, moves)
    added = None
    if residual != "none":
        added = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
        added = (added > 0.5).float() if residual == "spikes" else added
        y = y + added
    v0 = torch.randn(size[0], *y.shape[1:], generator=torch.Generator().manual_seed(4))
    out = torch.full((x.shape[0], *y.shape[2:], -(-weight.shape[0] // 32)), -1, dtype=torch.int32)
    v = torch.full(v0.shape, torch.nan).contiguous(memory_format=torch.channels_last)
    rows, words = cpp.pack(weight, moves.groups), pack_spikes(x)
    given = pack_spikes(added) if residual == "spikes" else added
    shape = (tuple(x.shape), weight_size, moves)
    cpp.conv_lif(words, rows, bias, params, steps, v0, given, out, v, shape, isa)
    want = reference.neuron.lif(y, params, steps=steps, v0=v0.double())
    wrong = int((unpack_spikes(out, weight.shape[0]) != want[0]).sum())
    assert wrong == 0
    assert_near(v, want[1].float(), "conv2d_spike")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("out_channels", [64, 100, 128, 192, 208, 256, 320, 336])
def test_any_number_of_panels(out_channels, isa):
    x, (weight, bias) = inputs((2, 40, 5, 6), "some"), weights((out_channels, 40, 3, 3))
    moves, rows = Geometry(padding=(1, 1)), cpp.pack(weight, 1)
    for given in (x, x * 0.5):
        out = poisoned(x, weight, moves, torch.channels_last)
        shape = (tuple(x.shape), tuple(weight.shape), moves)
        if given is x:
            cpp.conv_words(pack_spikes(x), rows, bias, out, shape, isa)
        else:
            cpp.conv_values(given, rows, bias, out, shape, isa)
        assert_near(out, exact(given, weight, bias, moves).float(), "conv2d_spike")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize(
    ("density", "out_channels", "kernel"), [(0.02, 64, 3), (0.02, 272, 1), (0.4, 64, 3), (0.05, 72, 1)]
)
def test_outputs_that_no_cache_holds(density, out_channels, kernel, shift, isa):
    x = (torch.rand((3, 48, 57, 51), generator=torch.Generator().manual_seed(1)) < density).float()
    weight, bias = weights((out_channels, 48, kernel, kernel))
    moves = Geometry(padding=(kernel // 2, kernel // 2))
    # A store around the caches needs aligned lines; a tensor may begin anywhere.
    room = torch.full((x.shape[0] * 57 * 51 * out_channels + 17,), torch.nan)
    first = (-room.data_ptr() // 4) % 16 + shift
    out = room[first : first + 3 * 57 * 51 * out_channels].view(3, 57, 51, out_channels).permute(0, 3, 1, 2)
    assert out.numel() > 1 << 19
    shape = (tuple(x.shape), tuple(weight.shape), moves)
    cpp.conv_words(pack_spikes(x), cpp.pack(weight, 1), bias, out, shape, isa)
    assert_near(out, exact(x, weight, bias, moves).float(), "conv2d_spike")
    assert room[:first].isnan().all()
    assert room[first + out.numel() :].isnan().all()


@pytest.mark.parametrize("isa", ISAS)
def test_not_finite_inputs_pass_through(isa):
    x, (weight, bias) = inputs((2, 40, 6, 6), "relu"), weights((24, 40, 3, 3))
    x[0, 3, 2, 2], x[1, 39, 0, 5] = torch.nan, torch.inf
    moves = Geometry(padding=(1, 1))
    out = poisoned(x, weight, moves, torch.contiguous_format)
    cpp.conv_values(x, cpp.pack(weight, 1), bias, out, (tuple(x.shape), (24, 40, 3, 3), moves), isa)
    want = exact(x, weight, bias, moves).float()
    assert torch.equal(out.isnan(), want.isnan())
    assert torch.equal(out.isinf(), want.isinf())
    finite = want.isfinite()
    assert_near(out[finite], want[finite], "conv2d_spike")


def test_every_path_and_thread_count_gives_the_same_bits():
    x, (weight, bias) = inputs((4, 70, 9, 9), "some"), weights((48, 70, 3, 3))
    moves, rows, words = Geometry(padding=(1, 1)), cpp.pack(weight, 1), pack_spikes(x)
    before, outs = torch.get_num_threads(), []
    for isa in ISAS:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            outs.append(poisoned(x, weight, moves, torch.channels_last))
            cpp.conv_words(words, rows, bias, outs[-1], (tuple(x.shape), tuple(weight.shape), moves), isa)
    torch.set_num_threads(before)
    for i in range(0, len(outs), 3):
        assert torch.equal(outs[i], outs[i + 1])
        assert torch.equal(outs[i], outs[i + 2])
    for out in outs:
        assert_near(out, outs[0], "conv2d_spike")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_must_be_finite(value):
    weight = torch.ones(2, 3, 1, 1)
    weight[1, 2] = value
    with pytest.raises(UnsupportedError, match="NaN or infinities"):
        ops.pack_weight(weight, kernel="event")


def test_rows_of_another_weight_are_refused():
    rows = ops.pack_weight(torch.ones(2, 3, 1, 1), kernel="event")
    with pytest.raises(ConfigError, match="pack it with pack_weight"):
        ops.conv_words(pack_spikes(torch.ones(1, 3, 4, 4)), rows, channels=3, out_channels=64, kernel_size=3)


def test_refusals_name_the_operand():
    assert cpp.refusal(torch.ones(1), None) is None
    assert "float64" in cpp.refusal(torch.ones(1, dtype=torch.float64))
    assert "meta" in cpp.refusal(torch.ones(1, device="meta"))
