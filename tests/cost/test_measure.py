import importlib
import math
import time

import pytest

from sparseflow.cost import Timing, measure, ratio
from sparseflow.cost.measure import _cuda_device
from sparseflow.errors import ConfigError, MeasurementError

# The package's attribute of that name is the function.
MODULE = importlib.import_module("sparseflow.cost.measure")


def _spin(seconds):
    def run():
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    return run


def test_measures_known_durations_and_keeps_the_order_of_the_functions():
    timings = measure({"slow": _spin(2e-3), "fast": _spin(5e-4)}, warmup=1, repeats=5)
    assert list(timings) == ["slow", "fast"]
    assert timings["slow"].min_s >= 2e-3
    assert timings["fast"].min_s >= 5e-4
    assert all(t.repeats == 5 and t.iqr_s >= 0 and t.median_s >= t.min_s for t in timings.values())
    assert ratio(timings, "slow", "fast") > 1.5
    assert ratio(timings, "slow", "slow") == 1.0


def test_rounds_are_interleaved_and_turn_by_one():
    calls = []
    fns = {name: lambda name=name: calls.append(name) for name in "abc"}
    measure(fns, warmup=1, repeats=3, min_time_s=0)
    assert "".join(calls[-9:]) == "abcbcacab"


def test_short_functions_are_called_until_a_round_is_long_enough():
    calls = []
    timing = measure({"f": lambda: calls.append(1)}, warmup=1, repeats=2, min_time_s=1e-3)["f"]
    assert len(calls) > 100
    assert 0 < timing.median_s < 1e-4


def test_budget_stops_after_one_full_round_at_the_least():
    timings = measure({"a": _spin(1e-3), "b": _spin(1e-3)}, repeats=1000, budget_s=0.0)
    assert [t.repeats for t in timings.values()] == [1, 1]
    some = measure({"a": _spin(1e-3)}, repeats=10_000, budget_s=0.2)["a"]
    assert 1 < some.repeats < 1000


def test_a_failing_function_raises_by_name():
    with pytest.raises(MeasurementError, match=r"'bad' failed while it was timed: ZeroDivisionError") as caught:
        measure({"good": lambda: None, "bad": lambda: 1 / 0})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("good_calls", [0, 4])
def test_failures_are_noted_and_the_rest_is_timed(good_calls):
    left = [good_calls]

    def breaks():
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("out of order")

    failures = {}
    timings = measure({"bad": breaks, "good": lambda: None}, warmup=1, min_time_s=0, repeats=6, failures=failures)
    assert list(timings) == ["good"]
    assert timings["good"].repeats == 6
    assert failures == {"bad": "RuntimeError: out of order"}


def test_ctrl_c_is_not_swallowed():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure({"f": interrupted}, failures={})


@pytest.mark.parametrize(
    "wrong", [{"warmup": 0}, {"repeats": 0}, {"min_time_s": math.nan}, {"min_time_s": -1.0}, {"budget_s": math.nan}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="measure needs"):
        measure({"f": lambda: None}, **wrong)


def test_no_function_is_refused():
    with pytest.raises(ConfigError, match="no function"):
        measure({})


@pytest.mark.parametrize("rounds", [[], [1.0, math.nan], [math.inf], [0.0], [-1.0]])
def test_timing_is_never_nan_nor_zero(rounds):
    with pytest.raises(MeasurementError):
        Timing.of(rounds)


def test_timing_quartiles():
    timing = Timing.of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (timing.median_s, timing.iqr_s, timing.min_s, timing.repeats) == (3.0, 2.0, 1.0, 5)


def test_ratio_cancels_drift_that_medians_do_not():
    base = Timing.of([2.0, 4.0, 8.0, 2.0])
    other = Timing.of([1.0, 2.0, 4.0, 8.0])
    timings = {"base": base, "other": other}
    assert ratio(timings, "base", "other") == 2.0
    assert ratio(timings, "base", "other", quantile=0.0) == 0.25
    assert ratio(timings, "base", "other", quantile=1.0) == 2.0


def test_ratio_refuses_what_cannot_be_compared():
    timings = {"a": Timing.of([1.0]), "b": Timing.of([1.0, 2.0])}
    with pytest.raises(ConfigError, match="no timing of 'c'; there are a, b"):
        ratio(timings, "a", "c")
    with pytest.raises(ConfigError, match="quantile"):
        ratio(timings, "a", "a", quantile=2)
    with pytest.raises(MeasurementError, match="one measure call"):
        ratio(timings, "a", "b")


def test_garbage_collection_is_on_again_afterwards():
    import gc

    with pytest.raises(MeasurementError):
        measure({"f": lambda: 1 / 0})
    measure({"f": lambda: None}, repeats=1)
    assert gc.isenabled()


class _FakeTensor:
    def __init__(self, device):
        self.device = device
        self.is_cuda = device is not None


class _FakeTorch:
    Tensor = _FakeTensor

    class cuda:
        is_initialized = staticmethod(lambda: True)


def test_the_device_is_found_inside_nested_results(monkeypatch):
    monkeypatch.setattr(MODULE, "_torch", lambda: _FakeTorch)
    assert _cuda_device({"x": [1, (_FakeTensor(None), _FakeTensor("cuda:1"))]}) == "cuda:1"
    assert _cuda_device([_FakeTensor(None), None]) is None


def test_rounds_are_announced_outside_the_timer():
    heard = []

    def tell(done):
        heard.append(done)
        time.sleep(0.02)

    timing = measure({"a": lambda: None}, repeats=3, min_time_s=0.0, on_round=tell)["a"]
    assert heard == [0, 1, 2, 3]
    assert timing.median_s < 0.02


def test_works_without_torch(monkeypatch):
    monkeypatch.setattr(MODULE, "_torch", lambda: None)
    assert _cuda_device(object()) is None


@pytest.mark.gpu
def test_cuda_work_is_timed_to_its_end():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    a = torch.randn(4096, 4096, device="cuda")
    timing = measure({"matmul": lambda: a @ a}, repeats=5)["matmul"]
    assert timing.median_s > 1e-4
