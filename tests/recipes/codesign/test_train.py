"""Training fits, keeps figures from falling with what is kept, and calibrates what it does not know."""

import pytest
import torch

from sparseflow.errors import DataError
from sparseflow.hardware import load_target
from sparseflow.hardware.proxy import LayerProxyModel, LayerSpec, tabulate
from sparseflow.recipes.codesign import _train
from sparseflow.recipes.codesign.measured_layers import SPACES, sampled

H200 = load_target("h200")
LAYERS = sampled(SPACES["gpu"], 200)


def test_rows_are_rows():
    table = tabulate(LAYERS[:5], H200)
    assert torch.equal(_train.rows(table, torch.tensor([3, 0])).roofline_ms, table.roofline_ms[[3, 0]])


def test_probes_are_pairs_that_differ_in_one_share():
    less, more, ratio = _train.probes(LAYERS, H200, 50, 0)
    assert torch.all(ratio > 0)
    assert torch.all(more.roofline_ms >= less.roofline_ms)
    with pytest.raises(DataError, match="share"):
        _train.probes([s for s in LAYERS if s.kind == "other"], H200, 5, 0)


def test_training_learns_a_utilisation_and_a_slope():
    table = tabulate(LAYERS, H200)
    wanted = table.roofline_ms / 0.4 + 0.01
    torch.manual_seed(0)
    model = LayerProxyModel("lat_ms", members=2, hidden=32)
    model.look_at(table.features)
    pairs = _train.probes(LAYERS, H200, 200, 0)
    error = _train.train(model, table, wanted, pairs, steps=300, batch=64, lr=5e-3, decay=0.0, seed=0)
    assert error < 0.1
    with torch.no_grad():
        rise = model(pairs[1]) > model(pairs[0])
    assert rise.float().mean() > 0.97


def test_calibration_covers_nine_in_ten():
    table = tabulate(LAYERS, H200)
    torch.manual_seed(0)
    model = LayerProxyModel("lat_ms", members=3, hidden=8)
    model.look_at(table.features)
    wanted = model(table).detach() * torch.exp(0.3 * torch.randn(len(LAYERS)))
    _train.calibrate(model, table, wanted)
    off = (wanted / model(table)).log().abs()
    inside = (off <= model.spread(table).log()).float().mean()
    assert 0.88 <= inside <= 0.95


def test_an_impossible_pair_would_be_seen():
    layer = LayerSpec(name="a", kind="attn", tokens=64, channels=64, heads=4)
    less, _, _ = _train.probes([layer], H200, 4, 0)
    assert torch.all(less.roofline_ms < tabulate([layer], H200).roofline_ms[0])
