import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.nn import models

PARAMETERS = {
    "alexnet": 3_111_114,
    "lenet5": 62_006,
    "mobilenetv1": 3_217_226,
    "nin": 1_005_642,
    "squeezenet": 730_570,
    "vgg16": 14_724_042,
    "vgg19": 20_035_018,
}
SMALL = {"width": 0.125}


def bare(name, **arguments):
    with torch.device("meta"):
        return models.build(name, **arguments)


def layers(model):
    return [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def macs(model, x):
    counts = []

    def count(module, _, out):
        fan_in = module.weight[0].numel()
        counts.append(fan_in * out[0].numel())

    for _, module in layers(model):
        module.register_forward_hook(count)
    model(x)
    return sum(counts)


def test_every_chain_is_tried_here():
    assert set(PARAMETERS) == set(models.names("convnets")) - {"resnet18"}


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameters_and_logits_at_full_width(name):
    model = bare(name)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert model(torch.empty(3, 3, 32, 32, device="meta")).shape == (3, 10)


@pytest.mark.parametrize(("name", "expected"), [("alexnet", 56e6), ("vgg16", 313e6)])
def test_multiply_adds_of_an_image(name, expected):
    assert macs(bare(name), torch.empty(1, 3, 32, 32, device="meta")) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("name", "convolutions"), [("vgg16", 13), ("vgg19", 16), ("nin", 9), ("mobilenetv1", 27), ("lenet5", 2)]
)
def test_convolutions(name, convolutions):
    assert sum(isinstance(m, nn.Conv2d) for _, m in layers(bare(name))) == convolutions


def test_alexnet_is_the_one_of_the_page():
    model = bare("alexnet")
    shapes = {name.removesuffix(".conv"): tuple(m.weight.shape) for name, m in layers(model)}
    assert shapes == {
        "features.conv1": (64, 3, 5, 5),
        "features.conv2": (192, 64, 5, 5),
        "features.conv3": (384, 192, 3, 3),
        "features.conv4": (256, 384, 3, 3),
        "features.conv5": (256, 256, 3, 3),
        "classifier.fc1.linear": (512, 1024),
        "classifier.fc2.linear": (256, 512),
        "classifier.fc3": (10, 256),
    }
    assert model.features.conv1.conv.stride == (2, 2)
    pools = [name for name, m in model.features.named_children() if isinstance(m, nn.MaxPool2d)]
    assert pools == ["pool1", "pool2", "pool5"]
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_every_parameter_learns(name):
    torch.manual_seed(0)
    model = models.build(name, num_classes=4, in_channels=1, **SMALL)
    y = model(torch.randn(4, 1, 32, 32))
    assert y.shape == (4, 4)
    y.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert next(model.parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_in_eval_mode_a_network_gives_the_same_twice(name):
    model = models.build(name, **SMALL).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(("name", "side"), [("alexnet", 48), ("vgg16", 64), ("lenet5", 28)])
def test_other_image_sizes(name, side):
    model = bare(name, image_size=side)
    assert model(torch.empty(1, 3, side, side, device="meta")).shape == (1, 10)


@pytest.mark.parametrize("name", ["mobilenetv1", "nin", "squeezenet"])
def test_a_mean_over_the_image_takes_any_size(name):
    assert bare(name)(torch.empty(1, 3, 40, 56, device="meta")).shape == (1, 10)


def test_vgg_with_a_hidden_layer():
    model = bare("vgg16", hidden=64)
    assert [name for name, _ in model.classifier.named_children()] == ["flatten", "drop", "fc1", "drop1", "fc2"]
    assert model(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("alexnet", {"image_size": 30}, "multiple of 16"),
        ("alexnet", {"width": 0}, "width"),
        ("vgg16", {"image_size": 16}, "multiple of 32"),
        ("vgg19", {"hidden": -1}, "hidden"),
        ("lenet5", {"image_size": 12}, "16 or more"),
        ("lenet5", {"image_size": 30}, "multiple of 4"),
        ("nin", {"image_size": 32}, "image_size"),
        ("mobilenetv1", {"width": -1}, "width"),
    ],
)
def test_bad_arguments(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        models.build(name, **arguments)


def test_families():
    families = ("convnets", "forecasters", "spiking")
    assert {name for family in families for name in models.names(family)} == set(models.names())
    with pytest.raises(ConfigError, match="no family"):
        models.names("transformers")


def test_a_checkpoint_comes_back(tmp_path):
    model = models.build("lenet5").eval()
    models.checkpoint.round_half(model)
    path = tmp_path / "lenet5.safetensors"
    models.save_checkpoint(path, model, name="lenet5", arguments={}, record={"accuracy": 0.5})
    loaded, record = models.load_checkpoint(str(path))
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded(x), model(x))
    assert record == {"accuracy": 0.5}
