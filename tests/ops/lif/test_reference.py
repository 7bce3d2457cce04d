"""The neuron's truth against hand-made numbers, SpikingJelly and finite differences."""

import math

import pytest
import torch

from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.lif import reference
from sparseflow.ops.lif.reference import LIFParams

NEURONS = [
    LIFParams(tau=tau, v_threshold=1.0, v_reset=reset, decay_input=decay, kind=kind)
    for kind, tau in (("if", 2.0), ("lif", 2.0), ("lif", 1.7))
    for reset in (0.0, None, -0.25)
    for decay in (True, False)
]


def test_hand_made_steps():
    spikes, v = reference.lif(torch.tensor([1.5, 1.5, 0.5]), LIFParams(v_reset=None), steps=3)
    assert spikes.tolist() == [0, 1, 0]
    assert v.item() == pytest.approx((0.125 + 0.5) / 2)


@pytest.mark.parametrize("params", NEURONS, ids=str)
def test_equals_spikingjelly(params):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    settings = {"v_threshold": params.v_threshold, "v_reset": params.v_reset, "step_mode": "m"}
    if params.kind == "if":
        theirs = neuron.IFNode(**settings)
    else:
        theirs = neuron.LIFNode(tau=params.tau, decay_input=params.decay_input, **settings)
    x = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(0)) * 2
    want = theirs(x)
    spikes, v = reference.lif(x.flatten(0, 1), params, steps=6)
    assert torch.equal(spikes.reshape(want.shape), want)
    torch.testing.assert_close(v, theirs.v)


@pytest.mark.parametrize("params", NEURONS, ids=str)
def test_backward_by_hand_equals_autograd(params):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(12, 3, generator=g, dtype=torch.float64, requires_grad=True)
    v0 = torch.randn(3, 3, generator=g, dtype=torch.float64, requires_grad=True)
    spikes, v = reference.lif(x, params, steps=4, v0=v0)
    gs, gv = torch.randn(12, 3, generator=g, dtype=torch.float64), torch.randn(3, 3, generator=g, dtype=torch.float64)
    want = torch.autograd.grad((spikes, v), (x, v0), (gs, gv))
    got = reference.lif_backward(gs, gv, x.detach(), params, steps=4, v0=v0.detach())
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


def test_surrogate_is_the_arctangent():
    x = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    reference.lif(x, LIFParams(kind="if"), steps=1)[0].backward()
    assert x.grad.item() == pytest.approx(1 / (1 + (math.pi * 0.7) ** 2))


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 64, 100])
def test_packing_round_trips(channels):
    x = (torch.rand(2, channels, 3, 5) < 0.5).double()
    words = reference.pack_spikes(x)
    assert words.shape == (2, 3, 5, -(-channels // 32))
    assert torch.equal(reference.unpack_spikes(words, channels, torch.float64), x)


def test_padding_bits_are_zero():
    assert reference.pack_spikes(torch.ones(1, 1, 1, 1)).item() == 1
    assert reference.pack_spikes(torch.ones(1, 32)).item() == -1


@pytest.mark.parametrize("value", [2.0, 0.5, -1.0, math.nan, math.inf])
def test_only_spikes_pack(value):
    with pytest.raises(DataError, match="other than 0 and 1"):
        reference.pack_spikes(torch.tensor([[1.0, value]]))


@pytest.mark.parametrize(
    "changes",
    [{"kind": "izhikevich"}, {"tau": 0.0}, {"tau": math.nan}, {"v_threshold": math.inf}, {"v_reset": math.nan}],
)
def test_constants_are_checked(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        LIFParams(**changes)
