import torch
from torch import nn

from sparseflow.data import cifar10_subset
from sparseflow.ir import LayerReport, Report
from sparseflow.nn.models import SpikingVGG
from sparseflow.recipes._layers import first_image_inputs, stages

NAMES = ("features.conv1", "features.conv2", "classifier.fc1", "features.sn1", "gone")


def _net():
    torch.manual_seed(0)
    return SpikingVGG((8, "P", 16), hidden=16, steps=3).eval()


def test_the_inputs_of_layers_are_seen_and_the_network_is_left_as_it_was():
    model, images = _net(), cifar10_subset().take(2)
    x = images.normalize(images.images)
    before = model(x)
    found = first_image_inputs(model, x[:1], NAMES)
    assert {k: tuple(v.shape) for k, v in found.items()} == {
        "features.conv1": (1, 3, 32, 32),
        "features.conv2": (3, 8, 16, 16),
        "classifier.fc1": (3, 4096),
        "features.sn1": (3, 8, 32, 32),
    }
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert torch.equal(model(x), before)


def test_stages_say_what_each_layer_receives():
    model, images = _net(), cifar10_subset().take(1)
    inputs = first_image_inputs(model, images.normalize(images.images), NAMES)
    rows = tuple(LayerReport(name=n, op="conv2d", kernel="event" if n == NAMES[1] else "dense") for n in NAMES)
    found = stages(model, Report(model="m", target="cpu", layers=rows), inputs, images)
    assert [s.receives for s in found] == ["floats", "bits", "bits", "floats", "floats"]
    assert [s.detail for s in found[:3]] == ["3×3, 3 → 8", "3×3, 8 → 16", "linear, 4096 → 16"]
    assert found[3].detail == "LIFNode"
    assert [s.png is not None for s in found] == [True, True, True, True, False]
    assert found[1].kernel == "event"


def test_a_stride_is_told():
    model = nn.Sequential(nn.Conv2d(3, 4, (1, 3), stride=2))
    rows = (LayerReport(name="0", op="conv2d"),)
    (stage,) = stages(model, Report(model="m", target="cpu", layers=rows), {}, cifar10_subset().take(1))
    assert stage.detail == "1×3, 3 → 4, stride 2"
