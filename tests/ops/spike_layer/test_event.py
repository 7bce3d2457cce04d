"""Kernel "event": its packing, and its arithmetic by emulating every lane, without a GPU."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from sparseflow.errors import UnsupportedError
from sparseflow.ops.lif import LIFParams
from sparseflow.ops.spike_layer import Source, _build, event, pack_counts, pack_layer, reference, spike_layer

FULL = 0xFFFFFFFF
LANES = np.arange(32)


def transposed(w):
    """Five exchanges of the kernel."""
    w = w.astype(np.uint64)
    for s in range(5):
        j = 16 >> s
        low = FULL // ((1 << j) + 1)
        upper = (LANES & j) != 0
        kept = np.where(upper, ~np.uint64(low) & np.uint64(FULL), np.uint64(low))
        turn = np.where(upper, 32 - j, j).astype(np.uint64)
        other = w[LANES ^ j]
        turned = ((other << turn) | (other >> (np.uint64(32) - turn))) & np.uint64(FULL)
        w = (w & kept) | (turned & ~kept & np.uint64(FULL))
    return w


def emulated(source, packed, steps, add=None, planes=1):
    """What the kernel writes, from its packed tensors."""
    params, constants = packed.params, packed.tensors["constants"].numpy()
    weights = packed.tensors["weights"].float().sum(1).numpy()  # halves add up
    slices, rows, _ = weights.shape
    units = rows // 64
    words = source.words.numpy().view(np.uint32)
    m, height, width, count = words.shape
    ho, wo = source.output()
    pixels, pairs = m // steps * ho * wo, (count + 1) // 2
    words_out = -(-packed.out_channels // 32)
    out = np.zeros((m * ho * wo, planes, 2 * words_out), np.uint16)
    more = None if add is None else add[0].numpy().view(np.uint16).reshape(m * ho * wo, add[1], 2 * words_out)
    keep, threshold, reset = constants[:3]
    bias = constants[8:].reshape(slices, 64)
    each = event._pairs(slices, units)
    (_, kw), (sh, sw), (ph, pw), (dh, dw) = source[3:]
    for item in range(-(-pixels // 16)):
        v = np.full((slices, 16, 64), reset if params.v_reset else 0.0, np.float32)
        for t in range(steps):
            v = keep * v + bias[:, None]
            for warp in range(slices):
                listed = []
                for i in range(warp, each * slices, slices):
                    pair = np.zeros((2, 32), np.uint32)
                    for lane in range(32):
                        at, unit = item * 16 + lane % 16, 2 * i + lane // 16
                        if at >= pixels or unit >= units:
                            continue
                        image, rest = divmod(at, ho * wo)
                        tap = unit // pairs
                        y = rest // wo * sh - ph + tap // kw * dh
                        x = rest % wo * sw - pw + tap % kw * dw
                        first = 2 * (unit - tap * pairs)
                        if 0 <= y < height and 0 <= x < width:
                            for word in range(min(2, count - first)):
                                pair[word, lane] = words[t * (m // steps) + image, y, x, first + word]
                    for word in (0, 1):
                        turned = transposed(pair[word])
                        for half in (0, 1):
                            for lane in range(32):
                                mask = int(turned[lane]) >> (16 * half) & 0xFFFF
                                if mask:
                                    listed.append((((4 * i + word) * 32 + lane) + 64 * half, mask))
                for row, mask in listed:
                    ones = (mask >> np.arange(16) & 1) * 2.0**-24
                    v += (ones[None, :, None] * weights[:, None, row, :]).astype(np.float32)
            fires = v >= threshold
            v = np.where(fires, v - threshold if params.v_reset is None else reset, v).astype(np.float32)
            for pixel in range(min(16, pixels - item * 16)):
                place = t * pixels + item * 16 + pixel
                for warp in range(slices):
                    for c in range(4):
                        half = 4 * warp + c
                        if half >= 2 * words_out:
                            continue
                        carry = sum(1 << b for b in range(16) if fires[warp, pixel, 16 * c + b])
                        for plane in range(planes):
                            a = int(more[place, plane, half]) if more is not None and plane < add[1] else 0
                            out[place, plane, half] = a ^ carry
                            carry &= a
    return torch.from_numpy(out.view(np.int32).reshape(m, ho, wo, planes * words_out).copy())


def coarse(*shape):
    """Weights whose sums are exact in float16 and float32."""
    return torch.randint(-8, 9, shape) / 16.0


CASES = (
    (2, 5, 6, 40, 70, (3, 3), (1, 1), (1, 1), (1, 1), LIFParams()),
    (1, 3, 7, 33, 5, (3, 2), (2, 1), (0, 2), (1, 2), LIFParams(tau=4.0, v_reset=None)),
    (2, 1, 4, 130, 129, (1, 1), (1, 1), (0, 0), (1, 1), LIFParams(kind="if", v_threshold=0.5, v_reset=-0.25)),
    (1, 2, 3, 64, 64, (5, 5), (1, 1), (2, 2), (1, 1), LIFParams(decay_input=False)),
)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.6])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_lane_computes_the_layer(case, density):
    steps, n, size, c, cout, kernel, stride, padding, dilation, params = case
    torch.manual_seed(0)
    x = (torch.rand(steps * n, c, size, size + 1) < density).float()
    source = Source(pack_counts(x, 1), c, 1, kernel, stride, padding, dilation)
    weight, bias = coarse(cout, c, *kernel), coarse(cout)
    packed = pack_layer([weight], bias, params, kernel="event")
    expected, _ = reference.spike_layer([source], [weight], bias, params, steps=steps)
    assert torch.equal(emulated(source, packed, steps), expected)


def test_counts_are_added_to_the_spikes():
    x = (torch.rand(4, 8, 3, 3) < 0.3).float()
    counts = torch.randint(0, 4, (4, 40, 3, 3)).float()
    source, add = Source(pack_counts(x, 1), 8), (pack_counts(counts, 2), 2)
    weight = coarse(40, 8, 1, 1)
    packed = pack_layer([weight], None, LIFParams(v_threshold=0.25), kernel="event")
    expected, _ = reference.spike_layer([source], [weight], None, packed.params, steps=2, add=add, out_planes=3)
    assert torch.equal(emulated(source, packed, 2, add, 3), expected)


def test_two_halves_hold_more_of_a_weight():
    weight = torch.randn(64, 64, 1, 1)
    halves = pack_layer([weight], None, LIFParams(kind="if"), kernel="event", precision="exact").tensors
    scale = float(halves["constants"][3]) * 2**24
    both = halves["weights"].double().sum(1)[0].T / scale
    assert float((both - weight[:, :, 0, 0].double()).abs().max()) <= float(weight.abs().max()) * 2**-22


def test_what_it_does_not_take():
    w, p = torch.ones(2, 3, 1, 1), LIFParams()
    for args, more in (
        (([w, w], None, p), {}),
        (([w], None, None), {}),
        (([w], None, p), {"identity": True}),
        (([w], None, p), {"planes": (2,)}),
        (([torch.ones(513, 1, 1, 1)], None, p), {}),
        (([torch.ones(1, 2048, 3, 3)], None, p), {}),
    ):
        with pytest.raises(UnsupportedError, match="event"):
            pack_layer(*args, kernel="event", **more)
    with pytest.raises(UnsupportedError, match="on cpu"):
        spike_layer(
            [Source(torch.zeros(1, 1, 1, 1, dtype=torch.int32), 3)], pack_layer([w], None, p, kernel="event"), steps=1
        )


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
@pytest.mark.parametrize(
    "how",
    [
        {"slices": 1, "count": 9, "halves": 1, "vec": True, "add": 0, "out_planes": 1, "reset": 1},
        {"slices": 4, "count": 50, "halves": 2, "vec": False, "add": 1, "out_planes": 2, "reset": 2},
    ],
)
def test_it_compiles_without_spills(how, tmp_path: Path):
    made = event.defines(**how, v0=True, keep_v=True)
    (tmp_path / "k.cu").write_text(_build.source(dict(made), event.NAME))
    command = ["nvcc", "-std=c++17", "-gencode=arch=compute_90a,code=sm_90a", "-cubin", "-Xptxas", "-v", "k.cu"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert " 0 bytes spill stores" in run.stderr
