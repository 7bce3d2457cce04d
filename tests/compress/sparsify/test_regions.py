"""Regions are what they say: true chains, each node in one, nothing shared or listened to."""

from typing import Any

import pytest
import torch
from torch import nn

from sparseflow.compress.sparsify.regions import Region, find_regions, observe
from sparseflow.nn.functional import reset_net
from sparseflow.nn.neurons import LIFNode
from sparseflow.trace import capture
from tests.spiking_nets import Residual, alive, chain


def _regions(model: nn.Module, x: torch.Tensor) -> dict[str, Region]:
    traced = capture(model, x).graph_module
    assert traced is not None
    with torch.no_grad():
        facts = observe(traced, (x,))
    reset_net(model)
    return {str(node.target): region for node, region in find_regions(traced, facts).items()}


def _names(region: Region) -> dict[str, str]:
    fields: Any = ("neuron", "layer", "bn", "residual", "repeat")
    return {f: str(getattr(region, f).target) for f in fields if getattr(region, f) is not None}


def test_chain() -> None:
    found = _regions(*chain())
    assert _names(found["features.3"]) == {"neuron": "features.3", "repeat": "features.2"}
    assert _names(found["features.1"]) == {"layer": "features.0", "bn": "features.1"}
    assert _names(found["features.6"]) == {"neuron": "features.6", "layer": "features.4", "bn": "features.5"}
    assert _names(found["features.9"]) == {"neuron": "features.9", "layer": "features.8"}
    assert _names(found["head.2"]) == {"neuron": "head.2", "layer": "head.1"}
    assert _names(found["head.3"]) == {"layer": "head.3"}


@pytest.mark.parametrize("down", [False, True])
def test_residual_joins_in_front_of_the_neuron(down: bool) -> None:
    x = torch.randn(2, 3, 8, 8)
    found = _regions(alive(Residual(down=down), x), x)
    names = _names(found["sn2"])
    assert (names["layer"], names["bn"]) == ("conv2", "bn2")
    assert names["residual"] == ("down.1" if down else "stem.3")


def test_sew_join_stays_outside() -> None:
    x = torch.randn(2, 3, 8, 8)
    found = _regions(alive(Residual(sew=True), x), x)
    assert "residual" not in _names(found["sn2"])


def test_training_norm_stays_outside() -> None:
    model, x = chain()
    traced = capture(model, x).graph_module
    assert traced is not None
    with torch.no_grad():
        facts = observe(traced, (x,))
    model.features[5].train()  # type: ignore[index, union-attr, operator]
    heads = {str(n.target): r for n, r in find_regions(traced, facts).items()}
    assert heads["features.6"].layer is None


def test_hooked_and_shared_modules_stay_outside() -> None:
    model, x = chain()
    model.features[6].register_forward_hook(lambda *_: None)  # type: ignore[index, union-attr, operator]
    assert "features.6" not in _regions(model, x)
    neuron, y = LIFNode(v_threshold=0.1), torch.randn(2, 3, 8, 8)
    shared = nn.Sequential(nn.Conv2d(3, 3, 1), neuron, nn.Conv2d(3, 3, 1), neuron).eval()
    assert [name for name, region in _regions(shared, y).items() if region.neuron is not None] == []
