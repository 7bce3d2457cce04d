"""The layers and scans of a pack against the arithmetic: what goes in gives what the golden vectors say."""

import numpy as np
import pytest

from sparseflow.errors import DataError
from sparseflow.export.fpga.network import layers, scans
from sparseflow.export.fpga.pack import Pack
from sparseflow.export.fpga.vectors import expected_scan
from sparseflow.ops.fixed_point import linear, requant
from tests.export.fpga.networks import small


def pack(**without):
    spec, arrays, golden = small()
    golden = {name: codes for name, codes in golden.items() if name != without.get("golden")}
    return Pack(spec=spec, arrays=arrays, golden=golden, files={})


def test_every_layer_gives_its_golden_outputs():
    run = list(layers(pack()))
    assert [layer.name for layer in run][:2] == ["patch_embedding.value_embedding", "encoder.layers.0.mixer.in_proj"]
    assert len(run) == 2 + 2 * (4 + 6)
    for layer in run:
        matrix = layer.matrix
        assert np.array_equal(
            requant(linear(layer.inputs, matrix.weight, matrix.bias), matrix.factor, matrix.bits), layer.outputs
        )


def test_every_scan_gives_its_golden_outputs():
    run = list(scans(pack()))
    assert len(run) == 2
    for scan in run:
        assert np.array_equal(expected_scan(*scan.operands, scan.tables), scan.outputs)


def test_a_missing_vector_is_named():
    with pytest.raises(DataError, match=r"encoder\.layers\.1\.norm"):
        list(layers(pack(golden="encoder.layers.1.norm")))
    with pytest.raises(DataError, match=r"encoder\.layers\.0\.mixer\.scan\.y"):
        list(scans(pack(golden="encoder.layers.0.mixer.scan.y")))
