from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.nn.neurons import LIFNode
from sparseflow.ops.lif import LIFParams, unpack_spikes
from sparseflow.ops.lif.reference import lif
from sparseflow.ops.stem import Window, pack_stem, reference, stem
from tests.ops.lif.test_reference import NEURONS


def made(n=2, channels=40, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 9, 8, generator=g), torch.randn(channels, 3, 3, 3, generator=g), torch.randn(channels)


def test_it_is_a_convolution_and_a_neuron_that_sees_it_at_every_step():
    x, weight, bias = made()
    window = Window(stride=(2, 1), padding=(1, 0))
    words = stem(x, pack_stem(weight, bias), LIFParams(), steps=3, window=window)
    current = F.conv2d(x, weight, bias, (2, 1), (1, 0))
    want = LIFNode(step_mode="m")(current.expand(3, *current.shape)).flatten(0, 1)
    assert torch.equal(unpack_spikes(words, 40), want)
    assert 0 < want.mean() < 1


def test_parts_of_weights_add_up():
    weight = made()[1] * torch.logspace(-6, 4, 40).view(-1, 1, 1, 1)
    weight[3] = 0
    packed = pack_stem(weight)
    whole = (packed.high.double() + packed.low.double()) * packed.scale.double()
    want = weight.flatten(1).double()
    assert packed.high.shape == (64, 64)
    assert ((whole.t()[:40, :27] - want).abs() <= 2.0**-21 * want.abs().amax(1, keepdim=True)).all()
    assert not whole[27:].any()
    assert not whole[:, 40:].any()
    assert not packed.padded_bias.any()


def test_weights_on_grids_need_one_part():
    assert pack_stem((made()[1] * 20).round() / 16).low is None


def test_empty_and_half_images():
    x, weight, bias = made()
    packed = pack_stem(weight, bias)
    assert stem(x[:0], packed, LIFParams(), steps=2).shape == (0, 7, 6, 2)
    half = stem(x.half(), packed, LIFParams(), steps=2)
    assert torch.equal(half, stem(x.half().float(), packed, LIFParams(), steps=2))


def test_the_operator_is_sound():
    x, weight, bias = made(n=1, channels=3)
    w = pack_stem(weight, bias)
    tensors = (x, w.weight, w.bias, w.high, w.low, w.scale, w.padded_bias)
    arguments = (*tensors, 2, [1, 1, 0, 0, 1, 1], False, 2.0, 1.0, 0.0, True, True)
    torch.library.opcheck(torch.ops.sparseflow.stem.default, arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(1, 2, 9, 9)}, "expected \\[N, 3"),
        ({"x": torch.ones(3, 9, 9)}, "expected \\[N, 3"),
        ({"x": torch.ones(1, 3, 2, 9)}, "does not fit"),
        ({"steps": 0}, "steps is 0"),
        ({"kernel": "cuda"}, "kernel is 'cuda'"),
    ],
)
def test_bad_input(change, message):
    given = {"x": torch.ones(1, 3, 9, 9), "steps": 1, **change}
    with pytest.raises(ConfigError, match=message):
        stem(weights=pack_stem(made()[1]), params=LIFParams(), **given)


def test_triton_asked_for_in_vain():
    with pytest.raises(UnsupportedError, match="Triton takes CUDA tensors"):
        stem(torch.ones(1, 3, 9, 9), pack_stem(made()[1]), LIFParams(), steps=1, kernel="triton")


def test_bad_weights():
    with pytest.raises(ConfigError, match="pack_stem"):
        pack_stem(torch.ones(3, 3))
    with pytest.raises(ConfigError, match="pack_stem"):
        pack_stem(torch.ones(3, 3, 1, 1), torch.ones(2))


def test_currents_are_float32():
    x, weight, bias = made()
    assert reference.currents(x.half(), weight, bias, Window()).dtype == torch.float32


@pytest.mark.parametrize("params", NEURONS, ids=str)
@pytest.mark.parametrize("steps", [1, 4, 9])
def test_intervals_are_where_a_constant_current_fires(params, steps):
    pieces = reference.intervals(params, steps)
    assert (pieces is None) == (params.v_reset is None)
    if pieces is None:
        return
    ends = torch.tensor([end for step in pieces for piece in step for end in piece])
    around = [ends, torch.nextafter(ends, torch.tensor(-torch.inf)), torch.nextafter(ends, torch.tensor(torch.inf))]
    x = torch.cat([*around, torch.linspace(-4, 8, 5000), torch.tensor([torch.nan, 1e38, -1e38, 0.0])])
    x = x[~x.isinf()]
    want = lif(x.repeat(steps), params, steps=steps)[0].view(steps, -1).bool()
    for at, step in enumerate(pieces):
        got = torch.zeros_like(x, dtype=torch.bool)
        for low, high in step:
            got |= (x >= low) & ((x < high) | (high == torch.inf))
        assert torch.equal(got, want[at])
        assert all(a[0] >= b[1] for a, b in pairwise(step))


def test_neurons_that_may_fire_later_on_more_have_no_intervals():
    assert reference.intervals(LIFParams(tau=0.4), 3) is None
    assert reference.intervals(LIFParams(tau=0.4, kind="if"), 3) is not None
