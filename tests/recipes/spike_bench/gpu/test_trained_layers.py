import pytest
import torch
from torch import nn

from sparseflow.ops.lif import LIFParams
from sparseflow.recipes.spike_bench.gpu import trained_layers
from sparseflow.recipes.spike_bench.gpu.layer_cases import layer_room
from sparseflow.recipes.spike_bench.gpu.nets import load_trained
from sparseflow.recipes.spike_bench.gpu.settings import Budget
from sparseflow.recipes.spike_bench.gpu.tasks import Task, share_out
from sparseflow.recipes.spike_bench.gpu.trained_layers import BATCH, FedLayer, LayerDeck, fed_layers, run_layers

CPU = torch.device("cpu")
SHIPPED = "spiking_vgg9_cifar10"


@pytest.fixture(scope="module")
def layers():
    case = load_trained(SHIPPED, 1, CPU)
    return fed_layers(case.model, case.x)


@pytest.fixture
def deck(layers, tmp_path):
    files = trained_layers.save_layers(layers, tmp_path / "0")
    return lambda *pairs: LayerDeck({SHIPPED: list(layers)}, pairs, {SHIPPED: files})


def test_every_layer_of_a_trained_network_is_fed_with_dense_spikes(deck, layers):
    dealt = deck(("dense", "fp16"), ("nonsense", "fp16"))
    share_out(dealt, run_layers, Budget(120.0), CPU, 0)
    right, refused = dealt.tallies[SHIPPED, "dense", "fp16"], dealt.tallies[SHIPPED, "nonsense", "fp16"]
    assert list(right) == list(refused) == list(layers)
    assert len(layers) >= 7
    assert all(t.ran == 1 and t.equal == t.steps > 0 for t in right.values())
    assert all(t.refused == 1 for t in refused.values())
    assert all(t.reasons[0].startswith(f"{name}: ") for name, t in refused.items())
    assert all(t.worst[1] == name for name, t in right.items())
    assert dealt.errors == {}


def test_a_layer_that_breaks_is_named_and_not_counted(deck, layers, monkeypatch):
    def broken(*_):
        raise RuntimeError("illegal memory access")

    monkeypatch.setattr(trained_layers, "layer_case", broken)
    dealt = deck(("dense", "fp16"))
    share_out(dealt, run_layers, Budget(60.0), CPU, 0)
    assert dealt.tallies[SHIPPED, "dense", "fp16"] == {}
    assert len(dealt.errors) == len(layers)
    assert "illegal" in dealt.errors[f"{SHIPPED} 0, dense, fp16"]


def test_spikes_are_kept_in_bytes_and_nothing_else_is_changed(layers, monkeypatch):
    case = load_trained(SHIPPED, 1, CPU)
    found = trained_layers.spiking_layers(case.model, case.x)
    assert {name for name, layer in found.items() if layer.neuron is not None} == set(layers)
    for name, layer in layers.items():
        assert layer.x.dtype == torch.uint8
        assert torch.equal(layer.x.float(), found[name].x)
        assert torch.equal(layer.layer.weight, found[name].layer.weight)
    half = torch.tensor([[0.5, 3.0]])
    assert trained_layers._narrow(half) is half
    assert trained_layers._narrow(torch.tensor([300.0])).item() == 300.0
    assert trained_layers._narrow(torch.tensor([-1.0])).item() == -1.0


def test_a_layer_comes_back_from_its_file_as_it_was(layers, tmp_path):
    for file, layer in zip(trained_layers.save_layers(layers, tmp_path / "0"), layers.values(), strict=True):
        back = trained_layers._load_layer(file)
        assert (back.name, back.params, type(back.layer)) == (layer.name, layer.params, type(layer.layer))
        assert torch.equal(back.x, layer.x)
        assert torch.equal(back.layer.weight, layer.layer.weight)
        assert (back.bn is None) == (layer.bn is None)
        if layer.bn is not None:
            assert torch.equal(
                back.bn(torch.ones(1, layer.layer.out_channels, 2, 2)),
                layer.bn(torch.ones(1, layer.layer.out_channels, 2, 2)),
            )


def test_a_file_that_holds_other_things_is_not_opened(tmp_path):
    torch.save({"layer": nn.ReLU()}, tmp_path / "0.pt")
    tally, errors = run_layers(Task(kernel="dense", precision="fp16", seeds=(0,), file=str(tmp_path / "0.pt")), CPU)
    assert tally.ran == 0
    assert next(iter(errors.values())).startswith("UnpicklingError")


@pytest.mark.parametrize(("side", "fed"), [(8, BATCH), (65, 8)])
def test_small_images_come_in_the_batch_of_whole_networks(side, fed, monkeypatch):
    seen = []
    monkeypatch.setattr(trained_layers, "spiking_layers", lambda model, x: seen.append(len(x)) or {})
    assert fed_layers(None, torch.zeros(120, 3, side, side)) == {}
    assert seen == [fed]


def test_room_grows_with_what_is_fed_and_not_with_what_is_compared_in_parts():
    conv = nn.Conv2d(64, 64, 3, padding=1)
    one, many = (
        FedLayer(name="c", layer=conv, bn=None, params=LIFParams(), x=torch.empty(4, n, 64, 56, 56, device="meta"))
        for n in (8, 80)
    )
    assert 2**30 < one.room < 3 * 2**30
    assert one.room < many.room < 8 * 2**30
    assert layer_room(nn.Linear(10, 10), (4, 2, 10)) < 2**20
