"""The builders' list, and what holds for the edges of every network in it whatever its structure."""

import math
from importlib.util import find_spec

import pytest
import torch

from benchmarks.spikingjelly_models import BUILDERS, Builder, names
from sparseflow.trace import Capture, capture, spike_edges
from tests.torchvision_shim import install

if find_spec("spikingjelly") is None or not install():
    pytest.skip("spikingjelly or torchvision is not installed", allow_module_level=True)

# One of each structure; the others differ in size.
CHECKED = {
    "sew_resnet18", "sew_resnet34", "sew_resnext50_32x4d", "spiking_resnet18", "ms_resnet18",
    "att_ms_resnet18", "masnn_dvs128_gesture", "spikformer_ti", "qkformer_10_384", "sdt_8_384", "maxformer_10_384",
    "maxformer_cifar", "MNISTNet", "ottt_spiking_vggws",
}  # fmt: skip


def test_the_list_is_long_enough_and_names_are_unique() -> None:
    assert len(set(names())) == len(BUILDERS) >= 25
    assert set(names()) >= CHECKED


def test_building_twice_gives_the_same_network() -> None:
    builder = next(b for b in BUILDERS if b.name == "MNISTNet")
    one, two = builder.make(seed=3), builder.make(seed=3)
    assert not one.training
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert torch.equal(builder.sample(), builder.sample())
    assert builder.sample().shape == builder.sample_shape


def test_neurons_fire() -> None:
    builder = next(b for b in BUILDERS if b.name == "sew_resnet18")
    found = capture(builder.make(), builder.sample())
    assert all(0.02 <= (node.density or 0) <= 0.4 for node in found.sources)


def read_by_layers(found: Capture) -> dict[str, list[tuple[str, float]]]:
    """Return what each convolution and linear layer really read, call by call: values and density."""
    reading: dict[str, list[tuple[str, float]]] = {}
    for call in found.calls:
        if call.op.startswith(("conv", "linear")):
            made, slot = found.calls[call.inputs[0][0]], call.inputs[0][1]
            density = made.nonzero[slot] / math.prod(made.output_shapes[slot])
            reading.setdefault(call.node, []).append((made.values[slot], density))
    return reading


@pytest.mark.parametrize("builder", [b for b in BUILDERS if b.name in CHECKED], ids=lambda b: b.name)
def test_no_edge_is_claimed_that_the_values_deny_and_none_is_missed(builder: Builder) -> None:
    found = capture(builder.make(), builder.sample())
    structure = {edge.layer: edge.structure for edge in spike_edges(found)}
    allowed = {"spikes": {"spikes"}, "counts": {"spikes", "counts"}}
    for layer, runs in read_by_layers(found).items():
        claimed = structure.get(layer)
        for values, density in runs:
            if claimed in allowed:
                assert values in allowed[claimed], layer
            if 0 < density < 1 and values != "any":
                assert claimed is not None, f"{layer} reads {values} and has no edge"
