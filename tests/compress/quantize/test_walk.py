import torch
from torch import fx, nn
from torch.nn import functional as F

from sparseflow.compress.quantize.walk import Walk


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.bn, self.b = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(4, 2, 1)
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        y = F.relu(self.bn(self.a(x)))
        z = self.b(F.max_pool2d(torch.cat([y, y], 1), 2))
        w = self.fc(y.mean((2, 3)).view(y.size(0), -1))
        return z, w, y + 1, y.flatten(1).sum()


def walk_of(net):
    walk = Walk(fx.symbolic_trace(net))
    return walk, next(n for n, role in walk.roles.items() if role == "relu")


def names(walk, nodes):
    return [walk.path(n) for n in nodes]


def test_every_reader_is_found_once_in_order():
    walk, relu = walk_of(Net())
    reach = walk.reach(relu)
    assert names(walk, reach.straight) == ["b"]
    assert names(walk, reach.averaged) == ["fc"]
    assert names(walk, reach.via) == ["cat", "max_pool2d", "mean", "view"]
    assert [walk.label(n) for n in reach.beside] == ["add", "sum"]
    assert not reach.returned


def test_what_the_model_returns_is_seen_through_carriers():
    walk, relu = walk_of(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    reach = walk.reach(relu)
    assert reach.returned
    assert (reach.straight, reach.averaged, reach.via) == ((), (), ())


def test_a_layer_reads_by_its_first_argument_only():
    class Hyper(nn.Module):
        def forward(self, x):
            w = F.relu(x)
            return F.linear(x, w) + F.linear(input=w, weight=x)

    walk, relu = walk_of(Hyper())
    reach = walk.reach(relu)
    assert names(walk, reach.straight) == ["linear_1"]
    assert names(walk, reach.beside) == ["linear"]


def test_the_maker_lies_behind_norms_and_carriers():
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(1, 1, 1))
    walk, relu = walk_of(net)
    assert walk.path(walk.maker(relu)) == "0"
    alone, first = walk_of(nn.Sequential(nn.ReLU()))
    assert alone.maker(first).op == "placeholder"


def test_the_maker_of_joined_values_is_the_join():
    class Joined(nn.Module):
        def forward(self, x):
            return F.relu(torch.cat([x, x]))

    walk, relu = walk_of(Joined())
    assert walk.path(walk.maker(relu)) == "cat"


def test_a_stale_reader_of_what_is_written_in_place():
    class Stale(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.relu = nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.a(x)
            before = y * 2
            z = self.relu(y)
            return before + z + y.size(0), y.sum()

    walk, relu = walk_of(Stale())
    assert walk.label(walk.stale_reader(relu)) == "sum"
    walk, relu = walk_of(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(1, 1, 1)))
    assert walk.stale_reader(relu) is None


def test_labels_of_functions_name_their_module():
    class Block(nn.Module):
        def forward(self, x):
            return F.relu(x) + x

    walk = Walk(fx.symbolic_trace(Block()))
    assert [walk.label(n) for n in walk.roles if n.op == "call_function"] == ["relu", "add"]
    inner = Walk(fx.symbolic_trace(nn.Sequential(nn.Sequential(Block()))))
    assert [inner.label(n) for n in inner.roles if n.op == "call_function"] == ["0.0.relu", "0.0.add"]


def test_layers_below_a_block():
    net = nn.ModuleDict({"a": nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)), "ab": nn.Conv2d(1, 1, 1)})

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net["ab"](self.net["a"](x))

    walk = Walk(fx.symbolic_trace(Two()))
    assert (walk.layers_below("net.a"), walk.layers_below("net"), walk.layers_below("other")) == (2, 3, 0)
