"""PT2E graphs against the reference: codes but for roundings at a half, and what back ends make of them."""

import random
import sys
from collections import Counter

import pytest
import torch

from sparseflow.compress.quantize import calibrate, prepare_qat, to_integer, to_program
from sparseflow.errors import UnsupportedError
from sparseflow.export.pt2e import export_pt2e, run_pt2e, to_pt2e
from sparseflow.nn import models
from sparseflow.ops.int8_net import reference
from sparseflow.ops.triseg import tables
from tests.export.test_c_source import every_step
from tests.ops.int8_net.test_cpp import images, layer_program
from tests.ops.int8_net.test_program import small
from tests.tolerances import assert_near

pytest.importorskip("torchao")


def test_every_step_computes_the_reference(tmp_path):
    program, x = every_step(), torch.randn(40, 3, 8, 6, generator=torch.Generator().manual_seed(5))
    path = export_pt2e(program, tmp_path / "deep" / "net.pt2")
    assert_near(run_pt2e(path, x), reference.run(program, x), "pt2e")
    notes = {"note": ""}
    torch.export.load(str(path), extra_files=notes)
    assert notes == {"note": "a */ b"}


@pytest.mark.parametrize("seed", range(4))
def test_layers_of_all_kinds(tmp_path, seed):
    program = layer_program(random.Random(seed))
    x = images(program, 7, seed)
    assert torch.equal(run_pt2e(export_pt2e(program, tmp_path / "net.pt2"), x), reference.run(program, x))


def test_any_number_of_images(tmp_path):
    program = small()
    path = export_pt2e(program, tmp_path / "net.pt2")
    for count in (1, 5):
        x = torch.randn(count, *program.input, generator=torch.Generator().manual_seed(count))
        assert_near(run_pt2e(path, x), reference.run(program, x), "pt2e")


def test_a_back_end_makes_an_integer_layer_of_each():
    lowering = pytest.importorskip("torchao.quantization.pt2e.lowering")
    torch.manual_seed(0)
    x = torch.randn(8, 3, 32, 32)
    qat = prepare_qat(models.build("lenet5").eval(), x)
    calibrate(qat, [x])
    net = to_integer(qat)
    points = list(net.points)[1:]
    chosen = {point: tables(torch.tensor([[7, 14, 21, 28, 35]]), "pass") for point in points}
    graph = to_pt2e(to_program(net, chosen)).module()
    told = Counter(str(node.target) for node in graph.graph.nodes)
    assert told["quantized_decomposed.dequantize_per_channel.default"] == 5
    assert told["aten.index.Tensor"] == len(points)
    lowered = lowering.lower_pt2e_quantized_to_x86(graph, (x,))
    made = Counter(str(node.target) for node in lowered.graph.nodes)
    assert made["onednn.qconv_pointwise.default"] == 5
    assert torch.equal(lowered(x).argmax(1), net(x, tables=chosen).argmax(1))


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torchao.quantization.pt2e", None)
    for call in (lambda: to_pt2e(small()), lambda: run_pt2e(tmp_path / "net.pt2", torch.zeros(1, 3, 8, 6))):
        with pytest.raises(UnsupportedError, match="sparseflow\\[pt2e\\]"):
            call()
