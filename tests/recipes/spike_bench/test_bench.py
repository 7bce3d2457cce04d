import json

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.recipes.spike_bench import SpikeBenchConfig, bench
from sparseflow.recipes.spike_bench import bench as package_bench
from sparseflow.recipes.spike_bench.bench import _layer_checks
from sparseflow.recipes.spike_bench.layers import FORMS, LayerRow
from sparseflow.recipes.spike_bench.network import NetworkRow


def row(spikes, density, ratio, form="packed"):
    return LayerRow(
        layer="l", form=form, spikes=spikes, threads=1, shape=(1,), density=density, dense="eager nchw",
        kernel="event", dense_s=ratio, kernel_s=1.0, ratio=ratio, candidates_s={},
    )  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_held_to_the_same_bounds_by_the_geomean_of_its_own_rows(form):
    rows = [row("trained", 0.05, 2.0, form), row("trained", 0.01, 8.0, form)]
    rows += [row("i.i.d.", d, r, form) for d, r in ((0.2, 0.5), (0.0499, 5.0), (0.01, 9.0))]
    rows += [row("trained", 0.05, 100.0, other) for other in FORMS if other != form]
    checks = _layer_checks(rows, threads=1)
    assert len(checks) == 4 * len(FORMS)
    own = [c for c in checks if f", {form} form," in c.name]
    assert [c.value for c in own] == pytest.approx([4.0, 0.5, 5.0, 9.0])
    assert [c.bound for c in own] == [3.0, 1.0, 4.0, 8.0]
    assert [c.ok for c in own] == [True, False, True, True]


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
