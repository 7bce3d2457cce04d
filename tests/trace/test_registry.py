"""Spike sources of every library, by name and without importing it."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.nn import neurons
from sparseflow.trace import SpikeOpRegistry, is_spike_source, neuron_op, neuron_params, register
from sparseflow.trace.registry import REGISTRY


def test_no_spiking_library_is_imported() -> None:
    code = (
        "import sys, torch; from sparseflow.trace import is_spike_source; is_spike_source(torch.nn.ReLU());"
        "print([m for m in ('spikingjelly', 'snntorch', 'norse', 'torchvision') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", [nn.ReLU(), nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Sequential(), nn.LSTM(1, 1)])
def test_plain_layers_are_no_sources(module: nn.Module) -> None:
    assert not is_spike_source(module)
    assert neuron_params(module) is None
    assert neuron_op(module) is None


def test_own_neurons() -> None:
    assert neuron_params(neurons.IFNode(v_threshold=0.5, v_reset=None, step_mode="m")) == {
        "kind": "if", "tau": 1.0, "decay_input": False, "v_threshold": 0.5, "v_reset": None, "step_mode": "m",
    }  # fmt: skip
    assert neuron_params(neurons.LIFNode(tau=3.0, decay_input=False)) == {
        "kind": "lif", "tau": 3.0, "decay_input": False, "v_threshold": 1.0, "v_reset": 0.0, "step_mode": "s",
    }  # fmt: skip
    plif = neurons.ParametricLIFNode(init_tau=4.0)
    found = neuron_params(plif)
    assert found is not None
    assert found["kind"] == "plif"
    assert found["tau"] == pytest.approx(1 / float(torch.sigmoid(plif.w.detach())), rel=1e-6)
    assert found["tau"] == pytest.approx(4.0, rel=1e-5)


def test_spikingjelly_neurons() -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    for node in (neuron.IFNode(), neuron.LIFNode(), neuron.ParametricLIFNode(), neuron.KLIFNode(), neuron.QIFNode()):
        assert is_spike_source(node), node
    assert neuron_params(neuron.IFNode(v_reset=None))["v_reset"] is None
    assert neuron_params(neuron.LIFNode(tau=5.0, v_threshold=0.3, step_mode="m")) == {
        "kind": "lif", "tau": 5.0, "decay_input": True, "v_threshold": 0.3, "v_reset": 0.0, "step_mode": "m",
    }  # fmt: skip
    assert neuron_params(neuron.ParametricLIFNode(init_tau=2.0))["tau"] == pytest.approx(2.0)
    assert neuron_op(neuron.LIFNode()) == "lif"


def test_neurons_with_other_maths_are_sources_that_cannot_fuse() -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    assert neuron_params(neuron.KLIFNode()) is None
    assert neuron_params(neuron.QIFNode()) is None
    assert neuron_params(neuron.LIFNode(store_v_seq=True, step_mode="m")) is None

    class Leakier(neuron.LIFNode):  # type: ignore[misc, name-defined]
        def single_step_functional_forward(self, *args: Any, **kwargs: Any) -> Any:
            return super().single_step_functional_forward(*args, **kwargs)

    class Renamed(neuron.LIFNode):  # type: ignore[misc, name-defined]
        pass

    assert is_spike_source(Leakier())
    assert neuron_params(Leakier()) is None
    assert neuron_params(Renamed()) is not None


def test_neurons_that_emit_other_values_are_no_sources() -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    assert not is_spike_source(neuron.TernaryIFNode())
    assert not is_spike_source(neuron.ILIFNode())


def test_snntorch_and_norse_neurons() -> None:
    snn = pytest.importorskip("snntorch")
    norse = pytest.importorskip("norse.torch")
    for node in (snn.Leaky(beta=0.9), snn.Synaptic(alpha=0.9, beta=0.8), snn.Lapicque(beta=0.5), snn.Alpha(0.9, 0.8)):
        assert is_spike_source(node), node
        assert neuron_params(node) is None
    for node in (norse.LIFCell(), norse.LIF(), norse.IAFCell(), norse.LIFRefracCell(), norse.LSNNCell(2, 2)):
        assert is_spike_source(node), node
    assert not is_spike_source(norse.LICell())


class Mine(nn.Module):
    """A user's neuron."""


def test_user_types_by_register() -> None:
    given = {"kind": "lif", "tau": 2.0, "v_threshold": 1.0, "v_reset": None, "decay_input": True, "step_mode": "m"}
    register(Mine, kind="lif", params=lambda m: given)
    try:
        assert is_spike_source(Mine())
        assert neuron_params(Mine()) == given
        assert neuron_op(Mine()) == "lif"

        class Child(Mine):
            def forward(self, x: Any) -> Any:
                return x

        assert is_spike_source(Child())
        assert neuron_params(Child()) is None
    finally:
        REGISTRY.unregister(Mine)
    assert not is_spike_source(Mine())


def test_a_registry_of_ones_own_does_not_leak() -> None:
    registry = SpikeOpRegistry()
    registry.register(Mine)
    assert registry.is_spike_source(Mine())
    assert registry.neuron_params(Mine()) is None
    assert not is_spike_source(Mine())
    registry.unregister(nn.ReLU)


@pytest.mark.parametrize("wrong", [Mine(), int, "LIF", None])
def test_register_refuses_what_is_no_module_class(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"torch\.nn\.Module"):
        register(wrong)


def test_params_that_leave_something_out_are_named() -> None:
    class Own(nn.Module):
        pass

    registry = SpikeOpRegistry()
    registry.register(Own, params=lambda _: {"kind": "lif", "tau": 2.0})
    with pytest.raises(ConfigError, match="Own lack v_threshold, v_reset, decay_input, step_mode"):
        registry.neuron_params(Own())
