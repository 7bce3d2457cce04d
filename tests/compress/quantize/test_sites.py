import copy
import functools

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from sparseflow.compress.quantize import Site, Sites, find_sites
from sparseflow.errors import CaptureError, ConfigError
from sparseflow.nn import models
from sparseflow.trace import capture, leaf_trace
from tests.torchvision_shim import install


def stages(*counts):
    return tuple(f"conv{stage}_{i}" for stage, count in enumerate(counts, 1) for i in range(1, count + 1))


SEED = {
    "alexnet": ("conv1", "conv2", "conv3", "conv4", "conv5", "fc1", "fc2"),
    "lenet5": ("conv1", "conv2", "fc1", "fc2"),
    "mobilenetv1": ("conv1", *(f"{kind}{i}" for i in range(1, 14) for kind in ("dw", "pw"))),
    "nin": ("conv1", "cccp1", "cccp2", "conv2", "cccp3", "cccp4", "conv3", "cccp5", "cccp6"),
    "vgg16": stages(2, 2, 3, 3, 3),
    "vgg19": stages(2, 2, 4, 4, 4),
}
COUNTS = {"alexnet": 7, "lenet5": 4, "mobilenetv1": 27, "nin": 9, "vgg16": 13, "vgg19": 16}
IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@functools.cache
def captured(name, **arguments):
    torch.manual_seed(0)
    return capture(models.build(name, width=0.125, **arguments).eval(), IMAGE)


def edited(graph_module, site, change):
    """Return a copy of a graph in which a site's readers see `change(values)`."""
    found = copy.deepcopy(graph_module)
    node = next(n for n in found.graph.nodes if n.name == site.node)
    with found.graph.inserting_after(node):
        changed = found.graph.call_function(change, (node,))
    node.replace_all_uses_with(changed, delete_user_cb=lambda user: user is not changed)
    found.recompile()
    return found


def levels(x):
    """A monotone map with 0 at 0, as every map of codes is."""
    return torch.where(x > 0.3, torch.where(x > 0.6, x, 0.45), 0.0)


@pytest.mark.parametrize("name", sorted(SEED))
def test_sites_are_the_seeds(name):
    found = find_sites(captured(name))
    assert found.names == SEED[name]
    assert len(found) == COUNTS[name]
    assert found.refusals == ()
    assert not any(site.beside for site in found)


def test_taps_have_the_seeds_names():
    alexnet = find_sites(captured("alexnet"))
    assert [site.tap for site in alexnet] == [
        *(f"block_output.conv{i}" for i in range(1, 6)), "classifier.fc1.out", "classifier.fc2.out",
    ]  # fmt: skip
    assert alexnet["classifier.fc1.relu_out"] is alexnet["fc1"] is alexnet["classifier.fc1.out"]
    assert alexnet["features.conv3.relu_out"] is alexnet["conv3"] is alexnet["block_output.conv3"]
    assert find_sites(captured("vgg16"))["block_output.conv1_1"].name == "conv1_1"


def test_a_site_says_where_it_lies():
    alexnet = find_sites(captured("alexnet"))
    assert alexnet["conv5"] == Site(
        name="conv5",
        node="features_conv5_relu",
        layer="features.conv5.conv",
        kind="conv",
        readers=("classifier.fc1.linear",),
        via=("features_pool5", "classifier_flatten", "classifier_drop1"),
    )
    assert (alexnet["fc2"].kind, alexnet["fc2"].readers) == ("linear", ("classifier.fc3",))
    mobilenet = find_sites(captured("mobilenetv1"))
    assert mobilenet["pw13"].averaged
    assert not mobilenet["dw13"].averaged


def test_a_hidden_layer_is_one_more_site():
    assert find_sites(captured("vgg16", hidden=16)).names == (*SEED["vgg16"], "fc1")


def test_residuals():
    found = find_sites(captured("resnet18"))
    blocks = [f"layer{i}.{j}" for i in range(1, 5) for j in range(2)]
    assert found.names == ("conv1", *(f"{b}.{part}" for b in blocks for part in ("conv1", "relu2")))
    assert found.refusals == ()
    assert found["conv1"].beside == ("layer1.0.add",)
    assert found["layer1.0.relu2"].kind == "add"
    assert found["layer1.0.relu2"].readers == ("layer1.1.conv1",)
    assert found["layer1.0.relu2"].beside == ("layer1.1.add",)
    assert found["layer1.1.relu2"].readers == ("layer2.0.downsample.0", "layer2.0.conv1")
    assert found["layer1.1.relu2"].beside == ()
    assert found["layer4.1.relu2"].averaged
    assert found["layer4.1.relu2"].readers == ("fc",)


