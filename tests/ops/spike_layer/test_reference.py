"""The dense layer against layers put together by hand from the single operators."""

import pytest
import torch
import torch.nn.functional as F

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops.lif import LIFParams, lif, pack_spikes, unpack_spikes
from sparseflow.ops.spike_layer import LayerWeights, Source, pack_counts, pack_layer, spike_layer, unpack_counts
from sparseflow.ops.spike_layer.reference import check_width

torch.set_num_threads(1)


def bits(*shape, seed=0, density=0.3):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < density).float()


def counts(*shape, planes=1, seed=0):
    return torch.randint(0, 2**planes, shape, generator=torch.Generator().manual_seed(seed)).float()


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def dense(weights, bias=None, params=None, **options):
    return pack_layer(weights, bias, params, kernel="dense", **options)


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 70])
@pytest.mark.parametrize("planes", [1, 2, 3])
def test_counts_come_back(channels, planes):
    x = counts(2, channels, 3, 2, planes=planes)
    words = pack_counts(x, planes)
    assert check_width(words, channels, planes)
    assert not check_width(words, channels + 32, planes)
    assert torch.equal(unpack_counts(words, channels, planes), x)
    assert torch.equal(pack_counts(x + 2**planes, planes), words)


def test_one_plane_is_packed_spikes():
    x = bits(2, 40, 3, 3)
    assert torch.equal(pack_counts(x, 1), pack_spikes(x))


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("params", [LIFParams(), LIFParams(kind="if", v_reset=None), LIFParams(decay_input=False)])
def test_a_layer_is_conv_then_neuron(stride, params):
    x, w, b = bits(6, 33, 7, 5), noise(40, 33, 3, 3) / 4, noise(40)
    source = Source(pack_spikes(x), 33, 1, (3, 3), stride, (1, 1))
    words, v = spike_layer([source], dense([w], b, params), steps=3, keep_v=True)
    want, want_v = lif(F.conv2d(x, w, b, stride, 1), params, steps=3)
    assert torch.equal(words, pack_spikes(want))
    assert torch.allclose(v, want_v, atol=1e-6)
    assert source.output() == tuple(want.shape[2:])
    assert spike_layer([source], dense([w], b, params), steps=3)[1] is None


def test_every_term_is_added():
    x, z, same, extra = bits(4, 8, 6, 6), counts(4, 5, 12, 12, planes=2), counts(4, 9, 6, 6, planes=2), bits(4, 9, 6, 6)
    w, u, b = noise(9, 8, 1, 1), noise(9, 5, 1, 1), noise(9)
    v0 = noise(2, 9, 6, 6)
    weights = dense([w, u], b, LIFParams(), identity=True, planes=[1, 2, 2])
    sources = [Source(pack_spikes(x), 8), Source(pack_counts(z, 2), 5, 2, stride=(2, 2))]
    options = {"steps": 2, "identity": (pack_counts(same, 2), 2), "v0": v0}
    words, _ = spike_layer(sources, weights, add=(pack_spikes(extra), 1), **options)
    want, _ = lif(F.conv2d(x, w, b) + F.conv2d(z, u, None, 2) + same, LIFParams(), steps=2, v0=v0)
    assert torch.equal(unpack_counts(words, 9, 2), want + extra)
    one = spike_layer(sources, weights, add=(pack_spikes(extra), 1), out_planes=1, **options)[0]
    assert torch.equal(unpack_spikes(one, 9), (want + extra) % 2)


@pytest.mark.parametrize("out", ["float16", "float32"])
def test_without_a_neuron_currents_come_out(out):
    x, w, b = bits(4, 6, 5, 5), noise(7, 6, 3, 3), noise(7)
    y, v = spike_layer([Source(pack_spikes(x), 6, 1, (3, 3), padding=(1, 1))], dense([w], b), steps=2, out=out)
    assert v is None
    assert y.dtype == getattr(torch, out)
    assert y.permute(0, 2, 3, 1).is_contiguous()
    assert torch.allclose(y.float(), F.conv2d(x, w, b, padding=1), atol=1e-2 if out == "float16" else 1e-5)


