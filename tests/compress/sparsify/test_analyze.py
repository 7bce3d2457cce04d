"""Sites are the layers that read spikes; every other one has its reason."""

import torch
from torch import Tensor, nn

from sparseflow.compress.sparsify.analyze import Site, find_sites
from sparseflow.hardware import load_target
from sparseflow.ir import Refusal
from sparseflow.nn.neurons import IFNode
from sparseflow.trace import capture, spike_edges
from sparseflow.trace.workload import to_workload
from tests.spiking_nets import Residual, alive, chain


def _sites(model: nn.Module, x: Tensor, target: str = "cpu") -> tuple[dict[str, Site], list[Refusal]]:
    found = capture(model, x)
    device = load_target(target, describe=False)
    sites, refusals = find_sites(model, found, spike_edges(found), to_workload(found), device)
    return {site.name: site for site in sites}, refusals


def test_layers_that_read_spikes() -> None:
    sites, refusals = _sites(*chain())
    assert list(sites) == ["features.4", "features.8", "head.1", "head.3"]
    assert sites["features.8"].sources == ("features.6",)
    assert sites["features.8"].structure == "spikes"
    assert "event" in sites["features.8"].kernels
    assert ("features.0", "sparse kernels") in [(r.layer, r.what) for r in refusals]


def test_counts_of_a_fork() -> None:
    x = torch.randn(2, 3, 8, 8)
    sites, _ = _sites(alive(Residual(sew=True), x), x)
    assert set(sites["conv3"].sources) == {"stem.3", "sn2"}
    assert sites["conv3"].structure == "counts"


def test_a_gpu_target_refuses_the_kernels() -> None:
    sites, refusals = _sites(*chain(), target="h200")
    assert not sites
    assert any("compiled for CPUs" in r.reason for r in refusals)


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = IFNode(), IFNode(), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.a(x)) + self.fc(self.b(2 * x))
        return out + nn.functional.linear(self.a(x), torch.ones(4, 4))


def test_shared_layers_and_functions_are_refused() -> None:
    sites, refusals = _sites(_Twice(), torch.rand(2, 4))
    assert not sites
    reasons = {r.layer: r.reason for r in refusals}
    assert "several places" in reasons["fc"]
    assert any("function call" in reason for reason in reasons.values())
