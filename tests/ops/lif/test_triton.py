"""The Triton kernels of the neuron and packing against the reference; in the interpreter where there is no GPU."""

import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from sparseflow.ops.lif import LIFParams, reference, triton
from tests.ops.lif.test_reference import NEURONS
from tests.tolerances import assert_near

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 33, 9, 9), (3, 64, 1, 1), (2, 100, 3, 2)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def noise(shape, seed=0, scale=2.0):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).to(DEVICE)


def poisoned(shape, layout, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device=DEVICE).contiguous(memory_format=layout).fill_(torch.nan)


def words_of(m, c, h, w, planes=1):
    return torch.full((m, h, w, planes * -(-c // 32)), 0x5A5A5A5A, dtype=torch.int32, device=DEVICE)


@pytest.mark.parametrize("params", NEURONS, ids=str)
def test_neurons_equal_the_reference(params):
    for i, (n, *rest) in enumerate(SHAPES):
        layout = LAYOUTS[i % 2]
        x = noise((3 * n, *rest), i).contiguous(memory_format=layout)
        v0 = noise((n, *rest), i + 9, 0.5) if i % 3 else None
        want = reference.lif(x, params, steps=3, v0=v0)
        spikes, v = poisoned(x.shape, layout), poisoned((n, *rest), layout)
        triton.lif(x, v0, params, 3, False, spikes, v)
        assert torch.equal(spikes, want[0])
        assert_near(v, want[1], "lif")
        words, v = words_of(3 * n, *rest), v.fill_(torch.nan)
        triton.lif_pack(x, v0, params, 3, False, words, v)
        assert torch.equal(words, reference.pack_spikes(want[0]))
        assert_near(v, want[1], "lif")


@pytest.mark.parametrize("steps", [1, 2, 5, 16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_constant_input_gives_what_its_copies_give(layout, steps):
    x = noise((2, 40, 3, 3)).contiguous(memory_format=layout)
    want = reference.lif(x.repeat(steps, 1, 1, 1), LIFParams(), steps=steps)
    words, v = words_of(steps * 2, 40, 3, 3), poisoned(x.shape, layout)
    triton.lif_pack(x, None, LIFParams(), steps, True, words, v)
    assert torch.equal(words, reference.pack_spikes(want[0]))
    assert_near(v, want[1], "lif")
    spikes = poisoned((steps * 2, 40, 3, 3), layout)
    triton.lif(x, None, LIFParams(), steps, True, spikes, v)
    assert torch.equal(spikes, want[0])


def test_half_precision_currents_are_integrated_in_float32():
    x = noise((8, 33, 2, 3)).half()
    want = reference.lif(x.float(), LIFParams(tau=1.7), steps=4)
    words, v = words_of(8, 33, 2, 3), poisoned((2, 33, 2, 3), torch.contiguous_format, torch.float16)
    triton.lif_pack(x, None, LIFParams(tau=1.7), 4, False, words, v)
    assert torch.equal(words, reference.pack_spikes(want[0]))
    assert torch.equal(v, want[1].half())


def test_nan_and_infinity_do_not_spike_or_do():
    x = torch.tensor([[torch.nan, torch.inf, -torch.inf, 1.0]], device=DEVICE)[:, :, None, None]
    words, v = words_of(1, 4, 1, 1), poisoned(x.shape, torch.contiguous_format)
    triton.lif_pack(x, None, LIFParams(kind="if"), 1, False, words, v)
    assert words.item() == 0b1010


@pytest.mark.parametrize("planes", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_packing_equals_the_reference(dtype, planes):
    for i, shape in enumerate(SHAPES):
        for density in (0.0, 0.3, 1.0):
            x = (torch.rand(shape) < density) * torch.randint(1, 2**planes, shape)
            x = x.to(DEVICE, dtype).contiguous(memory_format=LAYOUTS[i % 2])
            want = reference.pack_spikes(x, planes)
            words = words_of(*shape, planes)
            triton.pack_spikes(x, words, planes)
            assert torch.equal(words, want)
            back = poisoned((shape[0], *shape[2:], shape[1]), torch.contiguous_format, dtype).permute(0, 3, 1, 2)
            triton.unpack_spikes(words, shape[1], back, planes)
            assert torch.equal(back, x)
            assert torch.equal(reference.unpack_spikes(words, shape[1], dtype, planes), x)


@pytest.mark.parametrize("programs", [1, 5, 264])
def test_small_maps_are_cut_into_more_programs(programs, monkeypatch):
    monkeypatch.setattr(triton, "PROGRAMS", programs)
    x = noise((4, 70, 9, 7)).contiguous(memory_format=torch.channels_last)
    _, _, _, last, grid, block, warps = triton._rows(x[:2], 3)
    assert last
    assert grid[0] * block >= 2 * 63 * 3
    assert block == {1: 64, 5: 64, 264: 8}[programs]
    assert 16 * warps == max(block, 16)
    want = reference.lif(x, LIFParams(), steps=2)
    words, v = words_of(4, 70, 9, 7), poisoned((2, 70, 9, 7), torch.channels_last)
    triton.lif_pack(x, None, LIFParams(), 2, False, words, v)
    assert torch.equal(words, reference.pack_spikes(want[0]))
    assert_near(v, want[1], "lif")
    made = words_of(4, 70, 9, 7)
    triton.pack_spikes(want[0].contiguous(memory_format=torch.channels_last), made)
    assert torch.equal(made, words)


def test_one_dense_row_packs():
    x = torch.zeros(2, 70, 5, 4, device=DEVICE)
    x[1, :, 2] = 1
    words = words_of(*x.shape)
    triton.pack_spikes(x, words)
    assert torch.equal(words, reference.pack_spikes(x))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [((4, 4), (2, 2), (2, 2), (0, 0)), ((7, 5), (3, 3), (2, 2), (1, 1)), ((7, 5), (2, 3), (1, 2), (1, 0))],
)
def test_or_pool_is_max_pool(size, kernel, stride, padding):
    x = (torch.rand(3, 40, *size) < 0.2).float().to(DEVICE)
    words = reference.pack_spikes(x)
    want = reference.or_pool2d(words, kernel, stride, padding)
    out = torch.full_like(want, -1)
    triton.or_pool2d(words, list(kernel), list(stride), list(padding), out)
    assert torch.equal(out, want)


def test_nothing_is_launched_for_nothing():
    x, words = torch.empty(0, 3, 2, 2, device=DEVICE), words_of(0, 3, 2, 2)
    triton.lif(x, None, LIFParams(), 2, False, x.clone(), x.clone())
    triton.lif_pack(x, None, LIFParams(), 2, False, words, x.clone())
    triton.pack_spikes(x, words)
    triton.unpack_spikes(words, 3, x)
    triton.or_pool2d(words, [2, 2], [2, 2], [0, 0], words_of(0, 3, 1, 1))


def test_importing_the_package_leaves_triton_alone():
    code = "import sys, sparseflow, sparseflow.ops, sparseflow.nn; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
