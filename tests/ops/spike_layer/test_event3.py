"""The 3x3 kernel of "event": its packing, and its own text run on a CPU."""

import ctypes
import dataclasses
import platform
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from sparseflow.ops.lif import LIFParams
from sparseflow.ops.spike_layer import Source, _build, event, event3, pack_counts, pack_layer, reference
from tests.ops.spike_layer.warp_machine import Machine
from tests.ops.spike_layer.warp_machine import spike_layer as run


def made(
    pixels=1,
    channels=64,
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
    held=False,
):
    return event3.configure(
        pixels=pixels,
        channels=channels,
        steps=steps,
        count=count,
        wide=wide,
        halves=halves,
        add=add,
        out_planes=out_planes,
        reset=reset,
        v0=v0,
        keep_v=keep_v,
        held=held,
        tune=tune,
    )


def turned(x):
    """What `movmatrix` makes of a register of every lane, as halves `[lane, half]`."""
    return x.reshape(8, 8).T.reshape(32, 2)


def taken(row, kx, held):
    """The 64 weights of one tap in a packed row, as the lanes get them; all four spikes of a warp are this row."""
    out = np.zeros(64, row.dtype)
    for i in range(8):
        part, register, half = (i // 4, i % 4, kx) if kx < 2 else (2, i // 4 * 2 + i % 2, i % 4 // 2)
        if held:
            out[i::8] = row[64 * part + 8 * np.arange(8) + 2 * register + half]
            continue
        turn = turned(np.tile(row.reshape(3, 8, 4, 2)[part, :, register], (4, 1)))
        for lane in range(32):
            out[8 * (lane // 4) + i] = turn[lane, half]
    return out


# Whether weights are held, and defines.
WAYS = {
    "global": (False, ()),
    "global, eights": (False, (("NB", 1), ("UNROLL", 1))),
    "held": (True, ()),
    "held, eights": (True, (("NB", 1), ("WARPS", 2))),
    "held, few at once": (True, (("FEW", 12), ("CALM", 1), ("AHEAD", 1))),
    "held, few at once, eights": (True, (("FEW", 12), ("CALM", 1), ("NB", 1), ("UNROLL", 1))),
    "held, plain": (True, (("FEW", 0), ("CALM", 0), ("AHEAD", 0))),
}
CASES = (
    (4, 2, 3, 5, 40, 70, LIFParams(), "fp16"),
    (4, 1, 1, 20, 64, 128, LIFParams(tau=4.0, v_reset=None), "exact"),
    (34, 1, 2, 6, 70, 70, LIFParams(kind="if", v_threshold=0.5, v_reset=-0.25), "fp16"),
)
DENSITIES = (0.0, 0.02, 0.7, 0.1)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.mark.skipif(shutil.which("g++") is None or platform.machine() != "x86_64", reason="needs g++ on x86-64")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_kernel_computes_the_layer(case, way, machine, monkeypatch):
    """Silent steps, few spikes, more than a list holds, odd edges, parts of words; the text of the kernel itself."""
    steps, n, height, width, c, cout, params, precision = case
    held, tune = WAYS[way]
    torch.manual_seed(0)
    density = torch.tensor(DENSITIES).repeat(steps)[:steps].repeat_interleave(n)
    x = (torch.rand(steps * n, c, height, width) < density[:, None, None, None]).float()
    source = Source(pack_counts(x, 1), c, 1, (3, 3), (1, 1), (1, 1))
    weight, bias = torch.randint(-8, 9, (cout, c, 3, 3)) / 16.0, torch.randint(-8, 9, (cout,)) / 16.0
    monkeypatch.setattr(event3, "holds", lambda *_: held)
    packed = pack_layer([weight], bias, params, kernel="event", precision=precision)
    expected, v = reference.spike_layer([source], [weight], bias, params, steps=steps)
    found, last, _ = run(machine, source, packed, monkeypatch, steps=steps, tune=tune)
    assert torch.equal(found, expected)
    # float32 rounds potentials that decay; spikes do not hang on that here.
    assert torch.allclose(last, v, rtol=0, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None or platform.machine() != "x86_64", reason="needs g++ on x86-64")
@pytest.mark.parametrize("way", ["global", "held"])
def test_the_kernel_takes_potentials_and_counts(way, machine, monkeypatch):
    held, tune = WAYS[way]
    monkeypatch.setattr(event3, "holds", lambda *_: held)
    torch.manual_seed(0)
    x = (torch.rand(4, 33, 3, 7) < 0.1).float()
    source = Source(pack_counts(x, 1), 33, 1, (3, 3), (1, 1), (1, 1))
    add = (pack_counts(torch.randint(0, 4, (4, 128, 3, 7)).float(), 2), 2)
    v0, weight = torch.randint(-4, 5, (2, 128, 3, 7)) / 8.0, torch.randint(-8, 9, (128, 33, 3, 3)) / 16.0
    packed = pack_layer([weight], None, LIFParams(v_threshold=0.25), kernel="event")
    expected, v = reference.spike_layer([source], [weight], None, packed.params, steps=2, v0=v0, add=add, out_planes=3)
    found, last, _ = run(machine, source, packed, monkeypatch, steps=2, tune=tune, v0=v0, add=add)
    assert torch.equal(found, expected)
    assert torch.allclose(last, v, rtol=0, atol=1e-6)


@pytest.mark.skipif(shutil.which("g++") is None or platform.machine() != "x86_64", reason="needs g++ on x86-64")
@pytest.mark.parametrize(("channels", "few"), [(128, 12), (64, 12), (128, 0)])
def test_short_lists_made_at_once_are_right(channels, few, machine, monkeypatch):
    """Several words a read, of which a lane sees one spike or, now and then, two in one word or in two."""
    monkeypatch.setattr(event3, "holds", lambda *_: True)
    torch.manual_seed(0)
    x = (torch.rand(8, channels, 3, 7) < 0.002).float()
    x[2, :, 1, 3], x[5, [0, 32, 33, 63], 0, 6], x[6, [5, channels - 27], 2, 0] = 0, 1, 1
    source = Source(pack_counts(x, 1), channels, 1, (3, 3), (1, 1), (1, 1))
    weight, bias = torch.randint(-8, 9, (64, channels, 3, 3)) / 16.0, torch.randint(-8, 9, (64,)) / 16.0
    packed = pack_layer([weight], bias, LIFParams(v_threshold=0.5), kernel="event")
    expected, v = reference.spike_layer([source], [weight], bias, packed.params, steps=8)
    found, last, known = run(machine, source, packed, monkeypatch, steps=8, tune=(("FEW", few),))
    assert known["VW"] == channels // 32
    assert torch.equal(found, expected)
    assert torch.allclose(last, v, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("held", "halves"), [(False, 192), (True, 208)])
def test_every_weight_has_its_place_in_both_halves(held, halves, monkeypatch):
    monkeypatch.setattr(event3, "holds", lambda *_: held)
    weight = torch.randn(70, 33, 3, 3)
    tensors = pack_layer([weight], None, LIFParams(kind="if"), kernel="event", precision="exact").tensors
    scale = float(tensors["constants"][3]) * 2**24
    rows = (tensors["taps"].double().sum(1) / scale).numpy()
    assert rows.shape == (2, 3 * 64, halves)
    assert not rows[:, 33:64].any()
    assert 2 * halves == (event3.HELD_ROW if held else event3.ROW)
    for out, channel, ky, kx in ((0, 0, 0, 0), (69, 32, 2, 2), (13, 7, 1, 1), (63, 31, 2, 0)):
        found = taken(rows[out // 64, 64 * ky + channel], kx, held)[out % 64]
        assert abs(found - float(weight[out, channel, ky, kx])) <= float(weight.abs().max()) * 2**-22


def test_lanes_that_read_four_rows_meet_in_few_banks():
    """Rows that differ modulo 4 lie so that eight lanes, of four rows, reach every bank of shared memory once."""
    for turn in range(4):
        starts = [row * event3.HELD_ROW + 16 * (2 * turn + g) for row in range(4) for g in range(2)]
        assert len({at % 128 // 16 for at in starts}) == 8


def test_held_weights_and_lists_fit_a_block():
    for count in range(1, event3.WORDS + 1):
        for halves in (1, 2):
            assert event3.held_bytes(count, halves) == 96 * count * halves * event3.HELD_ROW
            if event3.holds(count, halves):
                known = dict(made(10**6, 512, count, halves=halves, held=True))
                lists = 8 * known["WARPS"] * known["CAP"]
                assert event3.held_bytes(count, halves) + lists + 1024 <= 227 * 1024


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
            known = dict(made(count=count, wide=wide, tune=(("NB", eights),), held=event3.holds(count, 1)))
            assert 32 * known["SLOTS"] * wide >= 3 * (8 * eights + 2) * count
            assert known["CAP"] % 4 == 0
            assert known["CAP"] >= 64


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize(
    ("count", "halves", "steps"), [(1, 1, 4), (2, 1, 16), (4, 1, 4), (8, 1, 4), (16, 1, 4), (4, 2, 4), (16, 2, 4)]
)
def test_it_compiles_and_spills_next_to_nothing(count, halves, steps, held, tmp_path: Path):
    held = held and event3.holds(count, halves)
    wide = next(w for w in (4, 2, 1) if count % w == 0)
    known = made(50000, 128, count, wide, halves, steps=steps, held=held)
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
    monkeypatch.setattr(event3, "processors", lambda *_: 4)
    known = made(100, 70, 4, 4, tune=(("NB", 2), ("WARPS", 4)))
    call = event3.Call((1, 2, 3, 4, 5, 6, 7, 8), 9, 5, 10, 4, 3, 100, 70)
    event3.launch(0, 0, known, call)
    launched, params = seen[0]
    assert launched == (2 * 2, 1, 1, 128, 1, 1, 0)
    values = [getattr(params, name) for name, _ in event3.Params._fields_]
    assert values == [*range(1, 9), 9, 5, 10, 400, 100, 3, 70, 3 * 128]
    # Held: a block for each multiprocessor at most, and every row of the slice.
    known = made(1000, 70, 4, 4, tune=(("WARPS", 5),), held=True)
    event3.launch(0, 0, known, dataclasses.replace(call, pixels=1000))
    assert seen[1][0] == (2 * 2, 1, 1, 160, 1, 1, 3 * 128 * 416)


def test_groups_are_shared_out_evenly():
    """Seed layers: 16 pixels a warp, blocks of up to 24 warps on 132 multiprocessors."""
    for pixels, channels, warps in ((25088, 128, 24), (100352, 64, 24), (25088 // 2, 128, 12), (1, 64, 1)):
        known = dict(made(pixels, channels, channels // 32, held=event3.holds(channels // 32, 1)))
        assert (known["WARPS"], known["BLOCKS"], known["NB"]) == (warps, 1, 2)
