"""The packed weights, by emulating what every lane of the CUDA kernel does with them."""

import math

import numpy as np
import pytest
import torch

from sparseflow.errors import UnsupportedError
from sparseflow.ops.lif import LIFParams
from sparseflow.ops.spike_layer import Source, pack_counts, pack_layer, reference
from sparseflow.ops.spike_layer._grid import quantise
from sparseflow.ops.spike_layer._pack import COLUMNS, HEADER, chunks, pack
from tests.ops.spike_layer.test_reference import counts, noise

TAU3 = LIFParams(tau=3.0, v_threshold=0.7, v_reset=-0.2)


def fragments(words, plane_count):
    """Return `[pixel rows 64, 4 steps, 16 k]` float64: what the lanes' masked registers stand for."""
    out = np.zeros((64, 4, 16))
    for lane in range(128):
        c, row = lane % 4, lane // 32 * 16 + lane % 32 // 4
        for r in (0, 1):
            for i in (0, 1):
                expanded = []
                for p in range(plane_count):
                    x = int(words[row + 8 * r, p, i])
                    turn = (4 * c - p) % 32
                    expanded.append((x >> turn | x << (32 - turn)) & 0xFFFFFFFF)
                for j in range(4):
                    value = 0
                    for p in range(plane_count):
                        value |= expanded[p] & (0x00010001 << (j + p))
                    halves = np.array([value & 0xFFFF, value >> 16], dtype=np.uint16).view(np.float16)
                    step, k = 2 * i + j // 2, 2 * c + 8 * (j % 2)
                    out[row + 8 * r, step, k : k + 2] = halves
    return out


def bytes_fragments(words, plane_count):
    """Return `[pixel rows 64, 2 steps, 32 k]` int64: the bytes of the lanes' masked registers."""
    out, top = np.zeros((64, 2, 32), dtype=np.int64), 8 - plane_count
    for lane in range(128):
        c, row = lane % 4, lane // 32 * 16 + lane % 32 // 4
        for r in (0, 1):
            for i in (0, 1):
                for j in (0, 1):
                    value = 0
                    for p in range(plane_count):
                        x, turn = int(words[row + 8 * r, p, i]), (2 * c + j - top - p) % 32
                        turned = x * (128 >> 2 * c >> j) if plane_count == 1 else x >> turn | x << (32 - turn)
                        value |= turned & (0x01010101 << (top + p))
                    k = 16 * j + 4 * c
                    out[row + 8 * r, i, k : k + 4] = np.frombuffer(value.to_bytes(4, "little"), dtype=np.uint8)
    return out


