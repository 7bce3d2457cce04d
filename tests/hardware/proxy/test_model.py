"""A model keeps to its bounds whatever its weights are."""

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.hardware import load_target
from sparseflow.hardware.proxy import FIGURES, LayerProxyModel, LayerSpec, tabulate

H200 = load_target("h200")


def _table(**more):
    sizes = [{"tokens": t, "channels": c, "heads": 4} for t in (16, 196, 1024) for c in (64, 256)]
    return tabulate([LayerSpec(name="a", kind="attn", **s, **more) for s in sizes], H200)


def _model(figure, bounds=(50.0, 700.0)):
    torch.manual_seed(0)
    model = LayerProxyModel(figure, members=3, hidden=16)
    model.look_at(_table().features, bounds)
    return model


def test_latency_is_never_below_the_bound():
    assert torch.all(_model("lat_ms")(_table()) > _table().roofline_ms)


def test_power_stays_between_its_bounds_and_memory_above_weights():
    power = _model("power_w")(_table())
    assert torch.all((power > 50) & (power < 700))
    table = _table()
    assert torch.all(_model("mem_mb")(table) > table.weight_mb + table.ends_mb)


def test_a_chance_of_running_scales_time_and_memory_but_not_power():
    whole, half = _table(), _table()._replace(keep=torch.full((6,), 0.5))
    for figure in FIGURES:
        model = _model(figure)
        share = (model(half) / model(whole)).detach()
        assert share == pytest.approx(torch.full((6,), 1.0 if figure == "power_w" else 0.5))


def test_beyond_what_was_seen_only_the_bound_moves():
    model = _model("lat_ms")
    tables = [
        tabulate([LayerSpec(name="a", kind="attn", tokens=4096, channels=c, heads=4)], H200) for c in (4096, 8192)
    ]
    features = [torch.maximum(t.features, model.high.double()) for t in tables]
    times = [model(t._replace(features=f)) / t.roofline_ms for t, f in zip(tables, features, strict=True)]
    assert times[0].item() == pytest.approx(times[1].item(), rel=1e-5)


def test_the_spread_is_a_factor_and_widens():
    model = _model("lat_ms")
    narrow = model.spread(_table())
    assert torch.all(narrow > 1)
    model.widen.fill_(3.0)
    assert torch.allclose(model.spread(_table()), narrow**3)


def test_an_unknown_figure_is_refused():
    with pytest.raises(ConfigError, match="area"):
        LayerProxyModel("area")


def test_the_literal_form_reads_thirteen_features_and_no_bound():
    torch.manual_seed(0)
    model = LayerProxyModel("lat_ms", members=2, hidden=16, form="spec")
    model.look_at(_table().features)
    table = _table()
    moved = table.features.clone()
    moved[:, 13:] += 1.0
    assert torch.equal(model(table), model(table._replace(features=moved, roofline_ms=2 * table.roofline_ms)))
    with pytest.raises(ConfigError, match="literal"):
        LayerProxyModel("lat_ms", form="literal")
