"""Errors are errors, rivals learn from the same layers, and the bench asks for every figure."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sparseflow.errors import ConfigError, DataError
from sparseflow.hardware import load_target
from sparseflow.hardware.proxy import FIGURES, Fitted, LayerHwProxy, LayerProxyModel, tabulate
from sparseflow.recipes.codesign import proxy_bench
from sparseflow.recipes.codesign.fit import split
from sparseflow.recipes.codesign.measured_layers import SPACES, sampled
from sparseflow.recipes.codesign.measurements import Measured, Network, append, read

H200 = load_target("h200")
LAYERS = sampled(SPACES["gpu"], 150)


def _proxy():
    """A proxy that was told all features and learned nothing."""
    torch.manual_seed(0)
    models = {}
    for figure in FIGURES:
        models[figure] = LayerProxyModel(figure, members=2, hidden=8)
        models[figure].look_at(tabulate(LAYERS, H200).features, (100.0, 700.0))
        models[figure].weights[-1].data.zero_()
    return LayerHwProxy(Fitted(models=models, target=H200, tdp_w=700.0))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Measurements that the proxy predicts exactly, and one network of them."""
    proxy = _proxy()
    found = proxy.predict_layers_batch(LAYERS)
    path = tmp_path / "layers_h200.jsonl"
    for i, layer in enumerate(LAYERS):
        figures = {name: float(value[i]) for name, value in found.items()}
        append(path, Measured(layer=layer, iqr_ms=0.0, **figures))
    lat_ms = proxy.predict_segment(LAYERS[:9])["lat_ms"]
    append(path, Network(name="net", layers=LAYERS[:9], lat_ms=1.5 * lat_ms, mem_mb=1.0))
    monkeypatch.setattr(proxy_bench.LayerHwProxy, "load", lambda _: proxy)
    return str(tmp_path / "layers_{}.jsonl")


def test_errors_count_what_lies_within_ten_per_cent():
    found = proxy_bench.errors(np.array([1.1, 2.0, 2.0]), np.array([1.0, 2.0, 4.0]))
    assert found["mape"] == pytest.approx(0.2)
    assert found["within_10"] == pytest.approx(2 / 3)
    assert found["spearman"] == pytest.approx(np.sqrt(0.75))
    assert proxy_bench.errors(np.ones(3), np.array([1.0, 2.0, 4.0]))["spearman"] == 0.0


def test_every_figure_of_the_list_is_checked(world):
    body = proxy_bench.bench(quick=True, devices=["h200"], data=world)
    checks = {c["name"]: c for c in body["checks"]}
    assert checks["h200: latency of unseen layers, mean error"]["value"] == pytest.approx(0, abs=1e-4)
    assert checks["h200: memory of unseen layers, mean error"]["target"] == "<= 0.05"
    assert checks["h200: power of unseen layers, mean error"]["ok"]
    assert checks["h200: latency of unseen layers, rank correlation"]["value"] > 0.99
    assert checks["h200: gradients to shares of the right sign"]["ok"]
    assert not checks["h200: layers measured"]["ok"]
    assert checks["h200: net, off in latency"]["value"] == pytest.approx(1 / 3, rel=1e-3)
    assert not body["ok"]
    assert {r["method"] for r in body["rows"]} == {"proxy", "roofline", "roofline, one factor fitted"}
    assert body["networks"][0]["network"] == "net"


def test_trees_learn_from_the_layers_that_the_proxy_learned_from(world):
    pytest.importorskip("lightgbm")
    trained, _, test = split(read([Path(world.format("h200"))])[1])
    found = proxy_bench.lightgbm_errors(_proxy(), trained, test, "mem_mb")
    assert found["mape"] < 0.05


def test_a_proxy_that_falls_with_what_is_kept_is_found_out():
    proxy = _proxy()
    assert proxy_bench.gradient_signs(proxy, LAYERS, 40) == 1.0
    upside_down = proxy.predict_layers_batch
    proxy.predict_layers_batch = lambda layers: {k: 1 / v for k, v in upside_down(layers).items()}
    assert proxy_bench.gradient_signs(proxy, LAYERS, 40) == 0.0


def test_what_is_not_there_is_refused(world):
    with pytest.raises(ConfigError, match="tpu"):
        proxy_bench.bench(devices=["tpu"], data=world)
    with pytest.raises(DataError, match="codesign measure"):
        proxy_bench.bench(devices=["cpu"], data=world)
