"""Pairs of outputs by four products: the packing and the arithmetic, by emulating every lane, without a GPU."""

import ctypes
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sparseflow.ops.lif import LIFParams
from sparseflow.ops.spike_layer import (
    Source,
    _build,
    cuda,
    pack_counts,
    pack_layer,
    pairs,
    reference,
    spike_layer,
    unpack_counts,
)
from tests.ops.spike_layer.test_pack import fragments, shared_tile
from tests.ops.spike_layer.test_reference import counts, noise

HEADER = 8
ON_GPU = _build.refusal(torch.device("cuda")) is None if torch.cuda.is_available() else False
MOVES = ((3, 3), (1, 1), (1, 1))


def currents(source, tensors, cout):
    """Return `[M, Cout, H, W]`: the sums that the neurons of the kernel see, scaled back."""
    packed, constants = tensors["pairs"][:, :, None], tensors["pairs_constants"].double().numpy()
    words = source.words.numpy().view(np.uint32)
    m, height, width, count = words.shape
    across, tiles = -(-width // 2), packed.shape[0]
    every = [(i, y, x) for i in range(m) for y in range(height) for x in range(across)]
    out = np.zeros((m, tiles * 64, height, 2 * across))
    lanes = np.arange(64)
    channel = 16 * (lanes % 8 // 2) + 2 * (lanes // 8) + lanes % 2
    for begin in range(0, len(every), 64):
        some = every[begin : begin + 64]
        sums = np.zeros((tiles, 4, 64, 64))
        for ky in range(3):
            for part in range(count // 2):
                seen = np.zeros((4, 64, 1, 2), dtype=np.uint32)
                for row, (i, y, x) in enumerate(some):
                    for j in range(4):
                        if 0 <= y + ky - 1 < height and 0 <= 2 * x + j - 1 < width:
                            seen[j, row, 0] = words[i, y + ky - 1, 2 * x + j - 1, 2 * part : 2 * part + 2]
                d = [fragments(x, 1).astype(np.float16) for x in seen]
                for way, a in enumerate((d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3])):
                    chunk = (4 * ky + way) * (count // 2) + part
                    for tile in range(tiles):
                        for step in range(4):
                            sums[tile, way] += a[:, step].astype(float) @ shared_tile(packed, tile, chunk, 0, step)
        pair = np.stack([sums[:, 0] + sums[:, 1] + sums[:, 2], sums[:, 1] - sums[:, 2] - sums[:, 3]], axis=-1)
        for row, (i, y, x) in enumerate(some):
            for tile in range(tiles):
                out[i, 64 * tile + channel, y, 2 * x : 2 * x + 2] = pair[tile, row]
    bias = constants[HEADER : HEADER + cout, None, None]
    return (out[:, :cout, :, :width] + bias) / constants[3]


def grid(bits, *shape):
    """Return whole numbers of so many bits, the largest one among them."""
    whole = torch.randint(-(2**bits) + 1, 2**bits, shape, generator=torch.Generator().manual_seed(bits)).float()
    whole[(0,) * len(shape)] = 2**bits - 1
    return whole / 64


@pytest.mark.parametrize(("bits", "kept"), [(7, True), (9, True), (11, False)])
def test_weights_that_only_the_plain_kernel_holds_get_no_pairs(bits, kept):
    """A trained VGG-9 lost the answers of 2 of 100 images by the rounding of sums of whole weights."""
    weight, params = grid(bits, 64, 64, 3, 3), LIFParams()
    exact = pairs.transform(weight.double())
    assert bool((exact.half().double() == exact).all()) == kept
    assert pairs.keeps(weight, params) == kept
    tensors = pack_layer([weight], None, params, kernel="cuda", precision="fp16").tensors
    assert ("pairs" in tensors) == kept
    assert "weights" in tensors


def test_weights_of_random_digits_keep_their_pairs():
    for weight in (
        noise(64, 64, 3, 3),
        1e-6 * noise(64, 128, 3, 3),
        torch.zeros(64, 64, 3, 3),
        torch.zeros(0, 64, 3, 3),
    ):
        assert pairs.keeps(weight, LIFParams())
    # A third of whole numbers is none in either form.
    assert pairs.keeps(grid(11, 64, 64, 3, 3), LIFParams(tau=3.0))
    assert not pairs.keeps(grid(11, 64, 64, 3, 3), LIFParams(tau=3.0, decay_input=False))


def test_structure_lies_as_the_compiler_lays_it():
    assert ctypes.sizeof(pairs.Params) == 6 * 8 + 11 * 4 + 4


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (5, 7)])
@pytest.mark.parametrize("channels", [(64, 64), (128, 70), (40, 10)])
def test_lanes_reproduce_the_convolution(channels, size):
    c, cout = channels
    x, w, b = counts(2, c, *size), noise(cout, c, 3, 3), noise(cout)
    source = Source(pack_counts(x, 1), c, 1, (3, 3), (1, 1), (1, 1))
    assert pairs.suits(tuple(w.shape))
    assert pairs.fits(source)
    params = LIFParams(kind="if")
    got = currents(source, pairs.pack(w, b, params), cout)
    want = reference.spike_layer([source], [w.double()], b.double(), None, steps=1)[0].numpy()
    assert np.abs(got - want).max() / np.abs(want).max() < 2**-11


def test_a_field_of_the_call_has_its_place_in_the_kernel():
    text = Path(pairs.__file__).with_name(f"{pairs.NAME}.cu").read_text()
    struct = text[text.index("struct Params {") : text.index("};")]
    lines = [line.split("//")[0].strip().rstrip(";") for line in struct.splitlines()[1:]]
    names = [part.strip().split()[-1].lstrip("*") for line in lines if line for part in line.split(",")]
    assert names == [name for name, _ in pairs.Params._fields_]


def test_products_of_a_pair_sum_to_the_window():
    w, d = torch.randn(3, 2, 3, 3, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    ways = torch.stack([d[..., 0] - d[..., 2], d[..., 1] + d[..., 2], d[..., 2] - d[..., 1], d[..., 1] - d[..., 3]], -1)
    m = (pairs.transform(w) * ways).sum((1, 2))
    for e, got in enumerate((m[:, 0] + m[:, 1] + m[:, 2], m[:, 1] - m[:, 2] - m[:, 3])):
        assert torch.allclose(got, (w * d[:, :, e : e + 3]).sum((1, 2, 3)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", pairs.COUNTS)
def test_weights_of_a_block_stay_in_shared_memory(count):
    chunks = pairs.pack(noise(70, 32 * count, 3, 3), None, LIFParams())["pairs"].shape[1]
    assert chunks * pairs.CHUNK + 4 * 64 < pairs.shared_bytes(count) <= cuda.SHARED


def test_only_windows_that_it_can_hold_are_packed_and_taken():
    w, params = noise(8, 64, 3, 3), LIFParams()
    assert "pairs" in pack_layer([w], None, params).tensors
    others = [
        pack_layer([w], None, params, precision="exact"),
        pack_layer([w], None, params, precision="int8"),
        pack_layer([w], None, None),
        pack_layer([w, w], None, params),
        pack_layer([w], None, params, planes=[2]),
        pack_layer([w], None, params, identity=True),
        pack_layer([noise(8, 64, 1, 1)], None, params),
        pack_layer([noise(8, 256, 3, 3)], None, params),
        pack_layer([noise(8, 96, 3, 3)], None, params),
    ]
    assert all("pairs" not in packed.tensors for packed in others)
    words = torch.zeros(1, 9, 9, 2, dtype=torch.int32)
    assert pairs.fits(Source(words, 64, 1, *MOVES))
    assert not pairs.fits(Source(words.repeat(1, 1, 1, 2), 64, 2, *MOVES))
    assert not pairs.fits(Source(torch.zeros(163, dtype=torch.int32)[1:].reshape(1, 9, 9, 2), 64, 1, *MOVES))
    for moves in (((2, 2), (1, 1), (1, 1)), ((1, 1), (0, 1), (1, 1)), ((1, 1), (1, 1), (2, 2))):
        assert not pairs.fits(Source(words, 64, 1, (3, 3), *moves))


def test_a_launch_says_what_the_kernel_reads(monkeypatch):
    """A call of kernel "cuda", up to the driver, and the calls that other parts of it take."""
    seen, others = [], []

    class Driver:
        def cuLaunchKernel(self, *args):
            at = ctypes.cast(args[9], ctypes.POINTER(ctypes.c_void_p))[0]
            seen.append((args[1:8], pairs.Params.from_buffer_copy(ctypes.string_at(at, ctypes.sizeof(pairs.Params)))))
            return 0

    properties = SimpleNamespace(multi_processor_count=4)
    monkeypatch.setattr(_build, "driver", Driver)
    monkeypatch.setattr(_build, "function", lambda *_: None)
    monkeypatch.setattr(pairs, "_handle", lambda *_: None)
    monkeypatch.setattr(_build, "refusal", lambda device: None)
    monkeypatch.setattr(cuda, "_launch", lambda plan, call: others.append(plan))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=0))
    cuda._plan.cache_clear()
    x = pack_counts(counts(6, 128, 20, 9), 1)
    source, weights = Source(x, 128, 1, *MOVES), pack_layer([noise(70, 128, 3, 3)], None, LIFParams())
    gate, add = torch.zeros(1, dtype=torch.int32), (pack_counts(counts(6, 70, 20, 9), 1), 1)
    call = {"steps": 3, "add": add, "out_planes": 2}
    y, v = cuda.spike_layer([source], weights, gate=(gate, 7), tune=(("pairs", True),), **call)
    assert (y.shape, v) == ((6, 20, 9, 6), None)
    launched, params = seen[0]
    # 2 images of 20 rows of 5 pairs: 4 tiles by 2 columns, of which 4 multiprocessors each take two.
    assert launched == (4, 1, 1, 256, 1, 1, pairs.shared_bytes(4))
    tensors = weights.tensors
    want = [t.data_ptr() for t in (x, tensors["pairs"], tensors["pairs_constants"], y, add[0], gate)]
    assert [getattr(params, name) for name, _ in pairs.Params._fields_][:6] == want
    assert [getattr(params, name) for name, _ in pairs.Params._fields_][6:] == [
        *(7, 20, 9, 5, 360 * 4, 360, 200, 3, 3, 4, 2)
    ]
    # 6 tiles of single pixels by 2 columns are enough for 4 multiprocessors, but not for 132.
    cuda.spike_layer([source], weights, **call)
    assert len(seen) == 2
    properties.multi_processor_count = 132
    for other in ({}, {"keep_v": True}, {"v0": noise(2, 70, 20, 9)}, {"tune": (("pairs", False),)}):
        cuda.spike_layer([source], weights, **call, **other)
    assert (len(seen), len(others)) == (2, 4)
    cuda._plan.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs compute capability 9.0 and a CUDA compiler")
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (28, 28)])
@pytest.mark.parametrize("channels", [(64, 64), (128, 70), (40, 10)])
def test_spikes_equal_the_reference(channels, size):
    """Weights are sixteenths and the neuron does not leak: every sum is exact, so every spike must agree."""
    c, cout = channels
    for reset in (None, 0.0, -0.25):
        x, extra = counts(10, c, *size), (pack_counts(counts(10, cout, *size), 1).cuda(), 1)
        w, b = (noise(cout, c, 3, 3) * 8).round() / 16, (noise(cout) * 8).round() / 16
        params = LIFParams(kind="if", v_reset=reset)
        source = Source(pack_counts(x, 1).cuda(), c, 1, *MOVES)
        dense, packed = (pack_layer([w], b, params, kernel=kernel).to("cuda") for kernel in ("dense", "cuda"))
        want = spike_layer([source], dense, steps=5, add=extra)[0]
        got = [
            cuda.spike_layer([source], packed, steps=5, add=extra, out_planes=2, tune=(("pairs", True),))[0]
            for _ in range(2)
        ]
        assert "pairs" in packed.tensors
        assert torch.equal(got[0], got[1])
        assert torch.equal(unpack_counts(got[0], cout, 2), unpack_counts(want, cout, 2))
