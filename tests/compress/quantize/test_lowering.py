"""Every kind of node between layers: carried on codes, summed, averaged, left real at the end, or refused."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.compress.quantize.fake_quant import FakeQuantize
from sparseflow.compress.quantize.integer import to_integer
from sparseflow.compress.quantize.lowering import edit_at, lower, rows
from sparseflow.compress.quantize.qat import prepare_qat
from sparseflow.compress.quantize.spec import QuantConfig
from sparseflow.errors import UnsupportedError


class Between(nn.Module):
    """A convolution, something, and a layer that reads it."""

    def __init__(self, what: Callable[[Tensor], Tensor], features: int, relu: bool = True) -> None:
        super().__init__()
        self.conv, self.fc, self.relu = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(features, 5), relu
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.fc(torch.flatten(self.what(F.relu(x) if self.relu else x), 1))


CARRIED: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "max_pool": (lambda x: F.max_pool2d(x, 2), 36),
    "padded max_pool": (lambda x: F.max_pool2d(x, 3, 2, 1), 36),
    "ceil max_pool": (lambda x: F.max_pool2d(x, 4, 4, ceil_mode=True), 16),
    "adaptive max_pool": (lambda x: F.adaptive_max_pool2d(x, 2), 16),
    "pad": (lambda x: F.pad(x, (1, 0, 2, 0)), 224),
    "slice": (lambda x: x[:, :, ::2, 1:], 60),
    "permute": (lambda x: x.permute(0, 2, 3, 1), 144),
    "transpose": (lambda x: x.transpose(1, -1), 144),
    "chunk": (lambda x: torch.cat((x.chunk(2, 1)[1], x.chunk(2, 1)[0]), 1), 144),
    "split": (lambda x: x.split(3, dim=1)[0], 108),
    "reshape": (lambda x: x.reshape(x.shape[0], 2, -1), 144),
    "unsqueeze": (lambda x: x.unsqueeze(1).contiguous(), 144),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), 144),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), 576),
    "dropout": (lambda x: F.dropout(x, 0.5, False), 144),
}
ARITHMETIC: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "add": (lambda x: x.add(x), 144),
    "relu behind a pool": (lambda x: F.relu(F.max_pool2d(x, 2)), 36),
    "relu6": (lambda x: F.relu6(x), 144),
    "cat": (lambda x: torch.cat((x, x), dim=-1), 288),
    "cat relu": (lambda x: torch.relu(torch.cat((x, x), 1)), 288),
    "mean": (lambda x: x.mean(dim=(-1, -2), keepdim=True), 4),
    "mean of rows": (lambda x: torch.mean(x, 3), 24),
    "avg_pool": (lambda x: F.avg_pool2d(x, 2, stride=2, padding=1, count_include_pad=False), 64),
    "adaptive avg_pool": (lambda x: F.adaptive_avg_pool2d(x, (1, 1)), 4),
    "adaptive windows": (lambda x: F.adaptive_avg_pool2d(x, (3, 2)), 24),
    "mean relu": (lambda x: F.relu(x.mean(3)), 24),
}


@pytest.mark.parametrize("relu", [True, False], ids=["rectified", "signed"])
@pytest.mark.parametrize("name", [*CARRIED, *ARITHMETIC])
def test_between_layers(name: str, relu: bool) -> None:
    what, features = (CARRIED | ARITHMETIC)[name]
    model, x = Between(what, features, relu).eval(), torch.randn(6, 2, 6, 6)
    qat = prepare_qat(model, x)
    made = to_integer(qat)
    # A mean of codes may lie halfway between two others, and float32 fall to either side.
    assert (made(x) - qat(x)).abs().max() < (1e-2 if "mean" in name or "avg" in name or "windows" in name else 1e-4)
    assert made.reference()(x).equal(made(x))
    points = len(made.points) - 2
    fuses = name == "relu6" and not relu
    assert points == (0 if fuses or (name in CARRIED and name != "chunk") else 1)
    assert made(x[:2]).equal(made(x)[:2])
    twice = torch.arange(256, dtype=torch.uint8).repeat(2, 1)
    assert made(x, tables={list(made.points)[1]: twice}).equal(torch.cat([made(x)] * 2))


class Tail(nn.Module):
    """Real numbers behind the last layer, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.bn = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 3, 1), nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.conv(x))
        y = F.adaptive_avg_pool2d(torch.sigmoid(self.last(h)), 1).view(x.size(0), -1)
        return F.log_softmax(self.drop(self.bn(y)), 1), h


@pytest.mark.parametrize("logits", [False, True])
def test_behind_the_last_layer(logits: bool) -> None:
    model, x = Tail().eval(), torch.randn(4, 2, 5, 5)
    qat = prepare_qat(model, x, QuantConfig(quantize_logits=logits))
    made = to_integer(qat)
    for got, want in zip(made(x), qat(x), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    assert ("last" in made.points) == logits
    qat.train()
    assert not any(m.training for m in made.modules())


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "sigmoid": (torch.sigmoid, 144),
    "mul": (lambda x: x * x, 144),
    "scalar": (lambda x: x + 1.0, 144),
    "weighted": (lambda x: torch.add(x, x, alpha=2), 144),
    "stack": (lambda x: torch.stack((x, x), 1), 288),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), 576),
    "flip": (lambda x: x.flip(3), 144),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_refuses_by_name(name: str) -> None:
    what, features = REFUSED[name]
    model, x = Between(what, features).eval(), torch.randn(3, 2, 6, 6)
    with pytest.raises(UnsupportedError, match="has no integer form"):
        to_integer(prepare_qat(model, x))


def test_refuses_a_lone_normalisation() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).eval()
    with pytest.raises(UnsupportedError, match="BatchNorm2d in front of a layer"):
        to_integer(prepare_qat(model, torch.randn(3, 2, 4, 4)))


def test_needs_the_shapes_of_the_sample() -> None:
    qat = prepare_qat(Between(lambda x: x.mean((2, 3)), 4).eval(), torch.randn(3, 2, 6, 6))
    for node in qat.graph.nodes:
        node.meta.pop("shape", None)
    del qat.sample_shapes
    with pytest.raises(UnsupportedError, match="shape is not known"):
        to_integer(qat)


def test_a_parameter_is_quantised_once() -> None:
    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 2, 1)
            self.shift = nn.Parameter(torch.randn(1, 4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x) + self.shift)

    x = torch.randn(3, 2, 4, 4)
    qat = prepare_qat(Biased().eval(), x)
    torch.testing.assert_close(to_integer(qat)(x), qat(x), rtol=1e-4, atol=1e-4)


def test_the_graph_and_its_points() -> None:
    qat = prepare_qat(Between(lambda x: F.max_pool2d(x, 2), 36).eval(), torch.randn(3, 2, 6, 6))
    graph, points = lower(copy.deepcopy(qat), bias="float32", largest_code=127)
    assert [(p.name, p.layer, p.rectified, p.shape) for p in points.values()] == [
        ("x", "", False, (3, 2, 6, 6)),
        ("relu", "conv", True, (3, 4, 6, 6)),
    ]
    assert not any(isinstance(m, FakeQuantize) for m in graph.modules())
    codes = torch.ones(2, 3)
    assert edit_at(codes, None, "a") is codes
    assert edit_at(codes, {"a": torch.zeros_like}, "a").sum() == 0
    assert rows(codes, (3, 1)).shape == (2, 3, 1)
