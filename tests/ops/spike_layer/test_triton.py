"""The Triton layer against the dense truth; in the interpreter where there is no GPU."""

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from sparseflow.errors import UnsupportedError
from sparseflow.ops.lif import LIFParams, pack_spikes
from sparseflow.ops.spike_layer import Source, pack_layer, spike_layer, triton
from sparseflow.ops.spike_layer.reference import pack_counts
from sparseflow.ops.spike_layer.triton import Config
from tests.ops.lif.test_reference import NEURONS
from tests.tolerances import assert_near

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = Config(pixels=16, channels=32, together=4)


def counts(shape, planes=1, density=0.3, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = (torch.rand(shape, generator=g) < density) * torch.randint(1, 2**planes, shape, generator=g)
    return pack_counts(x.float(), planes).to(DEVICE)


def grid(shape, seed=0, scale=8):
    """Weights on multiples of 1/8: every sum is exact, so that spikes must agree bit for bit."""
    return (torch.randint(-6, 9, shape, generator=torch.Generator().manual_seed(seed)) / scale).to(DEVICE)


def source(m, c, size, k=1, stride=1, padding=0, dilation=1, planes=1, density=0.3, seed=0):
    words = counts((m, c, *size), planes, density, seed)
    return Source(words, c, planes, (k, k), (stride, stride), (padding, padding), (dilation, dilation))


DEFAULT = LIFParams()


def compare(sources, weights, params=DEFAULT, bias=None, precision="fp16", config=None, planes=None, **how):
    dense = pack_layer(weights, bias, params, identity="identity" in how, kernel="dense", planes=planes)
    packed = pack_layer(
        weights, bias, params, identity="identity" in how, kernel="triton", precision=precision, planes=planes
    )
    want = spike_layer(sources, dense, **how)
    how.setdefault("out_planes", 1 if how.get("add") is None else how["add"][1] + 1)
    got = triton.spike_layer(sources, packed, config=config, **how)
    if params is None:
        assert got[0].dtype == want[0].dtype
        assert got[0].stride() == want[0].stride()
        assert_near(got[0].float(), want[0].float(), "spike_layer")
    else:
        assert torch.equal(got[0], want[0])
    assert (got[1] is None) == (want[1] is None)
    if got[1] is not None:
        assert_near(got[1], want[1], "spike_layer")
    return got[0]


@pytest.mark.parametrize("precision", ["fp16", "exact"])
@pytest.mark.parametrize("params", NEURONS, ids=str)
def test_neurons(params, precision):
    """With tau = 1.7 "fp16" rounds the folded weights, so that only "exact" is compared there."""
    if params.tau != 2.0 and params.kind == "lif":
        precision = "exact"
    x, v0 = source(6, 33, (3, 2)), torch.randn(2, 5, 3, 2, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    weight, bias = grid((5, 33, 1, 1)), grid((5,), 3)
    compare([x], [weight], params, bias, precision, SMALL, steps=3, v0=v0, keep_v=True)


@pytest.mark.parametrize(
    ("k", "stride", "padding", "dilation"),
    [(1, 1, 0, 1), (1, 2, 0, 1), (3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2), (5, 2, 2, 1), (7, 2, 3, 1), (3, 1, 0, 1)],
)
def test_geometry(k, stride, padding, dilation):
    x = source(2, 35, (7, 9), k, stride, padding, dilation)
    compare([x], [grid((33, 35, k, k), scale=32)], LIFParams(), grid((33,), 1), config=SMALL, steps=2)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7, 16])
def test_steps(steps):
    x = source(steps * 2, 40, (2, 3))
    weights = pack_layer([grid((6, 40, 1, 1))], None, LIFParams(), kernel="triton")
    together = triton.configs(weights, steps)[0].together
    assert 1 <= together <= 4
    compare([x], [grid((6, 40, 1, 1))], config=SMALL._replace(together=together), steps=steps, keep_v=True)


@pytest.mark.parametrize("density", [0.0, 1.0])
@pytest.mark.parametrize("skip", [False, True])
def test_all_and_nothing(density, skip):
    x = source(4, 64, (4, 4), 3, padding=1, density=density)
    config = SMALL._replace(skip=skip, together=2)
    y = compare([x], [grid((40, 64, 3, 3), scale=64)], bias=grid((40,), 1) + 0.5, config=config, steps=4)
    assert density or y.count_nonzero()


