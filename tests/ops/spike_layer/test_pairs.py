"""Pairs of outputs by four products: the packing and the arithmetic, by emulating every lane, without a GPU."""

import ctypes

import numpy as np
import pytest

from sparseflow.ops.lif import LIFParams
from sparseflow.ops.spike_layer import Source, pack_counts, pairs, reference
from tests.ops.spike_layer.test_pack import fragments, shared_tile
from tests.ops.spike_layer.test_reference import counts, noise

HEADER = 8


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
