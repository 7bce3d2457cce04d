import json

import pytest

from sparseflow.errors import ConfigError
from sparseflow.ir import Report
from sparseflow.report import Accuracy, Run, Variant


def test_the_baseline_is_the_fastest_dense_variant(run):
    assert run.best_dense.name == "torch, compiled, channels_last, frozen"
    assert run.best_optimized.name == "sparseflow"
    assert run.speedup == pytest.approx(0.152 / 0.044)


def test_without_variants_the_speedup_is_the_optimisation_s_own():
    report = Report(model="m", target="cpu", dense_s=3.0, optimized_s=1.5)
    run = Run(title="m", report=report)
    assert run.best_dense is None
    assert run.speedup == 2.0


def test_a_variant_that_could_not_run_is_never_the_best():
    variants = (Variant(name="a", note="no compiler"), Variant(name="b", latency_s=1.0))
    run = Run(title="m", report=Report(model="m", target="cpu"), variants=variants)
    assert run.best_dense.name == "b"
    assert run.speedup is None


def test_to_dict_is_plain_json_without_pictures(run):
    body = json.loads(json.dumps(run.to_dict(), allow_nan=False))
    assert body["schema"] == 1
    assert body["speedup"] == pytest.approx(run.speedup)
    assert body["accuracy"]["changed"] == 0
    assert [x["name"] for x in body["report"]["layers"]] == [x.name for x in run.report.layers]
    assert "png" not in body["samples"][0]
    assert "png" not in body["stages"][0]


def test_accuracy_is_a_share_even_of_nothing():
    assert Accuracy(data_set="x", images=4, dense_correct=3, optimized_correct=2, changed=1).dense == 0.75
    assert Accuracy(data_set="x", images=0, dense_correct=0, optimized_correct=0, changed=0).optimized == 0.0


def test_a_variant_refuses_nonsense():
    with pytest.raises(ConfigError, match="kind 'best'"):
        Variant(name="x", kind="best")
    with pytest.raises(ConfigError, match="positive"):
        Variant(name="x", latency_s=0.0)
