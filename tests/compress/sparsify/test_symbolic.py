"""Without a sample, only what must read spikes is found."""

import torch
from torch import Tensor, nn

from sparseflow.compress.sparsify.symbolic import spiking_layers
from sparseflow.nn.neurons import IFNode
from sparseflow.trace._leaf_tracer import leaf_trace
from tests.spiking_nets import Chain, Residual


def test_chain() -> None:
    layers, refusals = spiking_layers(leaf_trace(Chain()))
    assert layers == {
        "features.4": ("features.3",), "features.8": ("features.6",),
        "head.1": ("features.9",), "head.3": ("head.2",),
    }  # fmt: skip
    assert [(r.layer, r.what) for r in refusals] == [("features.0", "sparse kernels")]


def test_sums_of_spikes_keep_zeros_but_norms_do_not() -> None:
    layers, _ = spiking_layers(leaf_trace(Residual(sew=True)))
    assert set(layers["conv3"]) == {"sn2", "stem.3"}
    layers, _ = spiking_layers(leaf_trace(nn.Sequential(IFNode(), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))))
    assert layers == {}


class _Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = IFNode(), IFNode()
        self.twice, self.shifted = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.twice(self.a(x)) + self.twice(self.b(x)) + self.shifted(self.a(x).add(1.0))
        return torch.add(out, 1.0)


def test_refuses_shared_layers_and_shifted_spikes() -> None:
    layers, refusals = spiking_layers(leaf_trace(_Odd()))
    assert layers == {}
    reasons = {r.layer: r.reason for r in refusals}
    assert "several places" in reasons["twice"]
    assert "keep zeros" in reasons["shifted"]
