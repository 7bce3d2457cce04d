"""ONNX files against the reference, bit for bit, by ONNX Runtime."""

import random

import pytest
import torch

from sparseflow.errors import UnsupportedError
from sparseflow.export import export_onnx
from sparseflow.export.onnx import run_onnx, to_onnx
from sparseflow.ops.int8_net import reference
from tests.export.test_c_source import every_step
from tests.ops.int8_net.test_cpp import images, layer_program
from tests.ops.int8_net.test_program import small

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def test_every_step_is_bit_exact(tmp_path):
    program, x = every_step(), torch.randn(40, 3, 8, 6, generator=torch.Generator().manual_seed(5))
    path = export_onnx(program, tmp_path / "deep" / "net.onnx")
    assert torch.equal(run_onnx(path, x), reference.run(program, x))
    read = onnx.load(path)
    assert {p.key: p.value for p in read.metadata_props} == {"note": "a */ b"}
    assert {node.op_type for node in read.graph.node} >= {"ConvInteger", "Gather", "MaxPool", "Concat"}


@pytest.mark.parametrize("seed", range(6))
def test_layers_of_all_kinds(tmp_path, seed):
    program = layer_program(random.Random(seed))
    x = images(program, 7, seed)
    assert torch.equal(run_onnx(export_onnx(program, tmp_path / "net.onnx"), x), reference.run(program, x))


def test_dequantised_codes_and_one_image(tmp_path):
    program = small()
    x = torch.randn(1, *program.input, generator=torch.Generator().manual_seed(1))
    assert torch.equal(run_onnx(export_onnx(program, tmp_path / "net.onnx"), x), reference.run(program, x))


def test_the_same_program_gives_the_same_bytes(tmp_path):
    one, two = (export_onnx(every_step(), tmp_path / name).read_bytes() for name in ("a.onnx", "b.onnx"))
    assert one == two


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UnsupportedError, match="pip install onnxruntime"):
        run_onnx(tmp_path / "net.onnx", torch.zeros(1, 3, 8, 6))
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UnsupportedError, match="pip install onnx"):
        to_onnx(small())
