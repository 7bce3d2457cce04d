"""The compiled neuron and packing against the reference, on every instruction set."""

import pytest
import torch

from sparseflow.errors import ConfigError, DataError
from sparseflow.ops import lif as ops
from sparseflow.ops._library import ABSENT, native
from sparseflow.ops.lif import LIFParams, cpp, reference
from tests.ops.lif.test_reference import NEURONS
from tests.tolerances import assert_near

compiled = pytest.mark.skipif(native is None, reason=str(ABSENT))
ISAS = ["scalar"] if native is None else native.isas()
SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 33, 4, 3), (3, 64, 1, 1), (2, 100, 3, 2)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def noise(shape, seed=0, scale=2.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def poisoned(shape, like):
    out = torch.empty(shape).contiguous(memory_format=like)
    return out.fill_(torch.nan)


@compiled
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("params", NEURONS, ids=str)
def test_every_path_equals_the_reference(params, isa):
    for i, (n, *rest) in enumerate(SHAPES):
        for layout in LAYOUTS:
            for state in (False, True):
                x = noise((4 * n, *rest), i).contiguous(memory_format=layout)
                v0 = noise((n, *rest), i + 9, 0.5) if state else None
                spikes, v = poisoned(x.shape, layout), poisoned((n, *rest), layout)
                assert cpp.lif(x, v0, params, 4, False, spikes, v, isa)
                want = reference.lif(x, params, steps=4, v0=v0)
                assert torch.equal(spikes, want[0])
                assert_near(v, want[1], "lif")
                words = torch.full(want[0].shape[:1] + want[0].shape[2:] + (-(-rest[0] // 32),), -1, dtype=torch.int32)
                v = v.fill_(torch.nan)
                assert cpp.lif_pack(x, v0, params, 4, False, words, v, isa)
                assert torch.equal(words, reference.pack_spikes(want[0]))
                assert_near(v, want[1], "lif")


@compiled
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_packing_equals_the_reference(isa, layout, density):
    for shape in SHAPES:
        x = (torch.rand(shape) < density).float().contiguous(memory_format=layout)
        want = reference.pack_spikes(x)
        words = torch.full_like(want, -1)
        assert cpp.count_and_pack(x, words, isa) == (0, int(x.sum()))
        assert torch.equal(words, want)
        back = torch.full((*words.shape[:3], shape[1]), torch.nan).permute(0, 3, 1, 2)
        assert cpp.unpack_spikes(words, shape[1], back, isa)
        assert torch.equal(back, x)


@compiled
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shift", [0, 1])
def test_unpacking_what_no_cache_holds(isa, shift):
    x = (torch.rand((3, 64, 57, 51)) < 0.1).float()
    room = torch.full((x.numel() + 17,), torch.nan)
    first = (-room.data_ptr() // 4) % 16 + shift
    out = room[first : first + x.numel()].view(3, 57, 51, 64).permute(0, 3, 1, 2)
    assert cpp.unpack_spikes(reference.pack_spikes(x), 64, out, isa)
    assert torch.equal(out, x)
    assert room[:first].isnan().all()
    assert room[first + x.numel() :].isnan().all()


@compiled
@pytest.mark.parametrize("isa", ISAS)
def test_what_is_no_spike_is_counted(isa):
    x = torch.tensor([[0.0, 1.0, 2.0, -1.0, torch.nan, torch.inf, -0.0, 1e-30]]).repeat(1, 9)
    words = torch.empty(1, 1, 1, 3, dtype=torch.int32)
    assert cpp.count_and_pack(x, words, isa) == (45, 54)
    with pytest.raises(DataError, match="45 of 72"):
        ops.pack_spikes(x)


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_constant_input_is_read_once(repeat, layout):
    x = noise((2, 5, 3, 3)).contiguous(memory_format=layout)
    long = x.repeat(4, 1, 1, 1)
    given = x if repeat else long.contiguous(memory_format=layout)
    want = reference.lif(long, LIFParams(), steps=4)
    spikes, v = ops.lif(given, LIFParams(), steps=4, repeat=repeat)
    assert torch.equal(spikes, want[0])
    assert spikes.is_contiguous(memory_format=layout)
    assert v.is_contiguous(memory_format=layout)
    words, _ = ops.lif_pack(given, LIFParams(), steps=4, repeat=repeat)
    assert torch.equal(words, reference.pack_spikes(want[0]))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [((4, 4), 2, None, 0), ((7, 5), 3, 2, 1), ((7, 5), (2, 3), (1, 2), (1, 0)), ((1, 1), 1, 1, 0), ((9, 9), 3, 1, 1)],
)
def test_or_pool_is_max_pool(size, kernel, stride, padding):
    x = (torch.rand(3, 40, *size) < 0.2).float()
    got = ops.or_pool2d(ops.pack_spikes(x), kernel, stride, padding)
    want = torch.nn.functional.max_pool2d(x, kernel, stride, padding)
    assert torch.equal(ops.unpack_spikes(got, 40), want)


def test_gradients_equal_those_of_the_reference():
    for params in NEURONS:
        x, v0 = noise((8, 3, 2, 2)).requires_grad_(), noise((2, 3, 2, 2), 5).requires_grad_()
        want = torch.autograd.grad(sum(y.square().sum() for y in reference.lif(x, params, steps=4, v0=v0)), (x, v0))
        got = torch.autograd.grad(sum(y.square().sum() for y in ops.lif(x, params, steps=4, v0=v0)), (x, v0))
        for a, b in zip(got, want, strict=True):
            assert_near(a, b, "lif_gradient")
    x = noise((2, 3)).requires_grad_()
    long = x.repeat(4, 1)
    want = torch.autograd.grad(reference.lif(long, LIFParams(), steps=4)[0].sum(), x)[0]
    got = torch.autograd.grad(ops.lif(x, LIFParams(), steps=4, repeat=True)[0].sum(), x)[0]
    assert_near(got, want, "lif_gradient")


def test_float64_goes_to_the_reference():
    x = noise((4, 3)).double()
    got, want = ops.lif(x, LIFParams(), steps=2), reference.lif(x, LIFParams(), steps=2)
    assert got[0].dtype == torch.float64
    for a, b in zip(got, want, strict=True):
        assert_near(a, b, "lif")


def test_whole_numbers_are_not_read_as_floats():
    x = torch.tensor([[2, 0, 1], [0, 1, 3]]).repeat(2, 1)
    for dtype in (torch.int32, torch.int64):
        got, want = ops.lif(x.to(dtype), LIFParams(), steps=2), ops.lif(x.float(), LIFParams(), steps=2)
        assert torch.equal(got[0].float(), want[0])
        assert torch.equal(ops.pack_spikes((x > 0).to(dtype)), ops.pack_spikes((x > 0).float()))


def test_empty_batches():
    spikes, v = ops.lif(torch.empty(0, 3, 2, 2), LIFParams(), steps=2)
    assert spikes.shape == v.shape == (0, 3, 2, 2)
    assert ops.pack_spikes(torch.empty(0, 3, 2, 2)).shape == (0, 2, 2, 1)
    assert ops.unpack_spikes(torch.empty(0, 2, 2, 1, dtype=torch.int32), 3).shape == (0, 3, 2, 2)


def test_strided_input():
    x = noise((4, 6, 5, 5))[:, ::2]
    spikes, _ = ops.lif(x, LIFParams(), steps=2)
    assert torch.equal(spikes, reference.lif(x, LIFParams(), steps=2)[0])


def test_bad_operands_are_named():
    with pytest.raises(ConfigError, match=r"steps is 3.*\[steps\*N"):
        ops.lif(torch.ones(4, 2), LIFParams(), steps=3)
    with pytest.raises(ConfigError, match="v0 has shape"):
        ops.lif(torch.ones(4, 2), LIFParams(), steps=2, v0=torch.ones(4, 2))
    with pytest.raises(ConfigError, match="lif_pack"):
        ops.lif_pack(torch.ones(4, 2), LIFParams(), steps=2)
    with pytest.raises(ConfigError, match="pack_spikes"):
        ops.pack_spikes(torch.ones(3))
    with pytest.raises(ConfigError, match="40 channels take 2 words"):
        ops.unpack_spikes(torch.ones(1, 1, 1, 1, dtype=torch.int32), 40)
    with pytest.raises(ConfigError, match="does not fit"):
        ops.or_pool2d(torch.ones(1, 1, 1, 1, dtype=torch.int32), 2)
    with pytest.raises(ConfigError, match="at most half"):
        ops.or_pool2d(torch.ones(1, 4, 4, 1, dtype=torch.int32), 2, 2, 2)


def test_opcheck():
    x = noise((4, 3, 2, 2)).requires_grad_()
    constants = (2, False, 2.0, 1.0, 0.0, True, True)
    torch.library.opcheck(torch.ops.sparseflow.lif.default, (x, None, *constants))
    last = noise((4, 3, 2, 2)).contiguous(memory_format=torch.channels_last)
    torch.library.opcheck(torch.ops.sparseflow.lif.default, (last, noise((2, 3, 2, 2)), *constants))
    torch.library.opcheck(torch.ops.sparseflow.lif_pack.default, (last, None, *constants))
    spikes = (last > 0).float()
    torch.library.opcheck(torch.ops.sparseflow.pack_spikes.default, (spikes,))
    words = ops.pack_spikes(spikes)
    torch.library.opcheck(torch.ops.sparseflow.unpack_spikes.default, (words, 3))
    torch.library.opcheck(torch.ops.sparseflow.or_pool2d.default, (words, [2, 2], [2, 2], [0, 0]))


def test_counts_pack_into_planes():
    x = torch.randint(0, 8, (2, 40, 3, 2)).float()
    words = ops.pack_spikes(x, planes=3)
    assert words.shape == (2, 3, 2, 6)
    for dtype in (torch.float32, torch.float16):
        back = ops.unpack_spikes(words, 40, planes=3, dtype=dtype)
        assert back.dtype == dtype
        assert torch.equal(back, x.to(dtype))
    torch.library.opcheck(torch.ops.sparseflow.pack_spikes.default, (x, 3))
    torch.library.opcheck(torch.ops.sparseflow.unpack_spikes.default, (words, 40, 3, True))
    with pytest.raises(DataError, match="whole numbers below 4"):
        ops.pack_spikes(x + 0.5, planes=2)
    with pytest.raises(ConfigError, match="planes is 0"):
        ops.pack_spikes(x, planes=0)
    with pytest.raises(ConfigError, match="40 channels in 2 planes take 4 words, got 6"):
        ops.unpack_spikes(words, 40, planes=2)
    with pytest.raises(ConfigError, match=r"torch\.float64"):
        ops.unpack_spikes(words, 40, planes=3, dtype=torch.float64)
