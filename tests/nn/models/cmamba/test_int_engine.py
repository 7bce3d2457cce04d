"""The engine in integers against IntRef, bit for bit, on every instruction set."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sparseflow.compress.quantize.forecaster import ForecastBits, calibrate_forecaster
from sparseflow.errors import ConfigError, DataError, UnsupportedError
from sparseflow.nn.models.cmamba import CMamba, ModelArgs, int_engine
from sparseflow.nn.models.cmamba.int_engine import IntEngine
from sparseflow.nn.models.cmamba.int_ref import IntRef
from sparseflow.nn.models.cmamba.lowering import Arrays, lower
from sparseflow.ops import fixed_point
from sparseflow.ops._library import native
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


def place(array: NDArray[np.generic]) -> int:
    return int(array.ctypes.data)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("inputs", "outputs", "rows"), [(1, 1, 1), (3, 65, 2), (16, 128, 13), (130, 7, 7), (0, 3, 2)])
def test_a_linear_layer_by_itself(isa: str, inputs: int, outputs: int, rows: int) -> None:
    rng = np.random.default_rng(inputs)
    weight = rng.choice([-127, -1, 0, 1, 127], (outputs, inputs)).astype(np.int8)
    bias = rng.integers(-(2**31) + 2**22, 2**31 - 2**22, outputs).astype(np.int32)
    by = (rng.integers(2**30, 2**31, outputs) * rng.choice([-1, 1], outputs)).astype(np.int32)
    shift = rng.choice([1, 2, 31, 40, 52, 61, 62], outputs).astype(np.uint8)
    x = rng.choice([-127, -1, 0, 5, 127], (rows, inputs))
    sums = fixed_point.linear(x, weight.astype(np.int64), bias.astype(np.int64))
    factor = fixed_point.Factor(multiplier=by.astype(np.int64), shift=shift.astype(np.int64))
    stored = (weight.tobytes(), bias.tobytes(), by.tobytes(), shift.tobytes())
    codes, y = (x + 128).astype(np.uint8), np.empty((rows, outputs), np.int32)
    for bits in (8, 16, 27):
        native.IntegerLinear(*stored, 2 ** (bits - 1) - 1, inputs, outputs).run(place(codes), place(y), rows, isa)
        assert (y == fixed_point.requant(sums, factor, bits)).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("states", "channels", "steps"), [(16, 16, 5), (16, 17, 9), (16, 1, 1), (3, 20, 4), (17, 5, 3)]
)
def test_a_scan_by_itself(isa: str, states: int, channels: int, steps: int) -> None:
    rng = np.random.default_rng(states + channels)
    shape = (3, steps, channels)
    for t, j, y_shift, limit in ((0, 0, 20, 127), (8, 8, 62, 31), (3, 5, 33, 127), (1, 2, 1, 127)):
        x, p, z, d = (rng.choice([-127, -64, -1, 0, 1, 3, 127], shape) for _ in range(4))
        b, c = (rng.choice([-127, -1, 0, 1, 127], (3, steps, states)) for _ in range(2))
        delta = rng.choice([0, 1, 255, 256, 32768, 65535], 256).astype(np.uint16)
        decay = rng.choice([0, 1, 16384, 32766, 32767], (states, 256)).astype(np.int16)
        silu = rng.integers(-127, 128, 256).astype(np.int8)
        state, skip = (int(v) for v in rng.integers(2**20, 2**31, 2) * rng.choice([-1, 1], 2))
        out = fixed_point.Factor(multiplier=np.array(2**30 + 12345), shift=np.array(46))
        tables = fixed_point.ScanTables(
            delta=delta.astype(np.int64), decay=decay.astype(np.int64), silu=silu.astype(np.int64), t=t, j=j,
            state=np.array(state), skip=np.array(skip), shift=np.array(y_shift), out=out, bits=limit.bit_length() + 1,
        )  # fmt: skip
        want, _ = fixed_point.scan(x, p, b, c, d, z, tables)
        scan = native.IntegerScan(
            delta.tobytes(), decay.tobytes(), silu.tobytes(), t, j, state, skip, y_shift, int(out.multiplier), 46,
            limit, states, channels,
        )  # fmt: skip
        given = [(v + 128).astype(np.uint8) for v in (x, p, z, np.concatenate((b, c, d), -1))]
        found = np.zeros(shape, np.uint8)
        scan.run(*map(place, given), place(found), 3, steps, isa)
        assert (found.astype(np.int64) - 128 == want).all()


def test_numbers_of_layers_are_checked() -> None:
    with pytest.raises(ValueError, match="weight has 3 bytes"):
        native.IntegerLinear(b"abc", b"1234", b"1234", b"1", 127, 2, 1)
    with pytest.raises(ValueError, match="1 to 62"):
        native.IntegerLinear(b"a", b"1234", b"1234", b"\x3f", 127, 1, 1)
    with pytest.raises(ValueError, match="t is not"):
        native.IntegerScan(bytes(512), bytes(512), bytes(256), 9, 0, 0, 0, 1, 1, 1, 127, 1, 1)


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
        with pytest.raises(DataError, match=f"{name} is of type float32".replace(".", r"\.")):
            IntEngine(SMALL, {**good, name: good[name].astype(np.float32)})
    for name, value in (("encoder.layers.0.mixer.scan.t", 9), ("head.linear.shift", 63), ("head.linear.shift", 0)):
        with pytest.raises(DataError, match="shift"):
            IntEngine(SMALL, {**good, name: np.full_like(good[name], value)})
