"""Faults of the earlier analysis of spiking networks, one test each."""

import importlib
import pkgutil

import pytest
import torch
from torch import fx, nn

import sparseflow
from sparseflow.nn.neurons import IFNode
from sparseflow.trace import capture, spike_edges
from tests.torchvision_shim import install


@pytest.fixture(scope="module")
def sew() -> nn.Module:
    pytest.importorskip("spikingjelly")
    if not install():
        pytest.skip("torchvision is not installed")
    from benchmarks.spikingjelly_models import BUILDERS

    return next(b for b in BUILDERS if b.name == "sew_resnet18").make()


def runtime_order_pairs(model: nn.Module, x: torch.Tensor) -> dict[str, str]:
    """Pair each convolution with the neuron that ran last before it, as the earlier analysis did."""
    last, pairs, handles = [""], {}, []
    for name, module in model.named_modules():
        if type(module).__name__ == "IFNode":
            handles.append(module.register_forward_hook(lambda *_, n=name: last.__setitem__(0, n)))
        elif isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_pre_hook(lambda *_, n=name: pairs.update({n: last[0]})))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return pairs


def test_stock_symbolic_trace_fails_where_the_leaf_tracer_does_not(sew: nn.Module) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever fx raises
        fx.symbolic_trace(sew)
    assert capture(sew, torch.rand(2, 1, 3, 32, 32)).how == "fx"


def test_pairing_by_execution_order_mislabels_shortcuts_and_residuals(sew: nn.Module) -> None:
    x = torch.rand(2, 1, 3, 32, 32)
    guessed = runtime_order_pairs(sew, x)
    true: dict[str, set[str]] = {}
    for edge in spike_edges(capture(sew, x)):
        true.setdefault(edge.layer, set()).add(edge.source)
    assert guessed["layer2.0.downsample.0"] not in true["layer2.0.downsample.0"]
    assert true["layer1.1.conv1"] == {"sn1", "layer1.0.sn2"}
    wrong = [layer for layer, sources in true.items() if layer in guessed and sources != {guessed[layer]}]
    assert len(wrong) >= 8


def test_every_shortcut_convolution_has_its_edges(sew: nn.Module) -> None:
    layers = {edge.layer for edge in spike_edges(capture(sew, torch.rand(2, 1, 3, 32, 32)))}
    assert {f"layer{i}.0.downsample.0" for i in (2, 3, 4)} <= layers


def test_batch_norm_behind_a_spike_is_not_transparent() -> None:
    model = nn.Sequential(IFNode(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
    nn.init.constant_(model[1].bias, 0.5)
    assert spike_edges(capture(model.eval(), torch.rand(1, 4, 3, 3) * 3)) == ()


def test_a_sum_of_spikes_is_not_bits(sew: nn.Module) -> None:
    structures = {e.layer: e.structure for e in spike_edges(capture(sew, torch.rand(2, 1, 3, 32, 32)))}
    assert structures["layer1.0.conv2"] == "spikes"
    assert structures["layer1.1.conv1"] == "counts"


def test_no_layer_is_frozen_because_it_was_silent_on_a_sample() -> None:
    for module in pkgutil.walk_packages(sparseflow.__path__, "sparseflow."):
        if module.name.endswith("_native"):
            continue
        loaded = importlib.import_module(module.name)
        assert not [name for name in vars(loaded) if "staticzero" in name.lower()], module.name