def bytes_tile(packed, tile, chunk, half, step):
    """Return `[32 k, 64 n]` as the descriptor of the matrix instruction reads the bytes of one step."""
    raw = np.frombuffer(packed[tile, chunk, half].numpy().tobytes(), dtype=np.int8)
    k, n = np.meshgrid(np.arange(32), np.arange(64), indexing="ij")
    return raw[step * 2048 + n // 8 * 256 + k // 16 * 128 + n % 8 * 16 + k % 16].astype(np.int64)


def shared_tile(packed, tile, chunk, half, step):
    """Return `[16 k, 64 n]` as the descriptor of the matrix instruction reads the bytes of one step."""
    raw = np.frombuffer(packed[tile, chunk, half].numpy().tobytes(), dtype=np.float16)
    k, n = np.meshgrid(np.arange(16), np.arange(64), indexing="ij")
    # Core matrices of 8 rows (n) by 16 bytes; the leading offset goes along k, the stride offset along n.
    offset = step * 2048 + n // 8 * 256 + k // 8 * 128 + n % 8 * 16 + k % 8 * 2
    return raw[offset // 2].astype(np.float64)


def emulate(sources, tensors, identity, steps_m, size, channels):
    """Return the accumulators `[pixels, channels]`, scaled back, pixel after pixel of all maps."""
    packed, constants = tensors["weights"], tensors["constants"].double().numpy()
    pixels = steps_m * size[0] * size[1]
    out = np.zeros((-(-pixels // 64) * 64, packed.shape[0] * COLUMNS))
    for tile in range(-(-pixels // 64)):
        for column in range(packed.shape[0]):
            out[tile * 64 : tile * 64 + 64, column * 64 : column * 64 + 64] = tile_sums(
                sources, packed, identity, tile, column, pixels, size
            )
    channel = np.zeros(COLUMNS, dtype=int)
    for n in range(COLUMNS):
        channel[n] = 16 * (n % 8 // 2) + 2 * (n // 8) + n % 2
    back = np.zeros_like(out)
    for column in range(packed.shape[0]):
        back[:, column * 64 + channel] = out[:, column * 64 : column * 64 + 64]
    back = back[:pixels, :channels]
    if packed.dtype == torch.int8:
        assert (back == back.round()).all()
        assert np.abs(back).max() < 2**31
        back = back * constants[HEADER + packed.shape[0] * COLUMNS :][:channels]
    return back / constants[3] + constants[HEADER : HEADER + channels] / constants[3]


def tile_sums(sources, packed, identity, tile, column, pixels, size):
    sums, at = np.zeros((64, 64)), 0
    area = size[0] * size[1]
    whole = packed.dtype == torch.int8
    expand, read = (bytes_fragments, bytes_tile) if whole else (fragments, shared_tile)
    widest = max(s.planes for s in sources)
    everything = [(s, False) for s in sources] + ([(identity, True)] if identity else [])
    for s, same in everything:
        words = s.words.numpy().view(np.uint32)
        count = words.shape[3] // s.planes
        pairs = 1 if same else -(-count // 2)
        for tap in range(s.kernel_size[0] * s.kernel_size[1]):
            for pair in range(pairs):
                block = np.zeros((64, widest if whole else s.planes, 2), dtype=np.uint32)
                for row in range(64):
                    m = tile * 64 + row
                    y = m % area // size[1] * s.stride[0] - s.padding[0] + tap // s.kernel_size[1] * s.dilation[0]
                    x = m % size[1] * s.stride[1] - s.padding[1] + tap % s.kernel_size[1] * s.dilation[1]
                    if m >= pixels or not (0 <= y < words.shape[1] and 0 <= x < words.shape[2]):
                        continue
                    for p in range(s.planes):
                        for i in range(2):
                            word = 2 * (column if same else pair) + i
                            if word < count:
                                block[row, p, i] = words[m // area, y, x, p * count + word]
                a = expand(block, block.shape[1])
                for half in range(packed.shape[2]):
                    for step in range(packed.shape[3]):
                        sums += a[:, step] @ read(packed, column, at, half, step)
                at += 1
    assert at == packed.shape[1]
    return sums


CASES = [
    # channels, Cout, kernel, stride, padding, dilation, planes
    (64, 64, 1, 1, 0, 1, 1),
    (33, 70, 3, 1, 1, 1, 1),
    (96, 20, (2, 3), 2, (0, 1), 1, 2),
    (5, 130, 1, 1, 0, 1, 3),
    (40, 8, 3, 1, 2, 2, 1),
]


@pytest.mark.parametrize("precision", ["fp16", "exact"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_lanes_reproduce_the_convolution(case, precision):
    c, cout, k, s, p, d, planes = case
    k, s, p, d = ((x, x) if isinstance(x, int) else x for x in (k, s, p, d))
    x, w, b = counts(2, c, 5, 4, planes=planes), noise(cout, c, *k), noise(cout)
    source = Source(pack_counts(x, planes), c, planes, k, s, p, d)
    weights = pack_layer([w], b, None, planes=[planes], precision=precision)
    assert chunks(w.shape) == weights.tensors["weights"].shape[1]
    got = emulate([source], weights.tensors, None, 2, source.output(), cout)
    want = reference.spike_layer([source], [w.double()], b.double(), None, steps=1)[0]
    want = want.permute(0, 2, 3, 1).reshape(-1, cout).numpy()
    error = np.abs(got - want).max() / np.abs(want).max()
    assert error < (2**-11 if precision == "fp16" else 2**-21)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_lanes_reproduce_the_convolution_in_int8(case):
    """On a grid nothing is lost; off it the result is that of the weights on the nearest grid."""
    c, cout, k, s, p, d, planes = case
    k, s, p, d = ((x, x) if isinstance(x, int) else x for x in (k, s, p, d))
    x, b = counts(2, c, 5, 4, planes=planes), (noise(cout) * 16).round() / 16
    source = Source(pack_counts(x, planes), c, planes, k, s, p, d)
    for w in (noise(cout, c, *k), (noise(cout, c, *k) * 16).round() / 64):
        weights = pack_layer([w], b, None, planes=[planes], precision="int8")
        assert chunks(w.shape) == weights.tensors["weights"].shape[1]
        got = emulate([source], weights.tensors, None, 2, source.output(), cout)
        grid = quantise([w], [planes])
        plain = w.double() if grid.exact.all() else grid.whole[0].double() * grid.scale[:, None, None, None]
        want = reference.spike_layer([source], [plain], b.double(), None, steps=1)[0]
        want = want.permute(0, 2, 3, 1).reshape(-1, cout).numpy()
        assert np.abs(got - want).max() <= (0 if grid.exact.all() else 2**-22 * np.abs(want).max())
    assert grid.exact.all()


def test_two_sources_of_other_planes_in_int8():
    x, z = counts(2, 40, 3, 3), counts(2, 64, 6, 6, planes=3)
    w, u = ((noise(70, c, 1, 1) * 16).round() / 64 for c in (40, 64))
    sources = [Source(pack_counts(x, 1), 40), Source(pack_counts(z, 3), 64, 3, stride=(2, 2))]
    weights = pack_layer([w, u], None, LIFParams(tau=2.0), identity=True, planes=[1, 3, 4], precision="int8")
    got = emulate(sources, weights.tensors, None, 2, (3, 3), 70)
    want = reference.spike_layer(sources, [w.double(), u.double()], None, None, steps=1)[0]
    assert np.array_equal(got, want.permute(0, 2, 3, 1).reshape(-1, 70).numpy() / 2)
    assert weights.tensors["constants"][:HEADER].tolist() == [0.5, 1.0, 0.0, 1.0, 1.0, 0.5, 0.0, 0.0]


def test_int8_refuses_what_it_cannot_hold():
    with pytest.raises(UnsupportedError, match="up to 8 planes, not 9"):
        pack_layer([noise(2, 3, 1, 1)], None, None, planes=[9], precision="int8")
    with pytest.raises(UnsupportedError, match=r"may reach 32385000; they are exact below 2\^24"):
        pack_layer([torch.full((1, 1000, 1, 1), 127.0)], None, None, planes=[8], precision="int8")


@pytest.mark.parametrize("kernel", ["dense", "triton", "event"])
def test_other_kernels_get_the_same_weights(kernel):
    if kernel == "triton":
        pytest.importorskip("triton")
    w, params = noise(20, 33, 3, 3), LIFParams(kind="if")
    rounded = quantise([w], [1]).weights()
    got = pack_layer([w], None, params, precision="int8", kernel=kernel)
    want = pack_layer(rounded, None, params, precision="exact", kernel=kernel)
    assert got.precision == "int8"
    assert got.tensors.keys() == want.tensors.keys()
    assert all(torch.equal(got.tensors[k], want.tensors[k]) for k in want.tensors)
    assert not torch.equal(rounded[0], w)


def test_identity_and_two_sources():
    x, z, same = counts(2, 40, 3, 3), counts(2, 64, 6, 6, planes=2), counts(2, 70, 3, 3, planes=2)
    w, u, b = noise(70, 40, 1, 1), noise(70, 64, 1, 1, seed=1), noise(70)
    sources = [Source(pack_counts(x, 1), 40), Source(pack_counts(z, 2), 64, 2, stride=(2, 2))]
    tensors = pack([w, u], b, TAU3, True, "exact")
    got = emulate(sources, tensors, Source(pack_counts(same, 2), 70, 2), 2, (3, 3), 70)
    want = reference.spike_layer(
        sources, [w.double(), u.double()], b.double(), None, steps=1, identity=(pack_counts(same, 2), 2)
    )[0]
    # With decayed input all currents shrink by tau, and the rest potential drifts in.
    want = want.permute(0, 2, 3, 1).reshape(-1, 70).numpy() / 3 - 0.2 / 3
    assert np.abs(got - want).max() / np.abs(want).max() < 2**-21


def test_constants_hold_the_neuron_in_the_scaled_domain():
    w, b = noise(3, 2, 1, 1), noise(3)
    leaky = pack([w], b, TAU3, False, "fp16")["constants"]
    scale = float(leaky[3])
    assert math.frexp(scale)[0] == 0.5
    assert float(leaky[4]) == 1 / scale
    assert leaky[0].item() == pytest.approx(2 / 3)
    assert (leaky[1:3] / scale).tolist() == pytest.approx([0.7, -0.2])
    assert (leaky[HEADER : HEADER + 3] / scale).tolist() == pytest.approx(((b - 0.2) / 3).tolist())
    assert (leaky[HEADER + 3 :] == -math.inf).all()
    plain = pack([w], None, LIFParams(kind="if", v_reset=None), False, "fp16")["constants"]
    assert plain[0] == 1
    assert (plain[HEADER : HEADER + 3] == 0).all()


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 1e6])
def test_any_scale_of_weights_keeps_its_precision(size):
    w = noise(64, 64, 1, 1) * size
    packed = pack([w], None, None, False, "fp16")
    assert torch.isfinite(packed["weights"]).all()
    assert 2**11 <= packed["weights"].abs().max() <= 2**15
    assert torch.isfinite(packed["constants"]).all()


def test_weights_of_zeros():
    packed = pack([torch.zeros(3, 2, 1, 1)], None, None, False, "exact")
    assert not packed["weights"].any()
    assert torch.isfinite(packed["constants"][:HEADER]).all()
