import pytest
import torch
from torch import nn

from sparseflow import data
from sparseflow.nn import models
from sparseflow.nn.layers import AdaptiveAvgPool2d, Conv2d, Repeat
from sparseflow.nn.neurons import IFNode, SpikingNode
from sparseflow.recipes.densities import Rated, evaluate, fed_layers, resized


class Tiny(nn.Module):
    """A head reads the sum of two equal spikes at every pixel whose red value is above 0.5."""

    def __init__(self):
        super().__init__()
        self.conv = Conv2d(3, 1, 1, bias=False)
        self.repeat = Repeat(2)
        self.sn = IFNode(step_mode="m", v_threshold=0.5)
        self.next = Conv2d(1, 1, 1, bias=False)
        self.avgpool = AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(1, 10)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1))
            self.next.weight.fill_(2.0)

    def forward(self, x):
        s = self.sn(self.repeat(self.conv(x)))
        return self.fc(self.avgpool(self.next(s + s)).flatten(2)).mean(0)


def images():
    return data.cifar10_subset().take(20)


def test_density_is_the_share_of_inputs_other_than_zero():
    net, some = Tiny(), images()
    accuracy, density = evaluate(net, some, batch_size=7)
    red = some.normalize(some.images)[:, 0]
    # An IF neuron fires at once above the threshold, and at the second step above half of it.
    share = ((red >= 0.5).float().mean() + (2 * red >= 0.5).float().mean()) / 2
    assert density["next"] == pytest.approx(float(share))
    # Behind the pool come averages: the pool's input stands for them.
    assert density.keys() == {"next", "avgpool"}
    assert density["avgpool"] == density["next"]
    assert 0 <= accuracy <= 1
    assert not net.training
    assert net.sn.v == 0.0


def test_accuracy_counts_every_image():
    net, some = Tiny(), images()
    with torch.no_grad():
        net.fc.weight.zero_()
        net.fc.bias.copy_(torch.arange(10.0))
    assert evaluate(net, some, batch_size=6)[0] == pytest.approx((some.labels == 9).float().mean().item())


def test_images_are_resized_bilinearly():
    x = torch.randn(2, 3, 8, 8)
    assert resized(x, None) is x
    assert resized(x, 8) is x
    want = nn.functional.interpolate(x, size=(20, 20), mode="bilinear", align_corners=False)
    assert torch.equal(resized(x, 20), want)
    net = Tiny()
    seen = []
    net.conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
    evaluate(net, images(), side=40)
    assert seen == [40]


@pytest.mark.parametrize("fused", [False, True])
def test_rates_stand_in_the_order_of_the_layers(fused):
    torch.manual_seed(0)
    net = models.build("sew_resnet18", width=4)
    rated = Rated(net, fused=fused)
    seen = {}
    for name, layer in fed_layers(net):
        layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0].mean()}))
    x = torch.randn(2, 3, 16, 16)
    logits, rates = rated(x)
    assert logits.shape == (2, 10)
    assert rates.tolist() == pytest.approx([float(seen[name]) for name, _ in fed_layers(net)])
    assert all(m.v == 0.0 and not m.fused for m in net.modules() if isinstance(m, SpikingNode))


def test_fused_neurons_change_nothing():
    torch.manual_seed(0)
    net = models.build("sew_resnet18", width=4)
    x = torch.randn(2, 3, 16, 16)
    grads = []
    for fused in (False, True):
        net.zero_grad()
        logits, rates = Rated(net, fused=fused)(x)
        (logits.square().sum() + rates.sum()).backward()
        grads.append([logits.detach(), *(p.grad.clone() for p in net.parameters())])
    for got, want in zip(*grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-5)
