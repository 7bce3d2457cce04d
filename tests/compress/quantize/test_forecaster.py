from typing import Any

import numpy as np
import pytest
import torch

from sparseflow.compress.quantize.forecaster import ForecastBits, best_scale, calibrate_forecaster, learned_spec
from sparseflow.errors import ConfigError
from sparseflow.ir.qspec import QSpec
from sparseflow.nn.models.cmamba import CMamba, build_model
from sparseflow.nn.models.cmamba.fake import bind_scales
from sparseflow.nn.models.cmamba.int_ref import IntRef
from sparseflow.nn.models.cmamba.lowering import lower, shifts_of
from tests.nn.models.cmamba.small import SMALL, arrays, network, readings, spec, weights


def error(bits: ForecastBits | None) -> float:
    """Root mean squared difference to the float forecast, in shares of its deviation."""
    x = readings(32, seed=7)
    with torch.no_grad():
        want = network()(x).numpy()
    got = IntRef(SMALL, arrays(bits))(x)
    return float(np.sqrt(np.mean((got - want) ** 2)) / want.std())


def test_more_bits_are_nearer() -> None:
    eight, six, four = (error(ForecastBits(weights=w, activations=a)) for w, a in ((8, 8), (6, 6), (4, 4)))
    assert eight < 0.01
    assert 1.5 * eight < six < four


def test_four_bit_weights_keep_activations_of_eight() -> None:
    found = spec(ForecastBits(weights=4))
    assert found["head.linear.weight"].limit == 7
    assert found["encoder.act"].limit == 127
    assert np.abs(arrays(ForecastBits(weights=4))["head.linear.weight"]).max() == 7
    assert error(ForecastBits(weights=4)) < error(ForecastBits(weights=3))


def test_every_value_seen_has_a_code() -> None:
    """With the rule "largest" nothing saturates on the windows of the calibration."""
    taps = IntRef(SMALL, arrays()).taps(readings(16))
    for name, codes in taps.items():
        if ".scan." not in name and name in spec().tensors and not name.endswith("act.in"):
            assert np.abs(codes).max() <= spec()[name].limit
    assert np.abs(taps["encoder.layers.0.residual"]).max() < 32767 * 0.75
    assert np.abs(taps["encoder.layers.0.mixer.scan.h"]).max() < 32767


def test_a_specification_names_every_tensor_that_is_made() -> None:
    found = spec()
    parts = {"mixer.in_proj": ("x", "z"), "mixer.x_proj": ("delta", "b", "c", "d"), "GDDMLP.pool": ("mean", "max")}
    sums = ("fc_sc.2", "fc_sf.2", "standardize.mean", "standardize.std")
    for name in IntRef(SMALL, arrays()).taps(readings(1)):
        last = next((v for k, v in parts.items() if name.endswith(k)), None)
        wanted = [f"{name}.{p}" for p in last] if last else [name]
        if not name.endswith(sums):
            assert all(w in found.tensors for w in wanted), wanted
    for name in weights():
        if name.endswith(("weight", "bias")) and "norm" not in name:
            assert name in found.tensors


def test_the_specification_is_the_same_from_json() -> None:
    back = QSpec.from_json(spec().to_json())
    assert back == spec()
    again = lower(SMALL, weights(), back)  # type: ignore[arg-type]
    assert all((again[k] == v).all() for k, v in arrays().items())


def test_scales_of_the_scan_are_tied() -> None:
    for i in range(SMALL.n_layer):
        t, j = shifts_of(spec(), f"encoder.layers.{i}.")
        assert 0 <= t <= 8
        assert 0 <= j <= 8


def test_a_network_of_zeros_has_a_specification() -> None:
    model = CMamba(SMALL).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    found = calibrate_forecaster(model, [readings(2)])
    zeros: Any = {k: v.detach().numpy() for k, v in model.named_parameters()}
    x = readings(2)
    got = IntRef(SMALL, lower(SMALL, zeros, found))(x)
    with torch.no_grad():
        np.testing.assert_allclose(got, model(x).numpy(), atol=1e-4)


def test_a_wide_bias_over_narrow_weights_keeps_32_bits() -> None:
    model = CMamba(SMALL).eval()
    with torch.no_grad():
        model.head.linear.weight.mul_(1e-9)
        model.head.linear.bias.fill_(5.0)
    found = calibrate_forecaster(model, [readings(2)])
    values: Any = {k: v.detach().numpy() for k, v in model.named_parameters()}
    x = readings(2)
    with torch.no_grad():
        np.testing.assert_allclose(IntRef(SMALL, lower(SMALL, values, found))(x), model(x).numpy(), atol=2e-3)


def test_best_scale_clips_what_is_rare() -> None:
    values = np.random.default_rng(0).normal(size=4000)
    values[0] = 40.0
    assert best_scale(values, 7, 40 / 7) < 0.5 * 40 / 7
    even = np.linspace(-1, 1, 1001)
    assert best_scale(even, 127, 1 / 127) == pytest.approx(1 / 127, rel=0.02)
    assert best_scale(np.zeros(0), 7, 0.0) == 0.0


@pytest.mark.parametrize("wrong", [{"weights": 1}, {"activations": 9}, {"rule": "luck"}, {"headroom": 0.5}])
def test_wrong_settings_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        ForecastBits(**wrong)


def test_learned_scales_become_integers() -> None:
    """After a few steps of training, the integers are those that the training computed on."""
    model = build_model(SMALL, "fakeq").train()
    model.load_state_dict(network().state_dict())
    bind_scales(model, spec(ForecastBits(weights=4)))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (model(readings(8)) - readings(8)[..., :8]).abs().mean().backward()
        optimizer.step()
    found = learned_spec(model)
    before = spec(ForecastBits(weights=4))
    assert found["encoder.layers.0.norm"].step != before["encoder.layers.0.norm"].step
    assert found["encoder.layers.0.residual"] == before["encoder.layers.0.residual"]
    values: Any = {k: v.detach().numpy() for k, v in model.named_parameters() if not k.startswith("scales.")}
    taps = IntRef(SMALL, lower(SMALL, values, found), batch=8).taps(readings(8))
    exact = build_model(SMALL, "fakeq").double().eval()
    exact.load_state_dict({k: torch.from_numpy(v).double() for k, v in values.items()})
    seen: dict[str, Any] = {}
    bind_scales(exact, found, seen.__setitem__)
    with torch.no_grad():
        exact(readings(8))
    for name, codes in seen.items():
        assert float(np.abs(codes.numpy() - taps[name]).max()) <= 1, name


def test_a_network_without_scales_has_learned_none() -> None:
    with pytest.raises(ConfigError, match="no scales"):
        learned_spec(network())
