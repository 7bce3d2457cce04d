"""Integer networks as programs: the same outputs to the bit, and refusals that name what has no step."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.compress.quantize.integer import to_integer
from sparseflow.compress.quantize.program import to_program
from sparseflow.compress.quantize.qat import prepare_qat
from sparseflow.compress.quantize.spec import QuantConfig
from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.nn.models import build
from sparseflow.ops.int8_net import Engine, Program, cpp, reference
from sparseflow.ops.triseg import tables
from tests.quantized_nets import NETS, net
from tests.tolerances import assert_near

compiled = pytest.mark.skipif(cpp.ABSENT is not None, reason=str(cpp.ABSENT))
ZOO = ("alexnet", "vgg16", "lenet5", "nin", "mobilenetv1", "squeezenet", "resnet18")


def integer_of(model: nn.Module, x: Tensor, **settings):
    return to_integer(prepare_qat(model, x, settings.pop("config", None)), **settings)


def seed_tables(integer, codes=(3, 8, 15, 20, 40)) -> dict[str, Tensor]:
    return {name: tables(torch.tensor([codes])) for name, point in integer.points.items() if point.rectified}


@pytest.mark.parametrize("bias", ["float32", "int32"])
@pytest.mark.parametrize("name", sorted(NETS))
def test_every_shape_of_graph(name, bias):
    model, x = net(name, batch=3)
    integer = integer_of(model, x, bias=bias)
    for chosen in (None, seed_tables(integer)):
        program = to_program(integer, chosen)
        want, got = integer(x, tables=chosen), reference.run(program, x)
        codes = reference.values(program, x)
        if chosen is None:
            for point, there in integer.codes(x).items():
                mine = codes[program.find(point)]
                assert torch.equal(mine.reshape(there.shape), there.double()), point
        if name == "fire":
            assert_near(got, want, "int8_net")
        else:
            assert torch.equal(got, want)
        if cpp.ABSENT is None:
            assert torch.equal(Engine(program)(x), got)


@compiled
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo(name):
    torch.manual_seed(1)
    model, x = build(name, **({} if name == "lenet5" else {"width": 0.25})).eval(), torch.randn(4, 3, 32, 32)
    integer = integer_of(model, x)
    chosen = seed_tables(integer)
    program = to_program(integer, chosen)
    want, got = integer(x, tables=chosen), Engine(Program.from_bytes(program.to_bytes()))(x)
    if name == "squeezenet":
        assert_near(got, want, "int8_net")
    else:
        assert torch.equal(got, want)


@compiled
def test_logits_as_codes_and_vectors_as_inputs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5)).eval()
    x = torch.randn(9, 12)
    integer = integer_of(model, x, config=QuantConfig(quantize_logits=True, activation_max=255), largest_code=255)
    program = to_program(integer)
    assert program.input == (12, 1, 1)
    assert torch.equal(Engine(program)(x), integer(x))


def test_metadata_is_kept_and_tables_are_checked():
    model, x = net("chain")
    integer = integer_of(model, x)
    assert to_program(integer, metadata={"model": "chain"}).metadata == {"model": "chain"}
    with pytest.raises(ConfigError, match="no point 'relu9'"):
        to_program(integer, {"relu9": torch.zeros(256, dtype=torch.uint8)})
    name = next(n for n, p in integer.points.items() if p.rectified)
    with pytest.raises(ConfigError, match=r"expected uint8 \[256\]"):
        to_program(integer, {name: torch.zeros(2, 256, dtype=torch.uint8)})


class Odd(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        mode = "reflect" if kind == "reflect" else "zeros"
        self.conv = nn.Conv2d(4, 8, 3, padding=1, padding_mode=mode)
        self.last = nn.Conv2d(2 if kind == "shuffle" else 8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        if self.kind == "shuffle":
            x = F.pixel_shuffle(x, 2)
        if self.kind == "pad":
            x = F.pad(x, (1, 0, 0, 0))
        y = self.last(x)
        return torch.softmax(y, 1) if self.kind == "softmax" else y


@pytest.mark.parametrize(
    ("kind", "message"),
    [("reflect", "pads by 'reflect'"), ("shuffle", "pixel_shuffle has no step"), ("pad", "pad has no step"),
     ("softmax", "softmax has no step")],
)  # fmt: skip
def test_what_has_no_step_is_named(kind, message):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    integer = integer_of(Odd(kind).eval(), x)
    with pytest.raises(UnsupportedError, match=message):
        to_program(integer)
