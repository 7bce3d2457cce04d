"""Programs of integer networks: what they refuse, and their way through bytes."""

import json
from dataclasses import fields

import pytest
import torch
from safetensors.torch import save

from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.int8_net import Program, Step, Value
from sparseflow.ops.int8_net.program import OPS


def small(**changes) -> Program:
    values = (
        Value(name="image", shape=(3, 5, 4), zero=60),
        Value(name="conv", shape=(2, 5, 4)),
        Value(name="logits", shape=(7, 1, 1), real=True),
    )
    g = torch.Generator().manual_seed(0)

    def weight(*shape):
        return torch.randint(-127, 128, shape, generator=g).to(torch.int8)

    table = torch.arange(256).clamp(max=40).to(torch.uint8)
    steps = (
        Step(op="quantize", inputs=(), output=0, ratios=(1 / 0.03,), low=0, high=127),
        Step(
            op="layer", inputs=(0,), output=1, weight=weight(2, 3, 3, 3), bias=torch.tensor([1.5, -3.0]),
            multiplier=torch.tensor([1e-3, 2e-3]), padding=(1, 1), low=0, high=127, table=table,
        ),
        Step(
            op="layer", inputs=(1,), output=2, weight=weight(7, 2, 5, 4), bias=torch.zeros(7),
            multiplier=torch.full((7,), 1e-3), clamp=float("inf"),
        ),
    )  # fmt: skip
    given = {"input": (3, 5, 4), "values": values, "steps": steps, "output": 2, "output_shape": (7,)}
    return Program(**{**given, **changes})


def test_bytes_and_back():
    program = small(metadata={"model": "small", "note": 'quotes " and ü'})
    back = Program.from_bytes(program.to_bytes())
    assert back.metadata == program.metadata
    assert (back.input, back.values, back.output, back.output_shape) == (
        program.input, program.values, program.output, program.output_shape,
    )  # fmt: skip
    for mine, other in zip(program.steps, back.steps, strict=True):
        for f in fields(Step):
            a, b = getattr(mine, f.name), getattr(other, f.name)
            if isinstance(a, torch.Tensor):
                assert a.dtype == b.dtype
                assert torch.equal(a, b)
            elif f.name == "ratios":
                assert b == tuple(float(torch.tensor(r)) for r in a)
            elif f.name in OPS[mine.op] or f.name in ("op", "inputs", "output"):
                assert a == b, f.name
    assert program.to_bytes() == back.to_bytes()


def test_what_is_counted():
    assert small().multiplications == 2 * 5 * 4 * 3 * 9 + 7 * 2 * 5 * 4
    assert small().find("conv") == 1
    with pytest.raises(ConfigError, match="no value 'convolution'; it has image, conv, logits"):
        small().find("convolution")


def test_bad_fields_are_named():
    with pytest.raises(ConfigError, match=r"Value\.shape of 'x' is \(0, 1, 1\)"):
        Value(name="x", shape=(0, 1, 1))
    with pytest.raises(ConfigError, match=r"Value\.zero of 'x' is 256"):
        Value(name="x", shape=(1, 1, 1), zero=256)
    with pytest.raises(ConfigError, match=r"Step\.op is 'softmax'"):
        Step(op="softmax", inputs=(0,), output=1)
    with pytest.raises(ConfigError, match=r"codes 9\.\.3"):
        Step(op="sum", inputs=(0,), output=1, low=9, high=3)


@pytest.mark.parametrize(
    "data",
    [b"", b"12345678", b"\xff" * 40, save({"a": torch.ones(2)}), save({"a": torch.ones(2)}, {"int8_net": "{"})],
)
def test_what_is_no_plan_is_refused(data):
    with pytest.raises(DataError, match="no plan of an integer network"):
        Program.from_bytes(data)


def test_other_versions_and_fields_are_refused():
    plain = {"version": 2, "values": [], "steps": [], "input": [1, 1, 1], "output": 0, "output_shape": [1]}
    with pytest.raises(DataError, match="version 2; this sparseflow reads 1"):
        Program.from_bytes(save({"a": torch.ones(1)}, {"int8_net": json.dumps(plain)}))
    plain |= {"version": 1, "steps": [{"op": "sum", "inputs": [], "output": 0, "magic": 1}]}
    with pytest.raises(DataError, match="unknown field 'magic'"):
        Program.from_bytes(save({"a": torch.ones(1)}, {"int8_net": json.dumps(plain)}))
