"""The 3x3 kernel of "event": its packing, and its arithmetic by emulating every lane, without a GPU."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from sparseflow.ops.lif import LIFParams
from sparseflow.ops.spike_layer import Source, _build, event, event3, pack_counts, pack_layer, reference


def made(
    pixels=1,
    slices=1,
    count=1,
    wide=1,
    halves=1,
    add=0,
    out_planes=1,
    reset=1,
    v0=False,
    keep_v=False,
    tune=(),
    steps=4,
):
    return event3.configure(
        pixels=pixels,
        slices=slices,
        steps=steps,
        count=count,
        wide=wide,
        halves=halves,
        add=add,
        out_planes=out_planes,
        reset=reset,
        v0=v0,
        keep_v=keep_v,
        tune=tune,
    )


def turned(x):
    """What `movmatrix` makes of a register of every lane, as halves `[lane, half]`."""
    return x.reshape(8, 8).T.reshape(32, 2)


def taken(row, kx):
    """The 64 weights of one tap in a packed row, as the lanes get them; all four spikes of a warp are this row."""
    out = np.zeros(64, row.dtype)
    parts = row.reshape(3, 8, 4, 2)
    for i in range(8):
        part, register, half = (i // 4, i % 4, kx) if kx < 2 else (2, i // 4 * 2 + i % 2, i % 4 // 2)
        held = turned(np.tile(parts[part, :, register], (4, 1)))
        for lane in range(32):
            out[8 * (lane // 4) + i] = held[lane, half]
    return out


def emulated(source, packed, steps, eights):
    """What the kernel writes, from its packed tensors."""
    params, constants = packed.params, packed.tensors["constants"].numpy()
    taps = packed.tensors["taps"].float().sum(1).numpy()  # halves add up
    slices = taps.shape[0]
    words = source.words.numpy().view(np.uint32)
    m, height, width, count = words.shape
    pixels = m // steps * height * width
    flat, words_out = words.reshape(steps, pixels, count), -(-packed.out_channels // 32)
    out = np.zeros((steps, pixels, 4 * words_out), np.uint8)
    keep, threshold, reset = constants[:3]
    bias = constants[8:].reshape(slices, 64)
    wide = next(w for w in (4, 2, 1) if count % w == 0)
    group, reads = 8 * eights, count // wide
    slots = dict(made(pixels, slices, count, wide, tune=(("NB", eights),)))["SLOTS"]
    for start in range(0, pixels, group):
        at = start + np.arange(group)
        x, y, inside = at % width, at // width % height, at < pixels
        here, left, right, above, under = (
            int(sum(1 << i for i in range(group) if inside[i] and side[i]))
            for side in (inside, x > 0, x + 1 < width, y > 0, y + 1 < height)
        )
        v = np.full((slices, group, 64), reset if params.v_reset else 0.0, np.float32)
        for t in range(steps):
            v = keep * v + bias[:, None]
            for which in range(32 * slots):
                place, part = divmod(which, reads)
                ky, j = divmod(place, group + 2)
                seen = {0: above, 1: here, 2: under}.get(ky, 0)
                masks = (1 << j & left & seen, 1 << j >> 1 & seen, 1 << j >> 2 & right & seen)
                if not any(masks):
                    continue
                read = start - 1 + j + (ky - 1) * width
                assert 0 <= read < pixels
                for w in range(wide):
                    word = int(flat[t, read, part * wide + w])
                    for bit in range(32):
                        if word >> bit & 1:
                            row = taps[:, 32 * (ky * count + part * wide + w) + bit]
                            for kx, mask in enumerate(masks):
                                for i in range(group):
                                    if mask >> i & 1:
                                        for s in range(slices):
                                            v[s, i] += taken(row[s], kx) * np.float32(2.0**-24)
            fires = v >= threshold
            v = np.where(fires, v - threshold if params.v_reset is None else reset, v).astype(np.float32)
            for i in range(group):
                for byte in range(4 * words_out):
                    if at[i] < pixels:
                        spikes = fires[byte // 8, i, byte % 8 * 8 : byte % 8 * 8 + 8]
                        out[t, at[i], byte] = sum(1 << k for k in range(8) if spikes[k])
    return torch.from_numpy(out.view(np.int32).reshape(m, height, width, words_out).copy())


CASES = (
    (2, 2, 3, 5, 40, 70, LIFParams()),
    (2, 1, 1, 4, 64, 64, LIFParams(tau=4.0, v_reset=None)),
    (3, 1, 6, 6, 130, 5, LIFParams(kind="if", v_threshold=0.5, v_reset=-0.25)),
    (2, 2, 7, 1, 3, 33, LIFParams(decay_input=False)),
)


@pytest.mark.parametrize("eights", [1, 2])
@pytest.mark.parametrize("density", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_lane_computes_the_layer(case, density, eights):
    steps, n, height, width, c, cout, params = case
    torch.manual_seed(0)
    x = (torch.rand(steps * n, c, height, width) < density).float()
    source = Source(pack_counts(x, 1), c, 1, (3, 3), (1, 1), (1, 1))
    weight, bias = torch.randint(-8, 9, (cout, c, 3, 3)) / 16.0, torch.randint(-8, 9, (cout,)) / 16.0
    packed = pack_layer([weight], bias, params, kernel="event")
    expected, _ = reference.spike_layer([source], [weight], bias, params, steps=steps)
    assert torch.equal(emulated(source, packed, steps, eights), expected)


def test_every_weight_has_its_place_in_both_halves():
    weight = torch.randn(70, 33, 3, 3)
    tensors = pack_layer([weight], None, LIFParams(kind="if"), kernel="event", precision="exact").tensors
    scale = float(tensors["constants"][3]) * 2**24
    rows = (tensors["taps"].double().sum(1) / scale).numpy()
    assert rows.shape == (2, 3 * 64, 192)
    assert not rows[:, 33:64].any()
    for out, channel, ky, kx in ((0, 0, 0, 0), (69, 32, 2, 2), (13, 7, 1, 1), (63, 31, 2, 0)):
        found = taken(rows[out // 64, 64 * ky + channel], kx)[out % 64]
        assert abs(found - float(weight[out, channel, ky, kx])) <= float(weight.abs().max()) * 2**-22


def test_only_a_window_that_it_can_list_is_packed_and_taken():
    for shape in ((4, 4, 1, 1), (4, 4, 3, 2), (4, 513, 3, 3)):
        assert not event3.suits(shape)
    assert "taps" not in pack_layer([torch.ones(4, 4, 1, 1)], None, LIFParams(), kernel="event").tensors
    words = torch.zeros(1, 9, 9, 1, dtype=torch.int32)
    assert event3.fits(Source(words, 4, 1, (3, 3), (1, 1), (1, 1)))
    for moves in (((2, 2), (1, 1), (1, 1)), ((1, 1), (0, 1), (1, 1)), ((1, 1), (1, 1), (2, 2))):
        assert not event3.fits(Source(words, 4, 1, (3, 3), *moves))


def test_lanes_have_reads_for_every_word():
    for count in range(1, event3.WORDS + 1):
        wide = next(w for w in (4, 2, 1) if count % w == 0)
        for eights in (1, 2):
            known = dict(made(count=count, wide=wide, tune=(("NB", eights),)))
            assert 32 * known["SLOTS"] * wide >= 3 * (8 * eights + 2) * count
            assert known["CAP"] % 8 == 0
            assert known["CAP"] >= 32


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
@pytest.mark.parametrize(
    ("count", "halves", "steps"), [(1, 1, 4), (2, 1, 16), (4, 1, 4), (8, 1, 4), (16, 1, 4), (4, 2, 4), (16, 2, 4)]
)
def test_it_compiles_and_spills_next_to_nothing(count, halves, steps, tmp_path: Path):
    known = made(50000, 2, count, next(w for w in (4, 2, 1) if count % w == 0), halves, steps=steps)
    (tmp_path / "k.cu").write_text(_build.source(dict(known), event3.NAME))
    command = ["nvcc", "-std=c++17", "-gencode=arch=compute_90a,code=sm_90a", "-cubin", "-Xptxas", "-v", "k.cu"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    # Twenty-four warps a multiprocessor leave 80 registers a thread; a few numbers may wait in memory for their step.
    assert int(re.search(r"(\d+) bytes spill stores", run.stderr)[1]) <= 32


@pytest.mark.parametrize("kernel", [event, event3])
def test_a_field_of_the_call_has_its_place_in_the_kernel(kernel):
    text = Path(event.__file__).with_name(f"{kernel.NAME}.cu").read_text()
    struct = text[text.index("struct Params {") : text.index("};")]
    lines = [line.split("//")[0].strip().rstrip(";") for line in struct.splitlines()[1:]]
    names = [part.strip().split()[-1].lstrip("*") for line in lines if line for part in line.split(",")]
    assert names == [name for name, _ in kernel.Params._fields_]


def test_a_launch_says_what_the_kernel_reads(monkeypatch):
    """The launch, up to the driver: grid, threads, and sizes that follow from others."""
    seen = []

    class Driver:
        def cuLaunchKernel(self, *args):
            at = ctypes.cast(args[9], ctypes.POINTER(ctypes.c_void_p))[0]
            seen.append((args[1:8], event3.Params.from_buffer_copy(ctypes.string_at(at, ctypes.sizeof(event3.Params)))))
            return 0

    monkeypatch.setattr(_build, "driver", Driver)
    monkeypatch.setattr(event3, "_handle", lambda *_: None)
    known = made(100, 2, 4, 4, tune=(("NB", 2), ("WARPS", 4)))
    event3.launch(0, 0, known, event3.Call((1, 2, 3, 4, 5, 6, 7, 8), 9, 5, 10, 4, 3, 100, 70))
    launched, params = seen[0]
    assert launched == (2 * 2, 1, 1, 128, 1, 1, 0)
    values = [getattr(params, name) for name, _ in event3.Params._fields_]
    assert values == [*range(1, 9), 9, 5, 10, 4, 400, 100, 3, 70, 3, 3 * 128, 2]
