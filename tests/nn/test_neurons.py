import copy

import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.nn.functional import reset_net
from sparseflow.nn.neurons import ATan, IFNode, LIFNode, ParametricLIFNode, Sigmoid

neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")

KINDS = [
    ("IFNode", {}),
    ("LIFNode", {"tau": 2.0, "decay_input": True}),
    ("LIFNode", {"tau": 3.7, "decay_input": False}),
    ("ParametricLIFNode", {"init_tau": 2.5, "decay_input": True}),
    ("ParametricLIFNode", {"init_tau": 1.3, "decay_input": False}),
]
OURS = {"IFNode": IFNode, "LIFNode": LIFNode, "ParametricLIFNode": ParametricLIFNode}


def pair(kind, arguments, surrogates=(ATan, "ATan"), **more):
    ours = OURS[kind](**arguments, surrogate_function=surrogates[0](), **more)
    theirs = getattr(neuron, kind)(**arguments, surrogate_function=getattr(surrogate, surrogates[1])(), **more)
    return ours, theirs


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("v_reset", [0.0, -0.2, None])
@pytest.mark.parametrize(("kind", "arguments"), KINDS)
def test_sequences_and_gradients_are_spikingjellys(kind, arguments, v_reset, detach):
    ours, theirs = pair(kind, arguments, v_threshold=0.8, v_reset=v_reset, detach_reset=detach, step_mode="m")
    torch.manual_seed(0)
    for _ in range(2):  # the second call goes on from the state of the first
        x = torch.randn(5, 3, 4, 6, 5)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        got, want = ours(a), theirs(b)
        assert torch.equal(got, want)
        assert 0 < got.mean() < 1
        torch.testing.assert_close(ours.v, theirs.v)
        weight = torch.randn_like(x)
        (got * weight).sum().backward()
        (want * weight).sum().backward()
        torch.testing.assert_close(a.grad, b.grad)
        if kind == "ParametricLIFNode":
            torch.testing.assert_close(ours.w.grad, theirs.w.grad)
        ours.v, theirs.v = ours.v.detach(), theirs.v.detach()


@pytest.mark.parametrize(("kind", "arguments"), KINDS)
def test_steps_equal_the_sequence(kind, arguments):
    ours, theirs = pair(kind, arguments, step_mode="s")
    whole = OURS[kind](**arguments, step_mode="m", store_v_seq=True)
    x = torch.randn(6, 7, generator=torch.Generator().manual_seed(1)) + 0.5
    steps = torch.stack([ours(step) for step in x])
    assert torch.equal(steps, torch.stack([theirs(step) for step in x]))
    assert torch.equal(steps, whole(x))
    assert torch.equal(whole.v, ours.v)
    assert whole.v_seq.shape == x.shape
    assert torch.equal(whole.v_seq[-1], whole.v)


def test_sigmoid_surrogate_is_spikingjellys():
    ours, theirs = pair("LIFNode", {}, surrogates=(Sigmoid, "Sigmoid"), step_mode="m")
    a = torch.randn(4, 9, generator=torch.Generator().manual_seed(2)).requires_grad_()
    b = a.detach().clone().requires_grad_()
    ours(a).sum().backward()
    theirs(b).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("spike", [ATan(), Sigmoid()])
def test_surrogates_fire_at_zero_and_say_what_they_are(spike):
    assert spike(torch.tensor([-1e-9, 0.0, 1e-9])).tolist() == [0.0, 1.0, 1.0]
    assert "alpha" in repr(spike)


def test_state_dict_is_spikingjellys():
    ours, theirs = pair("ParametricLIFNode", {"init_tau": 2.5})
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())


def test_reset_forgets():
    node = LIFNode(v_reset=-0.5, step_mode="m")
    x = torch.rand(3, 4)
    first = node(x)
    assert not torch.equal(node.v, torch.full((4,), -0.5))
    reset_net(nn.Sequential(node))
    assert node.v == -0.5
    assert torch.equal(node(x), first)


def test_state_of_another_shape_is_refused():
    node = IFNode()
    node(torch.zeros(2, 3))
    with pytest.raises(ConfigError, match="reset_net"):
        node(torch.zeros(4, 3))


def test_channels_last_is_kept():
    x = torch.randn(3 * 2, 8, 5, 5).to(memory_format=torch.channels_last).view(3, 2, 8, 5, 5)
    out = LIFNode(step_mode="m")(x)
    assert out.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_half_precision_integrates_in_float32():
    x = torch.rand(16, 50, generator=torch.Generator().manual_seed(3)).bfloat16()
    node, exact = LIFNode(tau=5.0, step_mode="m"), LIFNode(tau=5.0, step_mode="m")
    got = node(x)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got.float(), exact(x.float()))


def test_empty_sequences():
    assert LIFNode(step_mode="m")(torch.zeros(0, 2, 3)).shape == (0, 2, 3)
    assert LIFNode(step_mode="m")(torch.zeros(4, 0, 3)).shape == (4, 0, 3)


def test_a_node_in_a_graph_can_be_copied_and_moved():
    node = LIFNode(step_mode="m")
    node(torch.rand(2, 3, requires_grad=True))
    twin = copy.deepcopy(node)
    assert torch.equal(twin.v, node.v)
    assert twin.double().v.dtype == torch.float64


def test_compiles_whole():
    node = LIFNode(step_mode="m")
    x = torch.randn(4, 10, generator=torch.Generator().manual_seed(4)) + 0.5
    want = node(x)
    node.reset()
    assert torch.equal(torch.compile(node, backend="aot_eager", fullgraph=True)(x), want)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LIFNode(tau=1.0),
        lambda: ParametricLIFNode(init_tau=0.5),
        lambda: IFNode(step_mode="x"),
        lambda: IFNode(v_threshold=float("nan")),
        lambda: IFNode(step_mode="m")(torch.zeros(3)),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ConfigError):
        make()


def test_repr_names_the_arguments():
    assert "tau=2.0" in repr(LIFNode())
    assert "tau=2.5" in repr(ParametricLIFNode(init_tau=2.5))
    assert "v_threshold" in repr(IFNode())


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("v_reset", [0.0, -0.3])
def test_rates_meet_the_spikes_at_both_ends(decay_input, v_reset):
    neuron = LIFNode(tau=2.5, decay_input=decay_input, v_reset=v_reset, step_mode="m")
    x = torch.linspace(-2, 6, 400)
    spikes = neuron(x.expand(64, -1)).mean(0)
    rate = neuron.rate(x)
    assert (spikes[rate == 0] == 0).all()
    assert (spikes[rate == 1] == 1).all()
    assert (spikes[rate > 0.01] > 0).all()
    assert (spikes[rate < 0.99] < 1).all()


def test_rates_without_leak():
    neuron = IFNode(step_mode="m", v_threshold=0.5, v_reset=None)
    x = torch.tensor([-1.0, 0.0, 0.125, 0.25, 0.5, 2.0])
    assert torch.equal(neuron.rate(x), neuron(x.expand(8, -1)).mean(0))
    neuron.reset()
    neuron.analog = True
    assert torch.equal(neuron(x), neuron.rate(x))
    assert neuron.v == 0.0
