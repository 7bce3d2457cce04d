import json

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.recipes.spike_bench import SpikeBenchConfig, bench
from sparseflow.recipes.spike_bench import bench as package_bench
from sparseflow.recipes.spike_bench.bench import CHECKED, _layer_checks
from sparseflow.recipes.spike_bench.layers import LayerRow
from sparseflow.recipes.spike_bench.network import NetworkRow


def row(spikes, density, ratio):
    return LayerRow(
        layer="l", form=CHECKED, spikes=spikes, threads=1, shape=(1,), density=density, dense="eager nchw",
        kernel="event", dense_s=ratio, kernel_s=1.0, ratio=ratio, candidates_s={},
    )  # fmt: skip


def test_checks_take_the_geomean_of_their_own_rows_only():
    rows = [row("trained", 0.05, 2.0), row("trained", 0.01, 8.0)]
    rows += [row("i.i.d.", d, r) for d, r in ((0.2, 0.5), (0.0499, 5.0), (0.01, 9.0))]
    checks = _layer_checks(rows, threads=1)
    assert [c.value for c in checks] == pytest.approx([4.0, 0.5, 5.0, 9.0])
    assert [c.ok for c in checks] == [True, False, True, True]


def test_no_rows_never_hold():
    assert not any(check.ok for check in _layer_checks([], threads=1))


@pytest.mark.parametrize(
    "wrong",
    [{"target": "h200"}, {"suites": ("speed",)}, {"suites": ()}, {"threads": (0,)}, {"batches": ()}, {"repeats": 0}],
)
def test_bad_settings(wrong):
    with pytest.raises(ConfigError):
        SpikeBenchConfig(**wrong)


def test_the_body_holds_checks_rows_and_machine(monkeypatch, tmp_path):
    found = NetworkRow(
        model="net", threads=1, batch=1, dense="eager nchw", dense_s=3.0, optimized_s=1.0, ratio=3.0,
        candidates_s={}, kernels={}, top1_equal=1.0, failures={},
    )  # fmt: skip
    seen = []
    module = __import__("sys").modules[package_bench.__module__]
    monkeypatch.setattr(module, "_networks", lambda *_: seen.append(torch.get_num_threads()) or [found])
    before = torch.get_num_threads()
    out = tmp_path / "new" / "bench.json"
    body = bench(SpikeBenchConfig(threads=(1,), suites=("network",), out=str(out)), progress=False)
    assert seen == [1]
    assert torch.get_num_threads() == before
    assert body["ok"]
    assert body["environment"]
    assert json.loads(out.read_text())["checks"] == body["checks"]
