"""Kernels that round go where they cost what the model returns, and stay where that helps nothing."""

from typing import Any

import pytest
import torch

import sparseflow.compress.sparsify.settle_gpu as pipeline
from sparseflow import data
from sparseflow.compress.sparsify.parity import REL_TOL, Parity
from sparseflow.compress.sparsify.parity_gpu import compare_lowered, typical_error
from sparseflow.compress.sparsify.settle_gpu import settle
from sparseflow.compress.sparsify.tune import Timed
from sparseflow.nn.functional import reset_net
from sparseflow.nn.models import load_checkpoint
from sparseflow.nn.spike_layer_block import SpikeLayerBlock
from tests.compress.sparsify.test_lower_gpu import lower
from tests.spiking_nets import chain

KNOWN = {"library": 0.1, "cuda": 0.2, "dense": 0.3}


class _Case:
    """A network of packed layers on kernel "library", which are said to return `made` by their kernels."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, made: dict[str, float], **parity: dict[str, int]) -> None:
        self.model, self.x = chain()
        self.lowered = lower(self.model, self.x, precision="fp16", kernel="library")
        blocks = {n: self.lowered.graph_module.get_submodule(n) for n in self.lowered.blocks}
        self.blocks: dict[str, Any] = {n: b for n, b in blocks.items() if "cuda" in getattr(b, "kernels", ())}
        assert len(self.blocks) > 1
        monkeypatch.setattr(
            type(self.lowered.graph_module), "forward", lambda _, __: torch.tensor([[made[self.kernel]]])
        )
        monkeypatch.setattr(pipeline, "compare_lowered", lambda *_: Parity(spikes=100_000, **parity[self.kernel]))

    @property
    def kernel(self) -> str:
        (kernel,) = {block.kernel for block in self.blocks.values()}
        return str(kernel)

    def settle(self) -> Parity:
        timed = {name: Timed(kernels=KNOWN) for name in self.blocks}
        with torch.no_grad():
            return settle(self.lowered, timed, self.model, (self.x,), torch.tensor([[1.0]]), "fp16")


def test_currents_stay_whole_where_only_their_rounding_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    case = _Case(monkeypatch, {"library": 1.2, "cuda": 1.0}, library={"mismatches": 2}, cuda={"mismatches": 1})
    assert case.settle().mismatches == 1
    assert case.kernel == "cuda"
    case = _Case(monkeypatch, {"library": 1.0, "cuda": 1.0}, library={"mismatches": 2}, cuda={})
    assert case.settle().mismatches == 0
    assert case.kernel == "cuda"


def test_the_faster_kernel_stays_where_the_others_round_too(monkeypatch: pytest.MonkeyPatch) -> None:
    case = _Case(monkeypatch, {"library": 1.2, "cuda": 1.1}, library={"mismatches": 1}, cuda={"mismatches": 1})
    assert case.settle().mismatches == 1
    assert case.kernel == "library"


def test_the_faster_kernel_stays_where_its_rounding_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    case = _Case(monkeypatch, {"library": 1.0005, "cuda": 1.0}, library={"mismatches": 2}, cuda={"mismatches": 1})
    case.settle()
    assert case.kernel == "library"


def test_beyond_the_limit_it_goes_whatever_the_outputs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    case = _Case(monkeypatch, {"library": 1.0, "cuda": 1.0}, library={"mismatches": 30}, cuda={})
    assert case.settle().mismatches == 0
    assert case.kernel == "cuda"


@torch.no_grad()
def test_a_trained_network_on_exact_grids_keeps_its_outputs() -> None:
    """Torch's convolution in float16 rounds currents; within the limit, but the answers of the network change."""
    model = load_checkpoint("spiking_vgg9_cifar10")[0].eval()
    x, _ = next(data.cifar10_subset().batches(1))
    expected = model(x)
    lowered, modules = lower(model, x, precision="fp16", kernel="library"), dict(model.named_modules())
    reset_net(model)
    assert compare_lowered(lowered, (x,), modules).mismatches > 0
    blocks = {name: lowered.graph_module.get_submodule(name) for name in lowered.blocks}
    known = {"library": 0.1, "dense": 0.2}
    timed = {name: Timed(kernels=known) for name, block in blocks.items() if isinstance(block, SpikeLayerBlock)}
    assert settle(lowered, timed, model, (x,), expected, "fp16").mismatches == 0
    assert typical_error(expected, lowered.graph_module(x)) <= REL_TOL
