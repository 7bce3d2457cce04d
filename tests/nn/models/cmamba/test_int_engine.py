"""The engine in integers against IntRef, bit for bit, on every instruction set."""

import dataclasses

import numpy as np
import pytest
import torch

from sparseflow.compress.quantize.forecaster import ForecastBits, calibrate_forecaster
from sparseflow.errors import ConfigError, DataError, UnsupportedError
from sparseflow.nn.models.cmamba import CMamba, ModelArgs, int_engine
from sparseflow.nn.models.cmamba.int_engine import IntEngine
from sparseflow.nn.models.cmamba.int_ref import IntRef
from sparseflow.nn.models.cmamba.lowering import Arrays, lower
from tests.nn.models.cmamba.small import SMALL, arrays, readings

pytestmark = pytest.mark.skipif(int_engine.ABSENT is not None, reason=str(int_engine.ABSENT))
ISAS = int_engine.isas() or ["scalar"]
ODD = (
    {"d_state": 16}, {"num_channels": 1, "reduction_ratio": 2}, {"num_channels": 17, "reduction_ratio": 1},
    {"d_model": 7, "expand": 3, "dt_rank": 1}, {"stride": 3, "patch_len": 5}, {"forecast_len": 71, "d_state": 16},
    {"d_model": 33, "d_state": 1}, {"seq_len": 33, "patch_len": 1, "stride": 1}, {"n_layer": 1, "d_state": 5},
)  # fmt: skip


def lowered(args: ModelArgs, seed: int) -> tuple[Arrays, torch.Tensor]:
    torch.manual_seed(seed)
    model = CMamba(args).eval()
    with torch.no_grad():
        for layer in model.encoder.layers:
            layer.norm.weight.normal_(1.0, 0.3)
            layer.mixer.x_proj.weight.mul_(2.0)
    x = (0.4 * torch.randn(24, args.num_channels, args.seq_len)).cumsum(-1)
    spec = calibrate_forecaster(model, [x[:16]])
    return lower(args, {k: p.detach().numpy() for k, p in model.named_parameters()}, spec), x


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", [None, ForecastBits(weights=4)])
def test_bits_of_the_reference(isa: str, bits: ForecastBits | None) -> None:
    x = torch.cat((readings(9), readings(3) * 300, readings(2) * 1e-3 + 200, torch.zeros(1, 3, 32)))
    engine, ref = IntEngine(SMALL, arrays(bits), isa=isa), IntRef(SMALL, arrays(bits))
    assert (engine.codes(x) == ref.codes(x)).all()
    assert (engine(x) == ref(x)).all()
    assert (engine.codes(x.numpy()) == ref.codes(x)).all()
    whole = np.rint(x.double().numpy() * 2**16).clip(-(2**24) + 1, 2**24 - 1).astype(np.int64)
    assert (engine.codes(whole) == ref.codes(x)).all()


@pytest.mark.parametrize("isa", ISAS)
def test_odd_sizes(isa: str) -> None:
    for seed, odd in enumerate(ODD):
        args = dataclasses.replace(SMALL, **odd)
        numbers, x = lowered(args, seed)
        want = IntRef(args, numbers).codes(x)
        engine = IntEngine(args, numbers, isa=isa)
        for batch in (1, 3, 8):
            assert (engine.codes(x[16 : 16 + batch]) == want[16 : 16 + batch]).all(), odd


@pytest.mark.parametrize("isa", ISAS)
def test_extreme_numbers(isa: str) -> None:
    """Weights, tables and shifts at their ends: what saturates here saturates there."""
    args = dataclasses.replace(SMALL, d_state=16)
    numbers, x = lowered(args, 5)
    generator = np.random.default_rng(0)
    for share in (0.02, 0.3):
        wild = {}
        for name, array in numbers.items():
            new = array.copy()
            if array.dtype == np.int8 and array.ndim and "norm" not in name:
                hit = generator.random(array.shape) < share
                new[hit] = generator.choice([-127, 127], int(hit.sum()))
            wild[name] = new
        assert (IntEngine(args, wild, isa=isa).codes(x) == IntRef(args, wild).codes(x)).all()


@pytest.mark.parametrize("isa", ISAS)
def test_neither_threads_nor_batches_change_anything(isa: str) -> None:
    args = ModelArgs.paper(7, n_layer=2)
    numbers, x = lowered(args, 2)
    engine, threads = IntEngine(args, numbers, isa=isa), torch.get_num_threads()
    want = IntRef(args, numbers).codes(x)
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            assert (engine.codes(x) == want).all()
            assert (engine.codes(x[:1]) == want[:1]).all()
    finally:
        torch.set_num_threads(threads)


def test_what_is_wrong_is_refused() -> None:
    good = arrays()
    engine = IntEngine(SMALL, good)
    assert engine.codes(readings(2)[:0]).shape == (0, 3, 8)
    for shape in ((3, 32), (1, 32, 3), (1, 2, 32)):
        with pytest.raises(DataError, match="expected \\[B, 3, 32\\]"):
            engine(np.zeros(shape))
    with pytest.raises(DataError, match="NaN"):
        engine(np.full((1, 3, 32), np.nan))
    with pytest.raises(DataError, match="below 2"):
        engine(np.full((1, 3, 32), 2**24))
    with pytest.raises(ConfigError, match="mmx"):
        IntEngine(SMALL, good, isa="mmx")
    with pytest.raises(UnsupportedError, match="official"):
        IntEngine(ModelArgs(variant="seed"), good)
    for name in good:
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            IntEngine(SMALL, {k: v for k, v in good.items() if k != name})
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            IntEngine(SMALL, {**good, name: np.concatenate((good[name].ravel(), good[name].ravel()[:1]))})
    for name, value in (("encoder.layers.0.mixer.scan.t", 9), ("head.linear.shift", 63), ("head.linear.shift", 0)):
        with pytest.raises(DataError, match="shift"):
            IntEngine(SMALL, {**good, name: np.full_like(good[name], value)})
