"""Kernel "small": its packing and its arithmetic by emulating every lane, its cuts, and its launches, without a GPU."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sparseflow.errors import UnsupportedError
from sparseflow.ops.lif import LIFParams
from sparseflow.ops.spike_layer import Source, _build, pack_counts, pack_layer, reference, small, spike_layer
from tests.ops.spike_layer.test_reference import counts, noise

ON_GPU = _build.refusal(torch.device("cuda")) is None if torch.cuda.is_available() else False
LANES = np.arange(32)
G, C = LANES // 4, LANES % 4


def halves_of(registers):
    """Return the two float16 numbers of each register, the low half first."""
    return np.stack([registers & 0xFFFF, registers >> 16], -1).astype(np.uint16).view(np.float16).astype(np.float64)


def product(words, weights, normal=False):
    """Return the 16 by 8 sums of one word of 32 inputs, as one warp's two matrix instructions give them.

    Args:
        words: `[planes, 16]` uint32, one of each row.
        weights: `[32 lanes, 8]` float16.
        normal: operands are made normal numbers, as for weights in two halves.
    """
    out = np.zeros((16, 8))
    registers = np.zeros((32, 2, 4), np.uint64)  # lane, step, a0..a3
    for plane, rows in enumerate(words.astype(np.uint64)):
        for r in (0, 1):
            turn = ((4 * C - plane) % 32).astype(np.uint64)
            x = rows[G + 8 * r]
            turned = (x >> turn | x << (np.uint64(32) - turn)) & np.uint64(0xFFFFFFFF)
            for j in range(4):
                registers[:, j // 2, j % 2 * 2 + r] |= turned & np.uint64(0x00010001 << (j + plane))
    for step in (0, 1):
        a, b = np.zeros((16, 16)), np.zeros((16, 8))
        for i in range(4):
            for e in (0, 1):
                read = halves_of(registers[:, step, i])[:, e]
                if normal:
                    made = (read.astype(np.float16) * np.float16(2**15)).astype(np.float64)
                    assert np.array_equal(made, read * 2**15)
                    assert made[made > 0].min(initial=1.0) >= 2**-14
                    read = made
                a[G + 8 * (i % 2), 2 * C + 8 * (i // 2) + e] = read
        for i in (0, 1):
            for e in (0, 1):
                b[2 * C + 8 * i + e, G] = weights[LANES, 2 * (2 * step + i) + e]
        out += a @ b
    return out


def gathered(sources, steps, pixel):
    """Return `[words, planes, steps]` uint32: what one output pixel sees, in the order of the weights."""
    found, most = [], max(s.planes for s in sources)
    for s in sources:
        words = s.words.numpy().view(np.uint32)
        count, (ho, wo) = words.shape[3] // s.planes, s.output()
        image, rest = divmod(pixel, ho * wo)
        for tap in range(s.kernel_size[0] * s.kernel_size[1]):
            y = rest // wo * s.stride[0] - s.padding[0] + tap // s.kernel_size[1] * s.dilation[0]
            x = rest % wo * s.stride[1] - s.padding[1] + tap % s.kernel_size[1] * s.dilation[1]
            seen = np.zeros((count, most, steps), np.uint32)
            if 0 <= y < words.shape[1] and 0 <= x < words.shape[2]:
                at = np.arange(steps) * (words.shape[0] // steps) + image
                seen[:, : s.planes] = words[at, y, x].reshape(steps, s.planes, count).transpose(2, 1, 0)
            found.append(seen)
    return np.concatenate(found)


def emulated(sources, packed, steps, cut, *, identity=None, add=None, planes=1):
    """What the kernel writes, from its packed tensors and a cut."""
    params, constants = packed.params, packed.tensors["constants"].numpy()
    weights = packed.tensors["weights"].numpy().astype(np.float64)
    normal, weights = weights.shape[2] == 2, weights.sum(2)  # halves add up
    eights, total = weights.shape[:2]
    m, (ho, wo) = sources[0].words.shape[0], sources[0].output()
    pixels, cout = m // steps * ho * wo, packed.out_channels
    currents = np.zeros((steps, pixels, 8 * eights), np.float32)
    for first in range(0, pixels, cut.pixels):
        mine = range(first, min(first + cut.pixels, pixels))
        seen = np.stack([gathered(sources, steps, q) for q in mine])  # pixel, word, plane, step
        rows = np.zeros((total, seen.shape[2], 16 * cut.rows), np.uint32)
        where = np.arange(steps)[:, None] * cut.pixels + np.arange(len(mine))
        rows[:, :, where.ravel()] = seen.transpose(1, 2, 3, 0).reshape(total, seen.shape[2], -1)
        for column in range(eights):
            whole = np.zeros((16 * cut.rows, 8), np.float32)
            for rank in range(cut.cluster):
                begin, end = rank * total // cut.cluster, (rank + 1) * total // cut.cluster
                block = np.zeros_like(whole)
                for k in range(cut.along):
                    part = np.zeros((16 * cut.rows, 8), np.float32)
                    for word in range(
                        begin + k * (end - begin) // cut.along, begin + (k + 1) * (end - begin) // cut.along
                    ):
                        for i in range(cut.rows):
                            part[16 * i : 16 * i + 16] += product(
                                rows[word, :, 16 * i : 16 * i + 16], weights[column, word], normal
                            ).astype(np.float32)
                    block += part
                whole += block
            currents[:, first : first + len(mine), 8 * column : 8 * column + 8] = whole[where]
    currents = currents[:, :, :cout] + constants[8 : 8 + cout]
    if identity is not None:
        same = reference.unpack_counts(identity[0], cout, identity[1]).permute(0, 2, 3, 1).reshape(steps, pixels, cout)
        currents += same.numpy() * constants[5]
    keep, threshold, reset = constants[:3]
    v = np.full((pixels, cout), reset if params.v_reset else 0.0, np.float32)
    spikes = np.zeros_like(currents)
    for t in range(steps):
        v = keep * v + currents[t]
        spikes[t] = v >= threshold
        v = np.where(spikes[t], v - threshold if params.v_reset is None else reset, v).astype(np.float32)
    out = torch.from_numpy(spikes).reshape(m, ho, wo, cout).permute(0, 3, 1, 2)
    if add is not None:
        out = out + reference.unpack_counts(add[0], cout, add[1])
    return pack_counts(out, planes)


def coarse(*shape):
    """Weights whose sums are exact in float16 and float32."""
    return torch.randint(-8, 9, shape) / 16.0


def cut_of(sources, packed, steps, **tune):
    total = packed.tensors["weights"].shape[1]
    pixels = sources[0].words.shape[0] // steps * sources[0].output()[0] * sources[0].output()[1]
    sizes = {"pixels": pixels, "steps": steps, "channels": packed.out_channels, "words": total, "units": total}
    return small.configure(**sizes, halves=packed.tensors["weights"].shape[2], cores=132, **tune)


CASES = (
    (4, 1, 3, 70, 40, (3, 3), (1, 1), (1, 1), (1, 1), 1, LIFParams(), {}),
    (4, 1, 5, 64, 64, (3, 3), (2, 2), (1, 1), (1, 1), 2, LIFParams(tau=4.0, v_reset=None), {"cluster": 4}),
    (1, 3, 4, 33, 5, (3, 2), (2, 1), (0, 2), (1, 2), 3, LIFParams(kind="if", v_reset=-0.25), {"rows": 1}),
    (3, 2, 4, 100, 70, (1, 1), (1, 1), (0, 0), (1, 1), 1, LIFParams(decay_input=False), {"cluster": 2, "columns": 32}),
)


@pytest.mark.parametrize("precision", ["fp16", "exact"])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_lane_computes_the_layer(case, density, precision):
    steps, n, size, c, cout, kernel, stride, padding, dilation, planes, params, tune = case
    torch.manual_seed(0)
    x = counts(steps * n, c, size, size + 1, planes=planes) * (torch.rand(steps * n, c, size, size + 1) < density)
    source = Source(pack_counts(x, planes), c, planes, kernel, stride, padding, dilation)
    weight, bias = coarse(cout, c, *kernel), coarse(cout)
    packed = pack_layer([weight], bias, params, kernel="small", planes=[planes], precision=precision)
    expected, _ = reference.spike_layer([source], [weight], bias, params, steps=steps)
    assert torch.equal(emulated([source], packed, steps, cut_of([source], packed, steps, **tune)), expected)


def test_two_sources_an_identity_and_counts_added():
    torch.manual_seed(0)
    x, z = counts(4, 40, 3, 3), counts(4, 64, 6, 6, planes=2)
    same, more = counts(4, 40, 3, 3, planes=2), counts(4, 40, 3, 3, planes=2)
    sources = [
        Source(pack_counts(x, 1), 40, 1, (3, 3), padding=(1, 1)),
        Source(pack_counts(z, 2), 64, 2, stride=(2, 2)),
    ]
    identity, add = (pack_counts(same, 2), 2), (pack_counts(more, 2), 2)
    weights, bias = [coarse(40, 40, 3, 3), coarse(40, 64, 1, 1)], coarse(40)
    params = LIFParams(tau=4.0, v_reset=-0.5)
    packed = pack_layer(weights, bias, params, identity=True, planes=[1, 2, 2], kernel="small")
    expected, _ = reference.spike_layer(
        sources, weights, bias, params, steps=4, identity=identity, add=add, out_planes=3
    )
    cut = cut_of(sources, packed, 4, cluster=2)
    assert torch.equal(emulated(sources, packed, 4, cut, identity=identity, add=add, planes=3), expected)


def test_two_halves_hold_more_of_a_weight():
    weight = noise(64, 64, 1, 1)
    halves = pack_layer([weight], None, LIFParams(kind="if"), kernel="small", precision="exact").tensors
    both = halves["weights"].double().sum(2).reshape(8, 2, 8, 4, 4, 2)  # column, word, n, lane, j, e
    both = both * 2.0 ** torch.arange(4.0).double()[:, None] / (float(halves["constants"][3]) * 2**9)
    both = both.permute(0, 2, 1, 5, 3, 4).reshape(64, 64)
    assert float((both - weight[:, :, 0, 0].double()).abs().max()) <= float(weight.abs().max()) * 2**-22


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 16, 32])
@pytest.mark.parametrize("pixels", [1, 49, 196, 784, 3136, 4096])
def test_a_cut_covers_the_layer_and_fits_the_machine(pixels, steps):
    for channels, words in ((5, 1), (64, 18), (96, 27), (512, 144), (2048, 48)):
        for halves in (1, 2):
            sizes = {"pixels": pixels, "steps": steps, "channels": channels, "words": words, "units": words}
            cut = small.configure(**sizes, halves=halves, cores=132, planes=3, extra=4)
            tiles = -(-pixels // cut.pixels)
            assert steps * cut.pixels <= 16 * cut.rows <= 16 * small.TILES
            assert -(-channels // 32) * 32 % cut.columns == 0
            assert cut.grid == tiles * (-(-channels // 32) * 32 // cut.columns) * cut.cluster
            assert cut.cluster <= words
            assert cut.threads <= 512
            _, shared = small._layout(cut, -(-words // cut.cluster), 1, 2, 3, steps, 4)
            assert shared <= small.SHARED


def test_parts_of_shared_memory_do_not_meet():
    cut = small.configure(pixels=49, steps=4, channels=512, words=144, units=36, halves=1, cores=132, cluster=4)
    places, shared = small._layout(cut, 9, 4, 1, 2, 4, 1)
    rows, wide = 16 * cut.rows, cut.columns // 32
    sizes = (16 * rows, 16 * 9, 4 * 2 * 36 * rows, 4 * 4 * cut.pixels * wide, 4 * cut.along * rows * (cut.columns + 8))
    for begin, size, end in zip((0, *places[:4]), sizes, places[:5], strict=True):
        assert begin % 16 == 0
        assert begin + size <= end
    assert places[5] - places[4] >= 4 * cut.pixels * wide * 4 * 32
    assert shared - places[5] >= 4 * (8 + cut.columns)


def test_structures_lie_as_the_compiler_lays_them():
    assert ctypes.sizeof(small.CSource) == 72
    assert ctypes.sizeof(small.Params) == 2 * 72 + 7 * 8 + 11 * 4 + 4
    assert small.Params.weights.offset == 144
    assert small.Params.units.offset == 200
    assert ctypes.sizeof(small._Attribute) == 72
    assert small._Launch.stream.offset == 32
    assert ctypes.sizeof(small._Launch) == 56


def test_what_it_does_not_take(monkeypatch):
    w = torch.ones(2, 3, 1, 1)
    for weights, more in (([w, w, w], {}), ([w], {"planes": (5,)})):
        with pytest.raises(UnsupportedError, match="'small' takes two sources"):
            pack_layer(weights, None, LIFParams(), kernel="small", **more)
    packed = pack_layer([w], None, LIFParams(), kernel="small")
    with pytest.raises(UnsupportedError, match="on cpu"):
        spike_layer([Source(torch.zeros(1, 1, 1, 1, dtype=torch.int32), 3)], packed, steps=1)
    monkeypatch.setattr(_build, "refusal", lambda device: None)
    for steps, side in ((1, 65), (33, 1)):
        with pytest.raises(UnsupportedError, match="takes 4096 pixels and 32 steps"):
            spike_layer([Source(torch.zeros(steps, side, side, 1, dtype=torch.int32), 3)], packed, steps=steps)
    with pytest.raises(UnsupportedError, match="cannot cut"):
        small.configure(pixels=9, steps=4, channels=32, words=1, units=1, halves=1, cores=132, columns=64)
    with pytest.raises(UnsupportedError, match="cannot cut"):
        small.configure(pixels=9, steps=4, channels=32, words=9999, units=9999, halves=1, cores=132, planes=3)


def test_a_launch_carries_every_operand(monkeypatch):
    seen = []
    monkeypatch.setattr(_build, "refusal", lambda device: None)
    monkeypatch.setattr(small, "_launch", lambda plan, call: seen.append((plan, small.Params.from_buffer_copy(call))))
    monkeypatch.setattr(small._build, "function", lambda *_: None)
    properties = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    small._plan.cache_clear()
    x, z = pack_counts(counts(4, 64, 6, 6), 1), pack_counts(counts(4, 64, 12, 12, planes=2), 2)
    same = (pack_counts(counts(4, 70, 6, 6), 1), 1)
    weights = pack_layer(
        [noise(70, 64, 3, 3), noise(70, 64, 1, 1)],
        noise(70),
        LIFParams(),
        identity=True,
        planes=[1, 2, 1],
        kernel="small",
    )
    sources = [Source(x, 64, 1, (3, 3), padding=(1, 1)), Source(z, 64, 2, stride=(2, 2))]
    v0 = noise(2, 70, 6, 6)
    out, v = small.spike_layer(sources, weights, steps=2, identity=same, add=same, v0=v0, keep_v=True, out_planes=2)
    small._plan.cache_clear()
    (plan, call), defines = seen[0], dict(seen[0][0].defines)
    assert out.shape == (4, 6, 6, 6)
    assert v.shape == (2, 70, 6, 6)
    assert [call.source[i].words for i in range(2)] == [x.data_ptr(), z.data_ptr()]
    assert [call.source[i].units for i in range(2)] == [9, 1]
    assert (call.units, call.words_in) == (10, 20)
    assert weights.tensors["weights"].shape == (12, 20, 1, 32, 8)
    assert (call.pixels, call.words, defines["ACROSS"] * plan.config.columns) == (72, 3, 96)
    assert all((call.weights, call.constants, call.v0, call.v, call.out, call.add, call.same))
    want = {"VW": 2, "SOURCES": 2, "PLANES": 2, "SAME": 1, "ADD": 1, "OUTP": 2, "V0": 1, "KEEPV": 1, "STEPS": 2}
    assert {k: defines[k] for k in want} == want


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
@pytest.mark.parametrize(
    "how",
    [
        {"MT": 7, "WN": 4, "WK": 2, "CL": 8, "DEPTH": 3, "PLANES": 1, "HALVES": 1, "OUT": 0, "V0": 0, "KEEPV": 0},
        {"MT": 6, "WN": 8, "WK": 1, "CL": 1, "DEPTH": 1, "PLANES": 2, "HALVES": 2, "OUT": 0, "V0": 1, "KEEPV": 1},
        {"MT": 3, "WN": 2, "WK": 4, "CL": 2, "DEPTH": 3, "PLANES": 3, "HALVES": 1, "OUT": 1, "V0": 0, "KEEPV": 0},
    ],
)
def test_it_compiles_without_spills(how, tmp_path: Path):
    made = {"NT": 2, "BLOCKS": 2 // how["HALVES"], "VW": 2, "SOURCES": 2, "STEPS": 4, "SAME": 1, "LEAK": 1, "RESET": 2}
    made |= {"COUNT0": 2, "KW0": 3, "COUNT1": 4, "KW1": 1, "TILE": 12, "ACROSS": 2, "AREA": 49, "WIDTH": 7}
    made |= {"ADD": 0 if how["OUT"] else 2, "OUTP": 1 if how["OUT"] else 3, **how}
    (tmp_path / "k.cu").write_text(_build.source(made, small.NAME))
    command = ["nvcc", "-std=c++17", "-gencode=arch=compute_90a,code=sm_90a", "-cubin", "-Xptxas", "-v", "k.cu"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert " 0 bytes spill stores" in run.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs compute capability 9.0 and a CUDA compiler")
@pytest.mark.parametrize("cluster", [1, 2, 8])
@pytest.mark.parametrize("steps", [1, 4, 5])
def test_spikes_equal_the_reference(steps, cluster):
    """Weights are sixteenths and the neuron does not leak: every sum is exact, so every spike must agree."""
    for channels, cout, size, stride in [(64, 64, 9, 1), (256, 70, 5, 2), (512, 10, 7, 1)]:
        x = counts(2 * steps, channels, size, size + 1, planes=2)
        w, b = ((noise(*s) * 8).round() / 16 for s in [(cout, channels, 3, 3), (cout,)])
        source = Source(pack_counts(x, 2).cuda(), channels, 2, (3, 3), (stride, stride), (1, 1))
        packed = {
            kernel: pack_layer([w, w], b, LIFParams(kind="if"), planes=[2, 2], kernel=kernel).to("cuda")
            for kernel in ("dense", "small")
        }
        words, v = spike_layer([source, source], packed["dense"], steps=steps, keep_v=True)
        tune = (("cluster", cluster),)
        for _ in range(2):
            y, u = small.spike_layer([source, source], packed["small"], steps=steps, keep_v=True, tune=tune)
            assert torch.equal(y, words)
            assert torch.equal(u, v)