def test_float64_weights_compute_in_float64():
    x, w = bits(2, 3, 4, 4), noise(5, 3, 1, 1).double()
    y, _ = spike_layer([Source(pack_spikes(x), 3)], dense([w]), steps=1, out="float32")
    assert torch.equal(y, F.conv2d(x.double(), w).float())


def test_empty_batches():
    words = torch.empty(0, 4, 4, 1, dtype=torch.int32)
    y, v = spike_layer([Source(words, 3)], dense([noise(5, 3, 1, 1)], None, LIFParams()), steps=2, keep_v=True)
    assert y.shape == (0, 4, 4, 1)
    assert v.shape == (0, 5, 4, 4)


def test_weights_move():
    weights = dense([noise(5, 3, 1, 1)], noise(5), LIFParams())
    assert isinstance(weights.to("cpu"), LayerWeights)
    assert {x.device.type for x in weights.to("meta").tensors.values()} == {"meta"}
    assert weights.to("meta").spec == weights.spec


def test_bad_operands_are_named():
    w = noise(5, 3, 1, 1)
    source = Source(torch.zeros(4, 2, 2, 1, dtype=torch.int32), 3)
    spiking, floats = dense([w], None, LIFParams()), dense([w])
    extra = (torch.zeros(4, 2, 2, 1, dtype=torch.int32), 1)
    with pytest.raises(UnsupportedError, match="no kernel 'fast'"):
        pack_layer([w], None, None, kernel="fast")
    with pytest.raises(UnsupportedError, match="NaN"):
        dense([w * torch.nan])
    with pytest.raises(ConfigError, match="precision"):
        dense([w], precision="fp8")
    with pytest.raises(ConfigError, match=r"\[Cout, C, kh, kw\]"):
        dense([w, noise(4, 3, 1, 1)])
    with pytest.raises(ConfigError, match="bias"):
        dense([w], noise(3))
    with pytest.raises(ConfigError, match="planes"):
        dense([w], planes=[1, 1])
    for bad, weights, options, why in [
        ([source], spiking, {"out": "int8"}, "out is 'int8'"),
        ([source], spiking, {"out": "float32"}, "packed with neurons"),
        ([source], floats, {"out": "float32", "keep_v": True}, "need a neuron"),
        ([source, source], spiking, {}, "2 sources"),
        ([source], spiking, {"identity": extra}, "without identity"),
        ([source], spiking, {"steps": 3}, "3 steps"),
        ([source._replace(channels=40)], spiking, {}, "40 channels"),
        ([source._replace(words=source.words.float())], spiking, {}, "float32"),
        ([source._replace(kernel_size=(2, 2))], spiking, {}, "does not fit weights"),
        ([source], spiking, {"add": (extra[0][:2], 1)}, "add is"),
        ([source], spiking, {"v0": torch.zeros(4, 5, 2, 2)}, "v0 is"),
    ]:
        with pytest.raises(ConfigError, match=why):
            spike_layer(bad, weights, **{"steps": 2, **options})


def test_opcheck():
    x = pack_spikes(bits(4, 6, 5, 5))
    extra = (pack_spikes(bits(4, 7, 3, 3)), 1)
    seen = []
    for weights, options in [
        (
            dense([noise(7, 6, 3, 3)], noise(7), LIFParams()),
            {"keep_v": True, "add": extra},
        ),
        (dense([noise(7, 6, 3, 3)]), {"out": "float16"}),
    ]:
        source = Source(x, 6, 1, (3, 3))
        compiled = torch.compile(spike_layer, fullgraph=True, backend="eager")
        got, want = compiled([source], weights, steps=2, **options), spike_layer([source], weights, steps=2, **options)
        assert torch.equal(got[0], want[0])
        seen.append(want[0].shape)
    assert seen == [(4, 3, 3, 2), (4, 7, 3, 3)]
    weights = dense([noise(7, 6, 3, 3)], None, LIFParams())
    numbers = [2, 1, 0, 1, 0, 1, 3, 3, 1, 1, 0, 0, 1, 1]
    arguments = (x, [], list(weights.tensors.values()), None, None, None, weights.spec, numbers)
    torch.library.opcheck(torch.ops.sparseflow.spike_layer.default, arguments)
