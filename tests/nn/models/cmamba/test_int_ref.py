import numpy as np
import pytest
import torch

from sparseflow.errors import DataError
from sparseflow.nn.models.cmamba.int_ref import IntRef
from tests.nn.models.cmamba.small import SMALL, arrays, readings


def test_batches_change_nothing() -> None:
    x = readings(9)
    whole = IntRef(SMALL, arrays(), batch=9).codes(x)
    assert (IntRef(SMALL, arrays(), batch=2).codes(x) == whole).all()
    assert (IntRef(SMALL, arrays(), batch=1).codes(x[:1]) == whole[:1]).all()
    assert IntRef(SMALL, arrays()).codes(x[:0]).shape == (0, 3, 8)


def test_a_forecast_has_16_fraction_bits() -> None:
    x = readings(2)
    ref = IntRef(SMALL, arrays())
    assert (ref(x) * 2**16 == ref.codes(x)).all()
    assert (ref.codes(x.numpy()) == ref.codes(x)).all()


def test_taps_hold_every_tensor_within_its_bits() -> None:
    ref = IntRef(SMALL, arrays())
    taps = ref.taps(readings(2))
    assert next(iter(taps)) == "input"
    assert list(taps)[-1] == "restore"
    assert (taps["restore"] == ref.codes(readings(2))).all()
    block = "encoder.layers.1."
    for name in ("norm", "mixer.in_proj", "mixer.act", "mixer.x_proj", "mixer.dt_proj", "mixer.scan", "GDDMLP.pool"):
        assert np.abs(taps[block + name]).max() <= 127
    for name in ("mixer.scan.h", "mixer.scan.w", "mixer.scan.y", "mixer.out_proj", "GDDMLP.gate", "residual"):
        assert np.abs(taps[block + name]).max() <= 32767
    assert {f"{block}GDDMLP.{n}" for n in ("fc_sc.0", "fc_sc.1", "fc_sc.2", "add_scale", "add_shift")} <= set(taps)
    # Nothing watches afterwards.
    before = taps["restore"].copy()
    ref.codes(readings(2, seed=5))
    assert (taps["restore"] == before).all()


def test_readings_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError):
        IntRef(SMALL, arrays()).codes(torch.zeros(1, 2, 32))
