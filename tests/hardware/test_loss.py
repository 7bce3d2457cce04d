import math

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.hardware.loss import FORMS, HwFigures, HwWeights, compute_hw_loss, hw_schedule

BASE = HwFigures(latency_ms=2.0, energy_mj=5.0, memory_mb=10.0, comm_ms=0.5, area_mm2=600.0, chips=4.0)


def _figures(**given) -> HwFigures:
    body = {"latency_ms": 3.0, "energy_mj": 4.0, "memory_mb": 20.0, "comm_ms": 1.0, "area_mm2": 1200.0, "chips": 2.0}
    return HwFigures(**body | given)


def test_the_log_form_is_the_energy_delay_product():
    w = HwWeights(memory=0.0, comm=0.0, chip=0.0)
    a, b = (compute_hw_loss(f, w, BASE)["total"] for f in (_figures(), _figures(latency_ms=1.5)))
    assert a - b == pytest.approx(math.log(2))
    assert a == pytest.approx(math.log(_figures().edp / BASE.edp))


def test_spec_is_the_literal_sum():
    w = HwWeights(form="spec", area_limit_mm2=1000.0)
    f = _figures(layout={"boundary": 2.0, "overlap": 3.0, "comm": 5.0, "thermal": 7.0})
    terms = compute_hw_loss(f, w)
    assert terms["total"] == pytest.approx(
        1e-3 * 3 + 1e-4 * 4e-3 + 1e-4 * 20 + 1e-6 * 200**2 + 1e-3 * 2 + 1e-3 * 2 + 1e-3 * 3 + 1e-6 * 5 + 1e-4 * 7
    )


def test_log_ratio_rests_below_nine_tenths_and_is_clipped():
    w = HwWeights(form="log_ratio", clip=1.0)
    low = compute_hw_loss(_figures(latency_ms=1.8, energy_mj=4.5, memory_mb=9.0, comm_ms=0.0), w, BASE)
    assert low["latency"] == low["energy"] == low["memory"] == low["comm"] == 0.0
    high = compute_hw_loss(_figures(latency_ms=1e9), w, BASE)
    assert high["latency"] == pytest.approx(0.2 * 1.0)


@pytest.mark.parametrize("form", FORMS)
def test_tensors_give_the_numbers_and_right_gradients(form):
    names = ("latency_ms", "energy_mj", "memory_mb", "comm_ms", "area_mm2", "chips")
    values = {n: getattr(_figures(area_mm2=12000.0), n) for n in names}
    tensors = {n: torch.tensor(v, dtype=torch.float64, requires_grad=True) for n, v in values.items()}
    w = HwWeights(form=form)
    total = compute_hw_loss(HwFigures(**tensors), w, BASE)["total"]
    assert float(total) == pytest.approx(compute_hw_loss(HwFigures(**values), w, BASE)["total"], rel=1e-12)
    total.backward()
    for name in names:
        h = 1e-6 * values[name]
        up, down = (compute_hw_loss(HwFigures(**values | {name: values[name] + s}), w, BASE)["total"] for s in (h, -h))
        got = tensors[name].grad
        assert (0.0 if got is None else float(got)) == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_no_transfer_has_a_finite_gradient(form):
    comm = torch.zeros((), requires_grad=True)
    total = compute_hw_loss(_figures(comm_ms=comm), HwWeights(form=form), BASE)["total"]
    total.backward()
    assert torch.isfinite(comm.grad)


def test_ratios_want_a_reference_of_positive_figures():
    with pytest.raises(ConfigError, match="reference"):
        compute_hw_loss(_figures(), HwWeights())
    with pytest.raises(ConfigError, match="energy_mj"):
        compute_hw_loss(_figures(), HwWeights(), HwFigures(latency_ms=1.0, energy_mj=0.0, memory_mb=1.0))


@pytest.mark.parametrize("given", [{"form": "sum"}, {"latency": -1.0}, {"clip": math.nan}])
def test_bad_weights_are_refused(given):
    with pytest.raises(ConfigError):
        HwWeights(**given)


def test_the_schedule_warms_up_ramps_and_holds():
    factors = [hw_schedule(i / 20) for i in range(21)]
    assert factors == sorted(factors)
    assert factors[0] == 0.0
    assert factors[-1] == 1.0
    assert hw_schedule(0.5, warmup=0.5, ramp=0.0) == 1.0
    with pytest.raises(ConfigError):
        hw_schedule(0.1, warmup=0.8, ramp=0.3)
