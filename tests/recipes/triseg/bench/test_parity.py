"""Kernels agree on a small network, and one that does not is counted."""

from pathlib import Path

import pytest
import torch

from sparseflow.ops.triseg import reference, tables
from sparseflow.recipes.triseg.bench import parity
from sparseflow.recipes.triseg.bench.parity import fbgemm_codes, parity_checks, random_params
from sparseflow.recipes.triseg.problem import Problem, pose
from sparseflow.recipes.triseg.search_config import SearchConfig
from tests.triseg_teachers import save_teacher, splits

FBGEMM = pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines, reason="needs torch built with fbgemm"
)


@pytest.fixture(scope="module")
def problem(tmp_path_factory) -> Problem:
    out: Path = tmp_path_factory.mktemp("teacher")
    save_teacher(out, steps=3)
    return pose(SearchConfig(model="lenet5", out=str(out), device="cpu", calib_batches=1), splits=splits())


@FBGEMM
def test_all_kernels_agree(problem) -> None:
    checks, more = parity_checks(problem, splits().val, maps=12, exported=3)
    assert [check.name for check in checks if not check.ok] == []
    assert [row["layer"] for row in more["fbgemm"]] == [
        layer.path for layer in problem.teacher.net.layers.values() if layer.target is not None
    ]
    assert all(row["codes"] > 0 for row in more["fbgemm"])


@FBGEMM
def test_a_layer_with_other_weights_is_seen(problem) -> None:
    layer = next(iter(problem.teacher.net.layers.values()))
    codes = torch.randint(0, 128, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)).float()
    want = layer(codes)
    assert (fbgemm_codes(layer, codes) - want).abs().max() <= 1
    before = layer.weight.clone()
    try:
        layer.weight.copy_(-before)
        assert (fbgemm_codes(layer, codes) - want).abs().max() > 1
    finally:
        layer.weight.copy_(before)


def test_a_wrong_table_is_counted(monkeypatch) -> None:
    def wrong(params, mode):
        made = tables(params, mode)
        made[0, 200] = made[0, 200] ^ 1
        return made

    monkeypatch.setattr(parity, "tables", wrong)
    checks = parity._function(5, torch.device("cpu"))
    assert [check.ok for check in checks] == [False] * len(checks)


def test_random_functions_are_in_order() -> None:
    params = random_params(200, seed=3)
    for t1, v1, t2, v2, tmax in params.tolist():
        assert 0 <= t1 <= t2 <= tmax <= 255
        assert 0 <= v1 <= v2 <= tmax
        values = [reference.tri_segment(q, (t1, v1, t2, v2, tmax)) for q in range(256)]
        assert values == sorted(values)
