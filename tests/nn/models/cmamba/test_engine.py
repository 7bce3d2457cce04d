from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sparseflow.compress.quantize import ForecastBits, calibrate_forecaster
from sparseflow.errors import DataError, UnsupportedError
from sparseflow.nn.models.cmamba import CMamba, IntRef, lower
from sparseflow.nn.models.cmamba.engine import Engine, isas
from tests.nn.models.cmamba.small import SMALL, arrays, readings

pytestmark = pytest.mark.skipif(not isas(), reason="the compiled kernels are missing")


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("bits", [ForecastBits(), ForecastBits(weights=4), ForecastBits(weights=6, activations=6)])
def test_every_forecast_is_the_references(isa: str, bits: ForecastBits) -> None:
    x = torch.cat([readings(21), 100 * readings(3, seed=4), torch.zeros(1, 3, 32)])
    want = IntRef(SMALL, arrays(bits)).codes(x)
    engine = Engine(SMALL, arrays(bits))
    for threads in (1, 2, 3):
        assert (engine.codes(x, threads=threads, isa=isa) == want).all()
        assert (engine.codes(x[:1], threads=threads, isa=isa) == want[:1]).all()


ODD = {
    "odd": {"d_model": 20, "d_state": 5, "dt_rank": 3, "num_channels": 5, "forecast_len": 7, "patch_len": 7},
    "one": {"d_model": 16, "n_layer": 1, "num_channels": 1, "reduction_ratio": 2, "d_state": 1, "forecast_len": 1},
    "wide": {"d_model": 72, "expand": 2, "d_state": 16, "dt_rank": 32, "num_channels": 9, "reduction_ratio": 2},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_sizes(name: str) -> None:
    args = replace(SMALL, **ODD[name])
    torch.manual_seed(1)
    model = CMamba(args).eval()
    x = torch.randn(3, args.num_channels, args.seq_len)
    values: Any = {k: p.detach().numpy() for k, p in model.named_parameters()}
    made = lower(args, values, calibrate_forecaster(model, [x]))
    want = IntRef(args, made).codes(x)
    for isa in isas():
        assert (Engine(args, made).codes(x, threads=2, isa=isa) == want).all()


def test_what_saturates_does_so_alike() -> None:
    """Largest steps, decays, weights and codes: every clamp of the network is reached."""
    made = {k: v.copy() for k, v in arrays().items()}
    for k, v in made.items():
        if k.endswith((".weight", "scan.decay", "scan.delta")):
            made[k] = np.full_like(v, np.iinfo(v.dtype).max)
        if k.endswith(".shift") and "gate" not in k:
            made[k] = np.maximum(v.astype(np.int64) - 3, 1).astype(v.dtype)
    x = 50 * readings(4)
    want = IntRef(SMALL, made).codes(x)
    for isa in isas():
        assert (Engine(SMALL, made).codes(x, isa=isa) == want).all()


def test_readings_in_any_form() -> None:
    engine, x = Engine(SMALL, arrays()), (readings(2) * 2**16).round()
    want = engine.codes(x / 2**16)
    assert (engine.codes((x / 2**16).numpy()) == want).all()
    assert (engine.codes(x.long().numpy()) == want).all()
    assert (engine.codes(np.asfortranarray(x.long().numpy())) == want).all()
    assert (engine(x / 2**16) * 2**16 == want).all()
    assert engine.codes(x[:0]).shape == (0, 3, 8)
    huge = torch.full((1, 3, 32), 1e6)
    assert (engine.codes(huge) == IntRef(SMALL, arrays()).codes(huge)).all()


def test_wrong_use_is_refused() -> None:
    engine = Engine(SMALL, arrays())
    with pytest.raises(DataError, match="expected"):
        engine.codes(torch.zeros(1, 2, 32))
    with pytest.raises(DataError):
        engine.codes(torch.full((1, 3, 32), float("nan")))
    with pytest.raises(UnsupportedError, match="sse9"):
        engine.codes(readings(1), isa="sse9")


def test_wrong_integers_are_named() -> None:
    name = "encoder.layers.1.mixer.scan.decay"
    less = {k: v for k, v in arrays().items() if k != name}
    with pytest.raises(DataError, match="decay"):
        Engine(SMALL, less)
    with pytest.raises(DataError, match="decay"):
        Engine(SMALL, {**arrays(), name: arrays()[name][:, :-1]})
