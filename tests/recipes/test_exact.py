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
from sparseflow.recipes.exact import RowGrids, make_exact, on_rows


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


def test_rows_lie_on_grids_of_their_own_and_half_a_step_away_at_most():
    torch.manual_seed(0)
    weight = torch.randn(6, 5, 3, 3) * torch.tensor([1e-3, 0.1, 1.0, 3.0, 50.0, 0.0]).view(-1, 1, 1, 1)
    for bits in (2, 5, 8):
        got = on_rows(weight, bits)
        top = 2 ** (bits - 1) - 1
        for row, want in zip(got.double(), weight.double(), strict=True):
            steps = [2.0**e for e in range(-24, 10) if want.abs().max() <= top * 2.0**e]
            counts = row / steps[0]
            assert torch.equal(counts, counts.round())
            assert counts.abs().max() <= top
            assert (row - want).abs().max() <= steps[0] / 2
        assert torch.equal(on_rows(got, bits), got)


def test_a_largest_weight_on_the_edge_of_its_grid_stays():
    weight = torch.tensor([[127.0, 1.0], [-127.0 * 2**-9, 2.0**-9], [128.0, 2.0], [2.0**-30, 0.0]])
    assert torch.equal(on_rows(weight, 8)[:3], weight[:3])
    assert torch.equal(on_rows(weight, 8)[3], torch.zeros(2))


@pytest.mark.parametrize("bits", [0, 1, 9])
def test_bits_out_of_range(bits):
    with pytest.raises(ConfigError, match="bits"):
        on_rows(torch.ones(1, 1), bits)


def test_bytes_hold_the_function_and_a_second_time_changes_nothing():
    net, x = _net()
    before = _features(net, x)
    steps = make_exact(net, x, bits=8)
    torch.testing.assert_close(_features(net, x), before, rtol=0.1, atol=0.1)
    state = copy.deepcopy(net.state_dict())
    for name in steps:
        weight = net.get_submodule(name).weight
        assert torch.equal(on_rows(weight, 8), weight)
        assert torch.equal(weight.bfloat16().float(), weight)
    make_exact(net, x, bits=8)
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    make_exact(net, x)
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())


def test_sums_of_counts_are_exact_too():
    torch.manual_seed(0)
    net = build("sew_resnet18", width=8).eval()
    make_exact(net, torch.randn(2, 3, 16, 16), bits=8)
    conv, norm = net.layer1[1].conv1, net.layer1[1].bn1
    counts = torch.randint(0, 4, (2, 8, 8, 8)).float()
    with torch.no_grad():
        straight = norm(conv(counts))
        exact = nn.functional.conv2d(counts.double(), conv.weight.double(), padding=1)
        exact = exact + norm.bias.double().view(1, -1, 1, 1)
    assert torch.equal(straight.double(), exact)


def test_counts_widen_the_step():
    torch.manual_seed(0)

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1, bias=False)
            self.fc = nn.Conv2d(1, 1, 1, bias=False)

        def forward(self, x):
            return self.fc(self.conv(x).round().abs())

    results = []
    for value in (1.0, 3.0):
        net = Counts().eval()
        with torch.no_grad():
            net.conv.weight.fill_(value)
            net.fc.weight.fill_(0.75)
        results.append(make_exact(net, torch.ones(1, 1, 2, 2))["fc"])
    assert results == [-24, -22]


def test_grids_in_training_are_those_of_the_end():
    net, x = _net()
    grids = RowGrids(net, x, 8)
    full = copy.deepcopy(net.state_dict())
    grids.push()
    pushed = copy.deepcopy(net)
    grids.pop()
    assert all(torch.equal(full[k], v) for k, v in net.state_dict().items())
    steps = make_exact(pushed, x, bits=8)
    want = copy.deepcopy(net)
    make_exact(want, x, bits=8)
    for name in steps:
        assert torch.equal(pushed.get_submodule(name).weight, want.get_submodule(name).weight)


def test_gradients_pass_straight_through():
    net, x = _net()
    grids = RowGrids(net, x, 4)
    before = net.features.conv2.weight.detach().clone()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    grids.push()
    assert not torch.equal(net.features.conv2.weight, before)
    net(x).square().sum().backward()
    grids.pop()
    optimizer.step()
    want = before - 0.1 * net.features.conv2.weight.grad
    torch.testing.assert_close(net.features.conv2.weight.detach(), want)


def test_a_channel_that_its_norm_switched_off_keeps_finite_weights():
    net, x = _net()
    with torch.no_grad():
        net.features.bn1.weight[0] = 0.0
    grids = RowGrids(net, x, 8)
    grids.push()
    assert all(torch.isfinite(p).all() for p in net.parameters())
    grids.pop()
    make_exact(net, x, bits=8)
    assert not net.features.conv1.weight[0].any()


def test_the_shipped_network_of_bytes_is_exact_already():
    model, record = load_checkpoint("sew_resnet18_cifar10")
    before = copy.deepcopy(model.state_dict())
    images = cifar10_subset().take(2)
    steps = make_exact(model, images.normalize(images.images), bits=8)
    assert steps == record["steps_log2"]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
