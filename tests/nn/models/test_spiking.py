import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.nn import models
from sparseflow.nn.functional import reset_net
from sparseflow.nn.neurons import IFNode
from tests.torchvision_shim import install

SMALL = {
    "csnn": {"channels": 4, "image_size": 8},
    "sew_resnet18": {"width": 4},
    "spiking_resnet18": {"width": 4},
    "spiking_resnet50": {"width": 4},
    "spiking_vgg9": {"image_size": 8, "hidden": 16},
    "spiking_vgg11": {"image_size": 16, "hidden": 16},
}


def image(name, n=2):
    size = SMALL[name].get("image_size", 16)
    return torch.randn(n, 1 if name == "csnn" else 3, size, size, generator=torch.Generator().manual_seed(0))


def test_every_network_is_tried_here():
    assert set(SMALL) == set(models.names("spiking"))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_static_images_equal_their_own_repetition(name):
    torch.manual_seed(0)
    model = models.build(name, steps=3, num_classes=7, **SMALL[name]).eval()
    x = image(name)
    logits = model(x)
    assert logits.shape == (2, 7)
    reset_net(model)
    torch.testing.assert_close(model(x.unsqueeze(0).expand(3, *x.shape)), logits)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_parameter_learns(name):
    torch.manual_seed(0)
    model = models.build(name, steps=2, **SMALL[name])
    model(image(name)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert next(model.parameters()).grad.abs().sum() > 0


def inputs(model, x):
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, args[0]))
    model(x)
    return seen


@pytest.mark.parametrize("name", ["csnn", "spiking_resnet18", "spiking_resnet50", "spiking_vgg9", "spiking_vgg11"])
def test_layers_after_the_stem_see_bits(name):
    seen = inputs(models.build(name, **SMALL[name]), image(name))
    stem, *rest = [key for key in seen if key != "fc"]
    assert seen[stem].ndim == 4
    assert all(((seen[key] == 0) | (seen[key] == 1)).all() for key in rest)


def test_sew_adds_spikes_to_counts():
    seen = inputs(models.build("sew_resnet18", **SMALL["sew_resnet18"]), image("sew_resnet18", 8))
    counts = [key for key in seen if key.endswith("1.conv1")]
    assert any(seen[key].max() > 1 for key in counts)
    assert all((seen[key] == seen[key].round()).all() for key in counts)


def test_vgg9_has_nine_layers_and_the_size_that_ships():
    model = models.build("spiking_vgg9")
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == 9
    assert sum(p.numel() for p in model.parameters()) == 2_788_042


def test_resnet_names_are_spikingjellys():
    install()
    sew = pytest.importorskip("spikingjelly.activation_based.model.sew_resnet")
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    theirs = sew.sew_resnet18(spiking_neuron=neuron.LIFNode, cnf="ADD", num_classes=10)
    ours = models.build("sew_resnet18", stem="imagenet")
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


def test_imagenet_stem_divides_by_32():
    model = models.build("spiking_resnet18", width=4, stem="imagenet", num_classes=5).eval()
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 5)


def test_any_neuron():
    model = models.build("spiking_vgg9", neuron=lambda: IFNode(step_mode="m"), **SMALL["spiking_vgg9"])
    assert sum(isinstance(m, IFNode) for m in model.modules()) == 8


def test_channels_last_reaches_every_convolution():
    model = models.build("spiking_vgg9", **SMALL["spiking_vgg9"]).to(memory_format=torch.channels_last)
    seen = inputs(model, image("spiking_vgg9").to(memory_format=torch.channels_last))
    folded = [x.flatten(0, 1) for key, x in seen.items() if "conv" in key and x.ndim == 5]
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in folded)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("spiking_vgg8", {}),
        ("spiking_vgg9", {"image_size": 30}),
        ("csnn", {"image_size": 30}),
        ("spiking_vgg9", {"nonsense": 1}),
        ("spiking_resnet18", {"stem": "mnist"}),
        ("spiking_resnet18", {"steps": 0}),
    ],
)
def test_bad_arguments(name, arguments):
    with pytest.raises(ConfigError):
        models.build(name, **arguments)


@pytest.mark.parametrize(("block", "layers"), [("wide", (1, 1, 1, 1)), ("basic", (1, 1, 1))])
def test_bad_resnets(block, layers):
    with pytest.raises(ConfigError):
        models.SpikingResNet(block, layers)


def test_arguments():
    assert "image_size" in models.arguments("csnn")
    with pytest.raises(ConfigError, match="no network"):
        models.arguments("alexnet2012")


def test_currents_of_an_image_on_a_grid_do_not_depend_on_the_order_of_the_sums():
    model = models.build("spiking_resnet50", stem="imagenet", width=8, input_bits=8).eval()
    x = 2.6 * torch.randn(2, 3, 32, 32).clamp(-1, 1)
    with torch.no_grad():
        model.conv1.weight.copy_((model.conv1.weight * 2**9).round().clamp(-127, 127) / 2**9)
        grid = model.grid(x)
        assert not torch.equal(grid, x)
        exact = torch.nn.functional.conv2d(grid.double(), model.conv1.weight.double(), None, 2, 3)
        assert torch.equal(model.conv1(grid).double(), exact)
        assert torch.equal(model.conv1(grid.flip(1).contiguous().flip(1)).double(), exact)
