import pytest
import torch

from sparseflow.recipes.spike_bench.gpu import trained_layers
from sparseflow.recipes.spike_bench.gpu.layer_cases import Tally
from sparseflow.recipes.spike_bench.gpu.settings import Budget
from sparseflow.recipes.spike_bench.gpu.tasks import share_out
from sparseflow.recipes.spike_bench.gpu.trained_layers import LayerDeck, fed_layers, run_layers

CPU = torch.device("cpu")
SHIPPED = "spiking_vgg9_cifar10"


@pytest.fixture
def names(monkeypatch):
    monkeypatch.setattr(trained_layers, "IMAGES", 1)
    trained_layers._layers.cache_clear()
    yield list(trained_layers._layers(SHIPPED, CPU))
    trained_layers._layers.cache_clear()


def test_every_layer_of_a_trained_network_is_fed_with_dense_spikes(names):
    deck = LayerDeck({SHIPPED: names}, [("dense", "fp16"), ("nonsense", "fp16")])
    share_out(deck, run_layers, Budget(120.0), CPU, 0)
    right, refused = deck.tallies[SHIPPED, "dense", "fp16"], deck.tallies[SHIPPED, "nonsense", "fp16"]
    assert list(right) == list(refused) == names
    assert len(names) >= 7
    assert all(t.ran == 1 and t.equal == t.steps > 0 for t in right.values())
    assert all(t.refused == 1 for t in refused.values())
    assert deck.errors == {}


def test_a_layer_that_breaks_is_named_and_not_counted(names, monkeypatch):
    def broken(*_):
        raise RuntimeError("illegal memory access")

    monkeypatch.setattr(trained_layers, "layer_case", broken)
    deck = LayerDeck({SHIPPED: names}, [("dense", "fp16")])
    share_out(deck, run_layers, Budget(60.0), CPU, 0)
    assert deck.tallies[SHIPPED, "dense", "fp16"] == {}
    assert len(deck.errors) == len(names)
    assert f"{names[0]}, dense, fp16" in deck.errors


def test_layers_without_a_neuron_are_left_out():
    case = trained_layers.load_trained(SHIPPED, 1, CPU)
    found = fed_layers(case.model, case.x)
    assert all(layer.neuron is not None for layer in found.values())
    assert Tally().ran == 0
