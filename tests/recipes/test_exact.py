import copy

import pytest
import torch
from torch import nn

from sparseflow.compress import Effort, optimize_spiking
from sparseflow.data import cifar10_subset
from sparseflow.errors import ConfigError
from sparseflow.hardware import load_target
from sparseflow.nn.functional import reset_net
from sparseflow.nn.models import SpikingVGG, build, load_checkpoint
from sparseflow.recipes.exact import make_exact


def _net():
    torch.manual_seed(0)
    net = SpikingVGG((8, 16, "P", 16), image_size=16, hidden=16, steps=2).eval()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return net, torch.randn(4, 3, 16, 16)


def _features(net, x):
    reset_net(net)
    with torch.no_grad():
        return net.features[:3](x)


def test_the_function_stays_up_to_the_rounding_of_weights():
    net, x = _net()
    before = _features(net, x)
    steps = make_exact(net, x)
    assert steps.keys() == {"features.conv1", "features.conv2", "features.conv3", "classifier.fc1", "classifier.fc2"}
    torch.testing.assert_close(_features(net, x), before, rtol=5e-3, atol=5e-3)


def test_every_weight_is_a_float16_value_and_a_whole_number_of_steps():
    net, x = _net()
    steps = make_exact(net, x)
    for name, exponent in steps.items():
        weight = net.get_submodule(name).weight
        assert torch.equal(weight.half().float(), weight)
        counts = weight.double() / 2.0**exponent
        assert torch.equal(counts, counts.round())
        assert counts.flatten(1).abs().sum(1).max() <= 2**24
    state = net.state_dict()
    assert all(torch.equal(v.half().float(), v) for v in state.values() if v.is_floating_point())


def test_sums_over_spikes_are_equal_in_any_order():
    net, x = _net()
    make_exact(net, x)
    conv = net.features.conv3
    spikes = (torch.rand(2, 16, 8, 8) < 0.3).float()
    shuffle = torch.randperm(16)
    with torch.no_grad():
        straight = conv(spikes)
        shuffled = nn.functional.conv2d(spikes[:, shuffle], conv.weight[:, shuffle], padding=1)
        exact = nn.functional.conv2d(spikes.double(), conv.weight.double(), padding=1)
    assert torch.equal(straight, shuffled)
    assert torch.equal(straight.double(), exact)


def test_a_folded_norm_only_adds():
    net, x = _net()
    make_exact(net, x)
    norm = net.features.bn2
    y = torch.randn(2, 16, 4, 4)
    for layout in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(norm(y.contiguous(memory_format=layout)), y + norm.bias.view(1, -1, 1, 1))


def test_a_second_time_changes_nothing():
    net, x = _net()
    make_exact(net, x)
    before = copy.deepcopy(net.state_dict())
    make_exact(net, x)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_networks_with_shortcuts():
    net = build("sew_resnet18", width=8).eval()
    assert "layer2.0.downsample.0" in make_exact(net, torch.randn(1, 3, 8, 8))


def test_weights_beyond_float16_are_refused():
    net, x = _net()
    with torch.no_grad():
        net.classifier.fc2.weight.fill_(1e6)
    with pytest.raises(ConfigError, match=r"classifier\.fc2"):
        make_exact(net, x)


def test_the_shipped_network_gives_the_same_spikes_when_optimized():
    model, record = load_checkpoint("spiking_vgg9_cifar10")
    assert len(record["steps_log2"]) == 9
    images = cifar10_subset().take(16)
    x = images.normalize(images.images)
    fast, report = optimize_spiking(
        model, x[:8], target=load_target("cpu"), policy="always", effort=Effort(repeats=1, budget_s=0.1)
    )
    assert {row.kernel for row in report.layers} - {"dense", "native"}
    for part in (x[:8], x[8:]):
        reset_net(model)
        reset_net(fast)
        with torch.no_grad():
            assert torch.equal(fast(part), model(part))
