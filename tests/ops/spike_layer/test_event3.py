"""The 3x3 kernel of "event": its packing, and its own text run on a CPU."""

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
    held=0,
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
    """The weights of one tap in a packed row, as the lanes get them; all four spikes of a warp are this row."""
    own = 2 * (held or 4)
    out = np.zeros(8 * own, row.dtype)
    for i in range(own):
        # Pieces of two halves, which the kernel calls w, and which half of them.
        piece, half = (i, kx) if kx < 2 else (own + i // 4 * 2 + i % 2, i % 4 // 2)
        if held:
            lanes = np.arange(8)
            at = 64 * (piece // 4) + 8 * lanes if piece < own or held == 4 else 64 + 4 * lanes
            out[own * lanes + i] = row[at + 2 * (piece % 4) % (8 if piece < own or held == 4 else 4) + half]
        else:
            turn = turned(np.tile(row.reshape(3, 8, 4, 2)[piece // 4, :, piece % 4], (4, 1)))
            for lane in range(32):
                out[own * (lane // 4) + i] = turn[lane, half]
    return out


# What the weights are packed for, and defines.
WAYS = {
    "global": (0, ()),
    "global, eights": (0, (("NB", 1),)),
    "global, listed together": (0, (("CLUSTER", 2), ("WARPS", 3))),
    "held, turned": (0, (("HELD", 1),)),
    "some held": (0, (("HELD", 2),)),
    "held": (4, (("CLUSTER", 2),)),
    "held, alone": (4, (("CLUSTER", 1), ("UNROLL", 1))),
    "held by 32": (2, (("CLUSTER", 1),)),
}
CASES = (
    (4, 2, 3, 5, 40, 70, LIFParams(), "fp16"),
    (4, 1, 1, 20, 64, 128, LIFParams(tau=4.0, v_reset=None), "exact"),
    (34, 1, 2, 6, 130, 70, LIFParams(kind="if", v_threshold=0.5, v_reset=-0.25), "fp16"),
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
    if precision == "exact" and dict(tune).get("HELD") == 2:
        pytest.skip("two halves are held together or not at all")
    torch.manual_seed(0)
    density = torch.tensor(DENSITIES).repeat(steps)[:steps].repeat_interleave(n)
    x = (torch.rand(steps * n, c, height, width) < density[:, None, None, None]).float()
    source = Source(pack_counts(x, 1), c, 1, (3, 3), (1, 1), (1, 1))
    weight, bias = torch.randint(-8, 9, (cout, c, 3, 3)) / 16.0, torch.randint(-8, 9, (cout,)) / 16.0
    monkeypatch.setattr(event3, "tiles", lambda *_: held)
    # Of rows that are held in part, a few alone.
    monkeypatch.setattr(event3, "SHARED", 60000 if dict(tune).get("HELD") == 2 else event3.SHARED)
    packed = pack_layer([weight], bias, params, kernel="event", precision=precision)
    expected, v = reference.spike_layer([source], [weight], bias, params, steps=steps)
    found, last, _ = run(machine, source, packed, monkeypatch, steps=steps, tune=tune)
    assert torch.equal(found, expected)
    # float32 rounds potentials that decay; spikes do not hang on that here.
    assert torch.allclose(last, v, rtol=0, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None or platform.machine() != "x86_64", reason="needs g++ on x86-64")
@pytest.mark.parametrize("way", ["global", "held", "held by 32"])
def test_the_kernel_takes_potentials_and_counts(way, machine, monkeypatch):
    held, tune = WAYS[way]
    monkeypatch.setattr(event3, "tiles", lambda *_: held)
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


@pytest.mark.parametrize(("held", "slices", "halves"), [(0, 2, 192), (4, 2, 208), (2, 4, 112)])
def test_every_weight_has_its_place_in_both_halves(held, slices, halves, monkeypatch):
    monkeypatch.setattr(event3, "tiles", lambda *_: held)
    weight = torch.randn(70, 33, 3, 3)
    tensors = pack_layer([weight], None, LIFParams(kind="if"), kernel="event", precision="exact").tensors
    scale = float(tensors["constants"][3]) * 2**24
    rows = (tensors["taps"].double().sum(1) / scale).numpy()
    assert rows.shape == (slices, 3 * 64, halves)
    assert not rows[:, 33:64].any()
    assert 2 * halves == event3.row_bytes(held)
    own = 128 // slices
    for out, channel, ky, kx in ((0, 0, 0, 0), (69, 32, 2, 2), (13, 7, 1, 1), (63, 31, 2, 0)):
        found = taken(rows[out // own, 64 * ky + channel], kx, held)[out % own]
        assert abs(found - float(weight[out, channel, ky, kx])) <= float(weight.abs().max()) * 2**-22


def test_lanes_that_read_four_rows_meet_in_few_banks():
    """Rows that differ modulo 4 lie so that the lanes of one turn of shared memory reach every bank once."""
    for held, turns in ((4, ((0, 16, 8), (128, 16, 8), (256, 16, 8))), (2, ((0, 16, 8), (128, 8, 16)))):
        for first, each, lanes in turns:
            for turn in range(32 // lanes):
                starts = [
                    row * event3.row_bytes(held) + first + each * (lanes * turn // 4 + g)
                    for row in range(4)
                    for g in range(lanes // 4)
                ]
                assert len({at % 128 // each for at in starts}) == 128 // each


def test_held_weights_and_lists_fit_a_block():
    for count in range(1, event3.WORDS + 1):
        for halves in (1, 2):
            held = event3.tiles(count, halves)
            if held:
                known = dict(made(10**6, 512, count, halves=halves, held=held))
                assert event3.shared(known, count) + 8 * known["WARPS"] * known["CAP"] + 1024 <= 227 * 1024
                assert known["CAP"] >= 32
                assert known["CAP"] % 4 == 0
                assert event3.shared(known, count) == 96 * count * halves * event3.row_bytes(held)
    assert event3.shared(dict(made()), 4) == 0


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
            known = dict(made(count=count, wide=wide, tune=(("NB", eights),), held=event3.tiles(count, 1)))
            assert 32 * known["SLOTS"] * wide >= 3 * (8 * eights + 2) * count
            assert known["CAP"] % 4 == 0
            assert known["CAP"] >= 32


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize(
    ("count", "halves", "steps"), [(1, 1, 4), (2, 1, 16), (4, 1, 4), (8, 1, 4), (16, 1, 4), (4, 2, 4), (16, 2, 4)]
)
def test_it_compiles_and_spills_next_to_nothing(count, halves, steps, held, tmp_path: Path):
    tiles = event3.tiles(count, halves) if held else 0
    wide = next(w for w in (4, 2, 1) if count % w == 0)
    known = made(50000, 128, count, wide, halves, steps=steps, held=tiles)
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

    def launched(handle, params, what, **how):
        seen.append((how, event3.Params.from_buffer_copy(params)))

    monkeypatch.setattr(event3._launch, "launch", launched)
    monkeypatch.setattr(event3, "_handle", lambda *_: None)
    monkeypatch.setattr(event3, "processors", lambda *_: 4)
    known = made(100, 70, 4, 4, tune=(("NB", 2), ("WARPS", 4)))
    call = event3.Call(tuple(range(1, 11)), 11, 5, 10, 4, 3, 100, 70)
    event3.launch(0, 0, known, call)
    ((how, params),) = seen
    assert how == {"grid": 2 * 2, "threads": 128, "shared": 0, "stream": 0, "cluster": 1}
    values = [getattr(params, name) for name, _ in event3.Params._fields_]
    assert values == [*range(1, 12), 5, 10, 4, 400, 100, 3, 70, 3 * 128, 2, 0]
    # Held: a block for each multiprocessor at most, every row of the slice, and slices that list together.
    known = made(1000, 128, 4, 4, tune=(("WARPS", 5), ("CLUSTER", 4)), held=2)
    event3.launch(0, 0, known, dataclasses.replace(call, pixels=1000, channels=128))
    how, params = seen[1]
    assert how == {"grid": 4 * 1, "threads": 160, "shared": 3 * 128 * 224, "stream": 0, "cluster": 4}
    assert (params.slices, params.rows) == (4, 3 * 128)
    assert event3.scratch(dict(known), 1000, 128, 3) == (63 * 3 * 64 * 2, 63 * 3)
    known = dict(made(1000, 128 * 6, 4, 4, held=2, tune=(("CLUSTER", 8),)))
    assert event3.scratch(known, 1000, 128 * 6, 3) == (63 * 3 * 3 * 64 * 2, 63 * 3 * 3)


def test_groups_are_shared_out_evenly():
    """Seed layers: 16 pixels a warp, blocks of up to 24 warps on 132 multiprocessors."""
    for pixels, channels, warps in ((25088, 128, 24), (100352, 64, 24), (25088 // 2, 128, 12), (1, 64, 1)):
        known = dict(made(pixels, channels, channels // 32, held=event3.tiles(channels // 32, 1)))
        assert (known["WARPS"], known["BLOCKS"], known["NB"]) == (warps, 1, 2)
    known = dict(made(6272, 256, 8, held=2))
    assert (known["MT"], known["WARPS"]) == (2, 13)