def test_concatenations():
    found = find_sites(captured("squeezenet"))
    fires = [f"fire{i}.{part}" for i in range(2, 10) for part in ("squeeze", "expand1x1", "expand3x3")]
    assert found.names == ("conv1", *fires)
    assert found["fire2.squeeze"].readers == ("features.fire2.expand1x1.conv", "features.fire2.expand3x3.conv")
    assert found["fire2.expand1x1"].readers == ("features.fire3.squeeze.conv",)
    assert found["fire9.expand3x3"].readers == ("classifier.conv10",)


@pytest.mark.parametrize("name", ["alexnet", "lenet5", "resnet18"])
def test_what_a_site_erases_its_readers_miss(name):
    found = captured(name)
    for site in find_sites(found):
        graph_module = edited(found.graph_module, site, torch.zeros_like)
        seen = {}
        for reader in site.readers:
            module = graph_module.get_submodule(reader)
            module.register_forward_pre_hook(lambda _, args, reader=reader, seen=seen: seen.update({reader: args[0]}))
        graph_module(IMAGE)
        assert set(seen) == set(site.readers)
        assert all(not values.any() for values in seen.values())


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "lenet5"])
def test_a_map_at_the_site_is_the_map_at_its_readers(name):
    found = captured(name)
    sites = find_sites(found)
    for site in (sites.sites[0], sites.sites[1], sites.sites[-3], sites.sites[-1]):
        at_site = edited(found.graph_module, site, levels)
        at_readers = copy.deepcopy(found.graph_module)
        for reader in site.readers:
            at_readers.get_submodule(reader).register_forward_pre_hook(lambda _, args: (levels(args[0]),))
        with torch.no_grad():
            assert torch.equal(at_site(IMAGE), at_readers(IMAGE))


