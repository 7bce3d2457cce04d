"""The CUDA kernel's launches: laid out here without a GPU, run against the reference where there is one."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from sparseflow.errors import UnsupportedError
from sparseflow.ops.lif import LIFParams, pack_spikes
from sparseflow.ops.spike_layer import Source, _build, cuda, pack_counts, pack_layer, spike_layer
from sparseflow.ops.spike_layer.cuda import CSource, Params, configure
from tests.ops.spike_layer.test_reference import bits, counts, noise

FIXED = {"halves": 1, "planes": 1, "pairs": True, "kind": (), "cores": 132}
ON_GPU = _build.refusal(torch.device("cuda")) is None if torch.cuda.is_available() else False


def test_structures_lie_as_the_compiler_lays_them():
    assert ctypes.sizeof(CSource) == 80
    assert ctypes.sizeof(Params) == 3 * 80 + 6 * 8 + 11 * 4 + 4 + 8 + 4 + 4
    assert Params.weights.offset == 240
    assert Params.sources.offset == 288


@pytest.mark.parametrize(
    ("sizes", "want"),
    [
        # pixels, steps, channels, chunks -> tile channels, steps held, warpgroups, split, resident
        ((100352, 4, 64, 9), (64, 4, 2, 0, 1)),
        ((1568, 4, 512, 72), (64, 4, 2, 0, 0)),
        ((49, 4, 512, 72), (32, 1, 4, 1, 0)),
        ((49, 1, 512, 72), (32, 1, 2, 0, 0)),
        ((3136, 16, 64, 9), (32, 1, 4, 1, 1)),
        ((25088, 2, 10, 1), (32, 2, 2, 0, 1)),
    ],
)
def test_tiles_follow_the_sizes(sizes, want):
    made = configure(**dict(zip(("pixels", "steps", "channels", "chunks"), sizes, strict=True)), **FIXED)
    defines = dict(made.defines)
    assert tuple(defines[k] for k in ("BN", "TC", "WGS", "SPLIT", "RESIDENT")) == want
    assert made.shared <= cuda.SHARED
    assert 0 < made.grid <= 132
    assert made.stages <= sizes[3]


@pytest.mark.parametrize("chunks", [1, 9, 27, 28, 29, 72, 500])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 16])
@pytest.mark.parametrize(("halves", "int8"), [(1, False), (2, False), (1, True)])
def test_shared_memory_suffices_for_what_the_kernel_lays_there(chunks, steps, halves, int8):
    for columns in (32, 64):
        for split in (False, True) if steps > 1 else (False,):
            options = FIXED | {"halves": halves, "int8": int8}
            made = configure(
                pixels=5000, steps=steps, channels=256, chunks=chunks, columns=columns, split=split, **options
            )
            d = dict(made.defines)
            held = d["TC"] * (d["WGS"] if split else 1)
            assert d["MULTI"] == (steps > held)
            assert d["TAIL"] == (steps % held != 0)
            fixed = 16 * chunks + (8 if int8 else 4) * columns + 16 * made.stages
            waiting = (1 if split else d["WGS"]) * columns // 2 * 128 * 4 if d["MULTI"] else 0
            sums = held * columns // 2 * 128 * 4 if split else 0
            chunk = 64 * columns * (1 if int8 else 2 * halves)
            assert made.stages * chunk + fixed + waiting + sums <= made.shared <= cuda.SHARED


@pytest.mark.parametrize(
    ("chunks", "options", "want"),
    [
        # One chunk's words are read ahead with several steps held, four with one step of spikes, two of counts.
        (1, {}, 0),
        (2, {}, 1),
        (4, {"split": True}, 0),
        (5, {"split": True}, 1),
        (2, {"split": True, "planes": 2}, 0),
        (3, {"split": True, "planes": 2}, 1),
        (1, {"int8": True, "identity": 2}, 1),
    ],
)
def test_more_words_are_looked_at_only_where_there_are_more(chunks, options, want):
    made = configure(pixels=25088, steps=4, channels=64, chunks=chunks, **(FIXED | options))
    assert dict(made.defines)["SCAN"] == want


def test_too_many_chunks_are_refused():
    with pytest.raises(UnsupportedError, match="cannot hold 20000 chunks"):
        configure(pixels=64, steps=4, channels=64, chunks=20000, **FIXED)


def test_without_such_a_gpu_it_says_why():
    weights = pack_layer([noise(5, 3, 1, 1)], None, LIFParams())
    with pytest.raises(UnsupportedError, match=r"capability 9\.0 only; the words are on cpu"):
        spike_layer([Source(pack_spikes(bits(2, 3, 4, 4)), 3)], weights, steps=2)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_launch_carries_every_operand(monkeypatch, precision):
    seen = []
    monkeypatch.setattr(_build, "refusal", lambda device: None)
    monkeypatch.setattr(cuda, "_launch", lambda plan, call: seen.append((plan, Params.from_buffer_copy(call))))
    monkeypatch.setattr(cuda._build, "function", lambda *_: None)
    properties = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    cuda._plan.cache_clear()
    x, z = pack_spikes(bits(4, 64, 6, 6)), pack_counts(counts(4, 64, 12, 12, planes=2), 2)
    same = (pack_spikes(bits(4, 70, 6, 6)), 1)
    weights = pack_layer(
        [noise(70, 64, 3, 3), noise(70, 64, 1, 1)],
        noise(70),
        LIFParams(),
        identity=True,
        planes=[1, 2, 1],
        precision=precision,
    )
    sources = [Source(x, 64, 1, (3, 3), padding=(1, 1)), Source(z, 64, 2, stride=(2, 2))]
    v0 = noise(2, 70, 6, 6)
    out, v = cuda.spike_layer(sources, weights, steps=2, identity=same, add=same, v0=v0, keep_v=True, out_planes=2)
    (plan, call), defines = seen[0], dict(seen[0][0].config.defines)
    assert out.shape == (4, 6, 6, 6)
    assert v.shape == (2, 70, 6, 6)
    int8 = precision == "int8"
    assert call.sources == (2 if int8 else 3)
    assert (defines["INT8"], defines["IDENT"]) == (int8, int8)
    assert [call.source[i].words for i in range(2)] == [x.data_ptr(), z.data_ptr()]
    assert [call.source[i].chunks for i in range(3)] == [9, 1, 0 if int8 else 1]
    assert call.source[2].words == same[0].data_ptr()
    assert [call.source[i].linear for i in range(3)] == [0, 0, 1]
    assert [call.source[i].identity for i in range(3)] == [0, 0, 1]
    assert call.chunks == (10 if int8 else 11) == weights.tensors["weights"].shape[1]
    assert (call.pixels, call.words, call.tiles) == (72, 3, 2)
    assert call.columns == 2 * 64 // defines["BN"]
    assert all((call.weights, call.constants, call.v0, call.v, call.out, call.add))
    assert (defines["PLANES"], defines["ADD"], defines["OUTP"], defines["V0"], defines["KEEPV"]) == (2, 1, 2, 1, 1)
    assert defines["VEC"] == int8
    cuda._plan.cache_clear()
    assert plan.config.threads % 128 == 0


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs compute capability 9.0 and a CUDA compiler")
@pytest.mark.parametrize("steps", [1, 2, 4, 5])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_spikes_equal_the_reference(steps, kernel_size):
    """Weights are sixteenths and the neuron does not leak: every sum is exact, so every spike must agree."""
    k, p = (kernel_size, kernel_size), (kernel_size // 2,) * 2
    for channels, cout, size, stride in [(64, 64, 9, 1), (33, 70, 5, 2), (256, 10, 7, 1)]:
        x = counts(2 * steps, channels, size, size + 1, planes=2)
        w, b = ((noise(*s) * 8).round() / 16 for s in [(cout, channels, *k), (cout,)])
        params = LIFParams(kind="if")
        source = Source(pack_counts(x, 2).cuda(), channels, 2, k, (stride, stride), p)
        runs = []
        for kernel, precision in [("dense", "fp16"), ("cuda", "fp16"), ("cuda", "fp16"), ("cuda", "int8")]:
            weights = pack_layer([w, w], b, params, planes=[2, 2], kernel=kernel, precision=precision).to("cuda")
            runs.append(spike_layer([source, source], weights, steps=steps, keep_v=True))
        for words, v in runs[1:]:
            assert torch.equal(words, runs[0][0])
            assert torch.equal(v, runs[0][1])