@pytest.mark.parametrize("config", [SMALL, Config(32, 64), Config(16, 64, dot=True), Config(16, 128)], ids=str)
def test_one_dense_row_and_every_cut(config):
    x = torch.zeros(4, 70, 5, 5)
    x[1, :, 2] = 1
    one = Source(pack_spikes(x).to(DEVICE), 70, 1, (3, 3), (1, 1), (1, 1))
    wide = config.channels
    y = compare([one], [grid((wide, 70, 3, 3), scale=64)], config=config, steps=4, keep_v=True)
    assert y.count_nonzero()


@pytest.mark.parametrize("planes", [1, 2, 3])
@pytest.mark.parametrize("dot", [False, True])
def test_counts_identity_and_sum(planes, dot):
    x, short = source(4, 33, (3, 3), 3, padding=1, planes=planes), source(4, 5, (6, 6), 1, 2, seed=1)
    identity, add = counts((4, 70, 3, 3), planes, seed=2), counts((4, 70, 3, 3), planes, seed=3)
    weights = [grid((70, 33, 3, 3), scale=64), grid((70, 5, 1, 1))]
    for out_planes in (planes, planes + 1):
        how = {"identity": (identity, planes), "add": (add, planes), "out_planes": out_planes}
        config = Config(16, 64, dot=dot)
        compare([x, short], weights, LIFParams(tau=4.0), config=config, planes=(planes, 1, planes), steps=2, **how)


@pytest.mark.parametrize("out", ["float16", "float32"])
def test_currents_out(out, nan_empty):
    x, identity = source(4, 70, (3, 5), 3, padding=1), counts((4, 33, 3, 5), 2)
    weight, bias = grid((33, 70, 3, 3), scale=64), grid((33,))
    config = SMALL._replace(together=1)
    compare([x], [weight], None, bias, config=config, planes=(1, 2), steps=2, identity=(identity, 2), out=out)


def test_buffers_are_filled(nan_empty):
    compare([source(4, 3, (5, 3))], [grid((7, 3, 1, 1))], config=SMALL, steps=4, keep_v=True)


@pytest.mark.parametrize("seed", range(4))
def test_exact_precision_keeps_random_weights(seed):
    g = torch.Generator().manual_seed(seed)
    x, weight = source(4, 64, (4, 4), 3, padding=1, seed=seed), torch.randn(32, 64, 3, 3, generator=g).to(DEVICE) / 12
    dense = spike_layer([x], pack_layer([weight], None, None, kernel="dense"), steps=4, out="float32")[0]
    packed = pack_layer([weight], None, None, kernel="triton", precision="exact")
    got = triton.spike_layer([x], packed, steps=4, out="float32", config=SMALL._replace(together=1))[0]
    assert_near(got, dense, "spike_layer")
    rough = triton.spike_layer(
        [x],
        pack_layer([weight], None, None, kernel="triton"),
        steps=4,
        out="float32",
        config=SMALL._replace(together=1),
    )[0]
    assert 1e-6 < (rough - dense).abs().max() < 1e-3 * dense.abs().max().clamp_min(1)


def test_through_the_operator():
    x, weight = source(4, 33, (3, 3), 3, padding=1), grid((40, 33, 3, 3), scale=32)
    packed = pack_layer([weight], None, LIFParams(), kernel="triton")
    want, v = spike_layer([x], pack_layer([weight], None, LIFParams(), kernel="dense"), steps=2, keep_v=True)
    got = spike_layer([x], packed, steps=2, keep_v=True)
    assert torch.equal(got[0], want)
    assert_near(got[1], v, "spike_layer")
    empty = x._replace(words=x.words[:0])
    assert spike_layer([empty], packed, steps=2)[0].shape == (0, 3, 3, 2)


def test_configurations_fit_the_layer():
    for cout in (1, 32, 33, 64, 100, 256):
        packed = pack_layer([grid((cout, 3, 1, 1))], None, LIFParams(), kernel="triton")
        wide = packed.tensors["bias"].shape[0]
        assert wide >= cout
        for config in triton.configs(packed, 4):
            assert wide % config.channels == 0
            assert 4 % config.together == 0


def test_what_does_not_fit_float16_is_refused():
    with pytest.raises(UnsupportedError, match="overflows float16"):
        pack_layer([torch.full((1, 1, 1, 1), 1e6)], None, LIFParams(), kernel="triton")
