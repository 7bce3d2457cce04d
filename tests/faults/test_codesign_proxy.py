"""What earlier proxies of hardware got wrong.

Operations of attention held 4·L·C² for one frame's tokens, without the square and what is kept (fault 8). Weights that
were missing were made up at random, ms was predicted from MB and MB from ms, a network of unknown name crashed, and mJ
over ms, a thousandfold off, went by the name of W (fault 9).
"""

import pytest
import torch

from sparseflow.errors import DataError
from sparseflow.hardware import load_target
from sparseflow.hardware.proxy import FEATURES, FIGURES, Fitted, LayerHwProxy, LayerProxyModel, LayerSpec, tabulate

H200 = load_target("h200")


def _attn(**more):
    return LayerSpec(**{"name": "a", "kind": "attn", "tokens": 8 * 196, "channels": 768, "heads": 12, **more})


def _proxy():
    models = {}
    for figure in FIGURES:
        models[figure] = LayerProxyModel(figure, members=2, hidden=8)
        models[figure].look_at(tabulate([_attn(), _attn(tokens=49)], H200).features, (60.0, 700.0))
    return LayerHwProxy(Fitted(models=models, target=H200, tdp_w=700.0))


def test_attention_grows_with_the_square_of_all_tokens_of_a_clip():
    assert _attn().flops == 8 * 1568 * 768**2 + 4 * 1568**2 * 768
    assert _attn(tokens=2 * 1568).flops > 2 * _attn().flops


@pytest.mark.parametrize("share", ["keep_token", "keep_head", "keep_block"])
def test_shares_reach_the_predicted_latency(share):
    keep = torch.tensor(0.5, requires_grad=True)
    found = _proxy().predict_layer(_attn(**{share: keep}))["lat_ms"]
    (slope,) = torch.autograd.grad(found, keep)
    assert slope != 0


def test_missing_weights_are_an_error_and_never_random():
    with pytest.raises(DataError, match="codesign measure"):
        LayerHwProxy.load("nothing-of-this-name")


def test_no_figure_is_predicted_from_another():
    assert not any(word in name for name in FEATURES for word in ("lat", "mem_", "power"))


def test_an_unknown_architecture_is_predicted_not_looked_up():
    found = _proxy().predict_layer(_attn(name="of a network that nobody measured", channels=960, heads=15))
    assert all(value > 0 for value in found.values())


def test_power_is_watts_and_energy_is_power_by_time():
    found = _proxy().predict_segment([_attn(), _attn(tokens=49)])
    assert 60 <= found["power_w"] <= 700
    energy_mj = found["power_w"] * found["lat_ms"]
    assert energy_mj / 1e3 == pytest.approx(found["power_w"] * (found["lat_ms"] / 1e3))
