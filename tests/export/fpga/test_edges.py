"""What is special in vectors is counted."""

import numpy as np

from sparseflow.export.fpga.drive import Matrix
from sparseflow.export.fpga.edges import edges_of_layers, edges_of_scans
from sparseflow.export.fpga.network import Scan
from sparseflow.export.fpga.vectors import expected_scan, operands, random_scans, scan_tables
from sparseflow.ops.fixed_point import factor


def test_of_linear_layers():
    layer = Matrix(weight=np.array([[1, 0], [0, 1]]), bias=np.array([0, 2**31 - 200]), factor=factor([0.5, 2.0**-24]))
    vectors = [(0, np.array([127, 0])), (0, np.array([3, -127])), (0, np.array([-4, 1]))]
    # Sums 127, 3, -4 times 0.5: 63.5 and 1.5 are halves; the second output is about 128 and saturates.
    assert edges_of_layers([layer, layer], vectors) == {
        "inputs of ±127": 2, "sums below 0": 1, "sums beyond 2^30": 3, "halves": 2, "saturated results": 3,
    }  # fmt: skip


def test_of_one_step_of_a_scan():
    g = np.random.default_rng(0)
    tables = scan_tables(g, 2, t=1, j=0)
    one = np.ones((1, 1, 1), np.int64)
    given = (3 * one, 127 * one, np.ones((1, 1, 2), np.int64), 0 * np.ones((1, 1, 2), np.int64), 0 * one, 127 * one)
    found = edges_of_scans([Scan(name="", tables=tables, operands=given, outputs=expected_scan(*given, tables))])
    # Δ is 65535, so w = 98302.5 is a half and saturates; h = 32767 / 2^15 is neither; y = 0.
    assert found["largest Δ"] == found["halves of w"] == found["saturated w"] == 1
    assert found["inputs of ±127"] == found["halves of h"] == found["saturated h"] == found["saturated y"] == 0


def test_the_state_before_a_step_counts():
    g = np.random.default_rng(1)
    tables = scan_tables(g, 4)
    given = operands(g, 3, 5, 6, 4)
    found = edges_of_scans([Scan(name="", tables=tables, operands=given, outputs=expected_scan(*given, tables))])
    x, p, b = given[:3]
    halves, h = 0, np.zeros((3, 6, 4), np.int64)
    for k in range(5):
        w = np.clip(np.rint(tables.delta[p[:, k] + 128] * x[:, k] / 2.0**tables.t), -32767, 32767).astype(np.int64)
        v = np.moveaxis(tables.decay[:, p[:, k] + 128], 0, -1) * h + w[..., None] * (b[:, k, None] * 2**tables.j)
        halves += int(((v / 2.0**15) % 1 == 0.5).sum())
        h = np.clip(np.rint(v / 2.0**15), -32767, 32767).astype(np.int64)
    assert found["halves of h"] == halves


def test_random_scans_meet_all():
    assert min(edges_of_scans(random_scans(np.random.default_rng(2), 1200)).values()) > 0