class User(nn.Module):
    """Everything at once: one ReLU for all, functions, a clamp, a sum, a gate, a concatenation, shapes in Python."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()
        self.stem, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.gate = nn.Sequential(nn.Conv2d(8, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(2, 8, 1), nn.Sigmoid())
        self.mix, self.head = nn.Conv2d(8, 4, 1), nn.Linear(4 * 64, 5)

    def forward(self, x):
        x = self.relu(self.norm(self.stem(x)))
        left = F.relu6(self.left(x) + x)
        right = torch.clamp(self.right(x), 0.0, 4.0)
        both = torch.cat([left, right], 1)
        both = both * self.gate(F.adaptive_avg_pool2d(both, 1))
        x = self.relu(self.mix(both))
        x = F.max_pool2d(x, 4)
        return self.head(x.view(x.size(0), -1))


def test_a_users_model():
    torch.manual_seed(0)
    found = capture(User().eval(), IMAGE)
    assert found.how == "fx"
    sites = find_sites(found)
    assert sites.names == ("stem", "relu6", "right", "gate.0", "mix")
    assert sites["stem"].readers == ("left", "right")
    assert sites["stem"].beside == ("add",)
    assert (sites["relu6"].kind, sites["relu6"].layer, sites["relu6"].averaged) == ("add", "", True)
    assert sites["relu6"].beside == ("mul",)
    assert sites["right"].kind == "conv"
    assert sites["mix"].via == ("max_pool2d", "view")
    assert [(r.layer, r.reason) for r in sites.refusals] == [
        ("gate.3", "Sigmoid is no ReLU, whose codes start at an exact 0")
    ]


class _Body(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body
        self.a, self.b, self.fc = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Linear(3, 3)
        self.bn, self.relu = nn.BatchNorm2d(3), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.body(self, x)


def sites_of(body):
    return find_sites(fx.symbolic_trace(_Body(body)))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda m, x: m.b(F.leaky_relu(m.a(x))), "leaky_relu is no ReLU"),
        (lambda m, x: m.b(torch.clamp(m.a(x), -1, 1)), "clamp is no ReLU"),
        (lambda m, x: F.relu(m.a(x)), "the model returns its values"),
        (lambda m, x: F.relu(m.a(x)).mean((2, 3)), "the model returns its values"),
        (lambda m, x: (m.b(y := F.relu(m.a(x))), y), "the model returns its values"),
        (lambda m, x: m.b(m.bn(F.relu(m.a(x)))), "no convolution or linear layer reads it, only bn"),
        (lambda m, x: m.b(F.relu(m.a(x)) + x), "no convolution or linear layer reads it, only add"),
        (lambda m, x: m.b(F.relu(m.a(x)).sum(1, keepdim=True) * x), "only sum"),
        (lambda m, x: (F.relu(m.a(x)), m.b(x))[1], "nothing reads it"),
        (lambda m, x: m.b(m.relu(y := m.a(x)) * 1) + y, "written in place over a tensor that add reads too"),
    ],
)
def test_reasons_for_what_is_no_site(body, reason):
    found = sites_of(body)
    assert len(found) == 0
    assert reason in found.refusals[0].reason
    assert found.refusals[0].what == "site"


def test_a_layer_that_runs_twice_has_two_sites():
    found = sites_of(lambda m, x: m.b(F.relu(m.a(F.relu(m.a(x))))))
    assert found.names == ("a", "a_1")
    assert [site.readers for site in found] == [("a",), ("b",)]
    assert found["a_1"].node == "relu_1"


def test_functional_layers_are_layers():
    w = torch.ones(3, 3, 1, 1)
    found = sites_of(lambda m, x: F.conv2d(F.relu(F.conv2d(x, w)), w))
    assert [(s.name, s.kind, s.readers) for s in found] == [("conv2d", "conv", ("conv2d_1",))]


def test_an_input_may_be_rectified():
    found = sites_of(lambda m, x: m.a(F.relu(x)))
    assert [(s.name, s.kind, s.layer) for s in found] == [("relu", "input", "")]


def test_rooms_stay_where_names_would_be_equal():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.ModuleDict({"a": nn.Conv2d(1, 1, 1), "b": nn.Conv2d(1, 1, 1)})
            self.classifier = nn.ModuleDict({"a": nn.Conv2d(1, 1, 1), "0": nn.Conv2d(1, 1, 1)})

        def forward(self, x):
            x = F.relu(self.features["b"](F.relu(self.features["a"](x))))
            return self.classifier["0"](F.relu(self.classifier["a"](F.relu(self.classifier["0"](x)))))

    found = find_sites(fx.symbolic_trace(Two()))
    assert found.names == ("features.a", "b", "classifier.0", "classifier.a")


def test_torchvisions_resnet_shares_its_activations():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2, self.relu = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)

        def forward(self, x):
            return self.relu(self.conv2(self.relu(self.conv1(x))) + x)

    found = find_sites(capture(nn.Sequential(Block(), Block(), nn.Conv2d(3, 2, 1)), IMAGE))
    assert found.names == ("0.conv1", "0.relu", "1.conv1", "1.relu")
    assert [site.node for site in found] == ["_0_relu", "_0_relu_1", "_1_relu", "_1_relu_1"]


def test_selection_keeps_the_order_of_the_graph():
    found = find_sites(captured("alexnet"))
    assert found.select(["fc1", "block_output.conv2"]).names == ("conv2", "fc1")
    assert len(found.select([])) == 0
    with pytest.raises(ConfigError, match="named twice"):
        found.select(["conv1", "block_output.conv1"])


@pytest.mark.parametrize(
    ("name", "message"),
    [("conv9", "did you mean conv"), ("fc3", "did you mean fc"), ("zzz", "there are conv1, conv2")],
)
def test_unknown_names_get_a_hint(name, message):
    with pytest.raises(ConfigError, match=f"ConvNet has no site '{name}'; {message}"):
        find_sites(captured("alexnet"))[name]


def test_a_refused_name_says_why():
    found = sites_of(lambda m, x: m.b(F.relu(m.a(F.leaky_relu(x)))))
    with pytest.raises(ConfigError, match="leaky_relu is none: leaky_relu is no ReLU"):
        found["leaky_relu"]


def test_a_model_without_activations():
    found = find_sites(fx.symbolic_trace(nn.Linear(2, 2)))
    assert (found.sites, found.refusals) == ((), ())
    with pytest.raises(ConfigError, match="there are none"):
        found["a"]


def test_without_a_traced_graph_there_are_none():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            y = F.relu(self.a(x))
            return self.b(y) if y.sum() >= 0 else y

    with pytest.raises(CaptureError, match=r"Branches cannot be changed: no traced graph.*branches"):
        find_sites(capture(Branches(), torch.randn(2, 2)))


def test_sites_are_plain_values():
    found = find_sites(captured("lenet5"))
    assert isinstance(found, Sites)
    assert [site.name for site in found] == list(found.names)
    assert find_sites(captured("lenet5")) == found


@pytest.mark.parametrize(
    ("name", "activations", "refused"),
    [("resnet50", 49, 0), ("mobilenet_v2", 35, 0), ("densenet121", 121, 1), ("squeezenet1_1", 26, 1)],
)
def test_torchvisions_networks(name, activations, refused):
    install()
    zoo = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        model = getattr(zoo, name)().eval()
    found = find_sites(leaf_trace(model))
    assert (len(found) + len(found.refusals), len(found.refusals)) == (activations, refused)
    assert len(set(found.names)) == len(found)


def test_a_block_with_a_functional_relu_gives_its_name():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return F.relu(self.conv(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = Block(), nn.Conv2d(3, 1, 1)

        def forward(self, x):
            return self.head(self.stem(x))

    assert find_sites(fx.symbolic_trace(Net())).names == ("stem",)
