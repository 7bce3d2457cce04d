"""A packed network gives what its model gives: eagerly, replayed, copied, moved, and with its state or without."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

from sparseflow.compress.sparsify.fuse import neuron_constants
from sparseflow.compress.sparsify.lower_gpu import Policy, lower_gpu
from sparseflow.compress.sparsify.regions import observe
from sparseflow.errors import ConfigError
from sparseflow.nn.functional import reset_net
from sparseflow.nn.packed_net import PackedNet
from sparseflow.nn.spike_layer_block import SpikeLayerBlock
from sparseflow.trace import capture, neuron_params
from sparseflow.trace._state import quiet
from tests import fake_cuda_graph
from tests.spiking_nets import Residual, alive


def make(keep: bool = False, **settings: Any) -> tuple[PackedNet, nn.Module, torch.Tensor]:
    x = torch.randn(2, 3, 8, 8)
    model = alive(Residual(sew=True), x)
    base = copy.deepcopy(model)
    traced = capture(base, x).graph_module
    assert traced is not None
    with quiet(base):
        facts = observe(traced, (x,))
    graph = lower_gpu(traced, facts, Policy(precision="exact", keep=keep)).graph_module
    neurons = [(m, neuron_constants(m).v_rest) for m in base.modules() if neuron_params(m)]
    return PackedNet(base, graph, neurons, keep_state=keep, **settings), model, x


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[fake_cuda_graph.FakeGraph]:
    monkeypatch.setattr(PackedNet, "_can_capture", lambda self, args: self.capture_failure is None)
    return fake_cuda_graph.install(monkeypatch)


@torch.no_grad()
def test_a_call_without_reset_raises_until_the_network_is_reset() -> None:
    net, model, x = make()
    assert sorted(net.state_dict()) == sorted(model.state_dict())
    torch.testing.assert_close(net(x), model(x))
    for _ in range(2):
        with pytest.raises(ConfigError, match="keep_state"):
            net(x)
    reset_net(net)
    reset_net(model)
    torch.testing.assert_close(net(-x), model(-x))
    reset_net(net)
    net.plain(x)
    with pytest.raises(ConfigError, match="reset_net"):
        net(x)


@torch.no_grad()
def test_spikingjelly_s_reset_clears_the_mark() -> None:
    functional = pytest.importorskip("spikingjelly.activation_based.functional")
    net, _, x = make()
    want = net(x)
    functional.reset_net(net)
    assert torch.equal(net(x), want)


@torch.no_grad()
def test_state_is_carried_if_told_so() -> None:
    net, model, x = make(keep=True)
    for _ in range(3):
        torch.testing.assert_close(net(x), model(x))
    reset_net(net)
    reset_net(model)
    torch.testing.assert_close(net(x), model(x))


def test_a_gradient_or_training_runs_the_model_itself() -> None:
    net, _, x = make()
    asked = x.clone().requires_grad_()
    net(asked).sum().backward()
    assert asked.grad is not None
    reset_net(net)
    assert net(x=x.clone().requires_grad_()).requires_grad
    reset_net(net)
    net.train()
    assert net(x).requires_grad


@torch.no_grad()
def test_training_packs_and_captures_anew_what_was_written_through_data(
    graphs: list[fake_cuda_graph.FakeGraph],
) -> None:
    net, model, x = make()
    net(x)
    net.train()
    for one in (net, model):
        reset_net(one)
        for p in one.parameters():
            p.data.mul_(1.5)
    torch.testing.assert_close(net.eval()(x), model(x))
    assert len(graphs) == 2


@torch.no_grad()
def test_replays_for_every_shape(graphs: list[fake_cuda_graph.FakeGraph]) -> None:
    net, model, x = make()
    for batch in (x, -x, x[:1], 2 * x, torch.cat([x, x]), x[:1]):
        reset_net(net)
        reset_net(model)
        got = net(batch)
        torch.testing.assert_close(got, model(batch))
    assert [g.replays for g in graphs] == [3, 2, 1]
    with pytest.raises(ConfigError, match="reset"):
        net(x)
    reset_net(net)
    first = net(x)
    kept = first.clone()
    reset_net(net)
    net(-x)
    assert torch.equal(first, kept)


@torch.no_grad()
def test_a_captured_graph_can_be_replayed_for_timing(graphs: list[fake_cuda_graph.FakeGraph]) -> None:
    net, _, x = make()
    assert net.replay_of((x,)) is None
    want = net(x)
    again = net.replay_of((x,))
    assert again is not None
    # A clock reads from the result which device to wait for; without one it would time the launch alone.
    assert torch.equal(again(), want)
    assert graphs[0].replays == 2
    assert net.replay_of((x[:1],)) is None
    kept, _, x = make(keep=True)
    kept(x)
    assert kept.replay_of((x,)) is None


@torch.no_grad()
def test_changed_weights_are_captured_anew(graphs: list[fake_cuda_graph.FakeGraph]) -> None:
    net, model, x = make()
    before = net(x)
    for change in (
        lambda m: m.conv2.weight.mul_(1.7),
        lambda m: setattr(m.bn1, "weight", nn.Parameter(m.bn1.weight * 1.4)),
        lambda m: m.fc.weight.mul_(2.0),
    ):
        change(net.plain)
        change(model)
        reset_net(net)
        reset_net(model)
        got = net(x)
        torch.testing.assert_close(got, model(x))
        assert not torch.equal(got, before)
        before = got
    assert len(graphs) == 4


@torch.no_grad()
def test_replays_carry_the_state(graphs: list[fake_cuda_graph.FakeGraph]) -> None:
    net, model, x = make(keep=True)
    for batch in (x, -x, x):
        torch.testing.assert_close(net(batch), model(batch))
    torch.testing.assert_close(net.plain.sn1.v, model.sn1.v)
    with pytest.raises(ConfigError, match="shape"):
        net(x[:1])
    for _ in range(2):
        reset_net(net)
        reset_net(model)
        torch.testing.assert_close(net(x[:1]), model(x[:1]))
    net.plain.sn1.v = torch.full_like(model.sn1.v, 0.3)
    model.sn1.v = torch.full_like(model.sn1.v, 0.3)
    torch.testing.assert_close(net(x[:1]), model(x[:1]))


@torch.no_grad()
def test_a_failed_capture_runs_layer_by_layer(
    graphs: list[fake_cuda_graph.FakeGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no luck")

    net, model, x = make()
    monkeypatch.setattr(torch.cuda, "graph", fail)
    torch.testing.assert_close(net(x), model(x))
    assert net.capture_failure == "RuntimeError: no luck"
    reset_net(net)
    reset_net(model)
    torch.testing.assert_close(net(-x), model(-x))


@torch.no_grad()
def test_copies_and_files(graphs: list[fake_cuda_graph.FakeGraph]) -> None:
    net, model, x = make()
    want = net(x)
    reset_net(net)
    twin = copy.deepcopy(net)
    twin.plain.fc.weight.zero_()
    assert torch.equal(net(x), want)
    assert not torch.equal(twin(x), want)
    reset_net(net)
    reset_net(model)
    net.double().float()
    torch.testing.assert_close(net(x), model(x))
    reset_net(net)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True))
    reset_net(twin)
    assert torch.equal(twin(x), want)


@torch.no_grad()
def test_compiles_without_captures() -> None:
    net, model, x = make()
    want = model(x)
    net(x)
    reset_net(net)
    compiled = torch.compile(net, backend="eager")
    torch.testing.assert_close(compiled(x), want)


@torch.no_grad()
def test_keyword_arguments_run_layer_by_layer(graphs: list[fake_cuda_graph.FakeGraph]) -> None:
    net, model, x = make()
    assert any(isinstance(m, SpikeLayerBlock) for m in net.graph.modules())
    torch.testing.assert_close(net(x=x), model(x))
    assert not graphs


@torch.no_grad()
def test_other_shapes_than_those_of_the_graph_run_the_model(graphs: list[fake_cuda_graph.FakeGraph]) -> None:
    net, model, x = make(shapes=((2, 3, 8, 8),))
    torch.testing.assert_close(net(x), model(x))
    assert len(graphs) == 1
    for other in (torch.randn(1, 3, 8, 8), torch.randn(2, 3, 4, 4)):
        with pytest.raises(ConfigError, match="reset"):
            net(other)
        reset_net(net)
        reset_net(model)
        assert torch.equal(net(other), model(other))
    assert len(graphs) == 1


@torch.no_grad()
def test_states_of_half_precision_do_not_reach_the_model(graphs: list[fake_cuda_graph.FakeGraph]) -> None:
    net, _, x = make(keep=True, shapes=((2, 3, 8, 8),))
    net(x)
    for neuron, _ in net._neurons:
        neuron.v = neuron.v.half()
    other = torch.randn(2, 3, 8, 8).requires_grad_()
    with torch.enable_grad():
        assert net(other).dtype == torch.float32
    assert all(neuron.v.dtype == torch.float32 for neuron, _ in net._neurons)
