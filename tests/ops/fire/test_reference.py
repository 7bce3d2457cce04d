import itertools

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.nn.neurons import ATan, IFNode, LIFNode, ParametricLIFNode, Sigmoid
from sparseflow.ops.fire import fire

NODES = [
    LIFNode(step_mode="m", tau=tau, decay_input=decay, v_reset=reset, v_threshold=1.5, detach_reset=detach)
    for tau, decay, reset, detach in itertools.product((2.0, 1.7), (True, False), (0.0, -0.5, None), (True, False))
] + [IFNode(step_mode="m", v_reset=reset, detach_reset=detach) for reset in (0.0, None) for detach in (True, False)]
SHAPES = [(4, 2, 3, 5, 7), (1, 1, 1, 1, 1), (3, 2, 9), (2, 0, 4, 4, 4), (16, 1, 33, 1, 2)]


def both(node, x, weight):
    results = []
    for fused in (False, True):
        node.reset()
        node.fused = fused
        leaf = x.clone().requires_grad_()
        spikes = node(leaf)
        (spikes * weight).sum().backward()
        results.append((spikes.detach(), leaf.grad))
    node.fused = False
    node.reset()
    return results


@pytest.mark.parametrize("node", NODES, ids=repr)
def test_spikes_and_gradients_are_those_of_the_loop(node):
    g = torch.Generator().manual_seed(0)
    for shape in SHAPES:
        x, weight = torch.randn(shape, generator=g) * 2, torch.randn(shape, generator=g)
        (want, want_grad), (got, got_grad) = both(node, x, weight)
        assert torch.equal(got, want)
        torch.testing.assert_close(got_grad, want_grad)


def test_the_surrogates_steepness_counts():
    node = LIFNode(step_mode="m", surrogate_function=ATan(4.0))
    x = torch.randn(4, 1, 8)
    (_, want), (_, got) = both(node, x, torch.ones_like(x))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dtype_and_layout_stay(layout):
    x = torch.randn(6, 4, 3, 3, dtype=torch.bfloat16).contiguous(memory_format=layout).requires_grad_()
    spikes = fire(x, steps=3)
    assert spikes.dtype == x.dtype
    assert spikes.is_contiguous(memory_format=layout)
    spikes.float().sum().backward()
    assert x.grad.dtype == x.dtype
    assert x.grad.is_contiguous(memory_format=layout)


def test_a_repeated_input_keeps_its_layout_and_gathers_its_gradient():
    x = torch.randn(2, 4, 3, 3).contiguous(memory_format=torch.channels_last)
    node = LIFNode(step_mode="m")
    grads = []
    for fused in (False, True):
        node.reset()
        node.fused = fused
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        spikes = node(leaf.unsqueeze(0).expand(4, *x.shape))
        assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
        spikes.sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[1], grads[0])


def test_a_fused_neuron_forgets_and_a_charged_one_does_not_fuse():
    node = IFNode(step_mode="m")
    node.fused = True
    node(torch.full((1, 1), 0.6))
    assert node.v == 0.0
    node.fused = False
    node(torch.full((1, 1), 0.6))
    node.fused = True
    assert node(torch.full((1, 1), 0.6)).item() == 1.0


@pytest.mark.parametrize(
    "node", [ParametricLIFNode(step_mode="m"), LIFNode(step_mode="m", surrogate_function=Sigmoid())]
)
def test_other_neurons_run_as_ever(node):
    x = torch.randn(4, 2, 3)
    (want, want_grad), (got, got_grad) = both(node, x, torch.ones_like(x))
    assert torch.equal(got, want)
    assert torch.equal(got_grad, want_grad)


def test_steps_must_divide():
    with pytest.raises(ConfigError, match="3 steps"):
        fire(torch.ones(4, 2), steps=3)


def test_torch_accepts_the_operator():
    x = torch.randn(4, 3, requires_grad=True)
    torch.library.opcheck(torch.ops.sparseflow.fire.default, (x, 2, 2.0, True, True, 1.0, 0.0, False, True, 2.0))


def test_it_compiles_in_one_graph():
    node = LIFNode(step_mode="m")
    node.fused = True
    x = torch.randn(4, 2, 3)
    compiled = torch.compile(node, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), node(x))
