import threading
import time
from contextlib import suppress

import pytest
import torch
from torch import nn

from sparseflow.errors import MeasurementError
from sparseflow.recipes.spike_bench.gpu import rivals
from sparseflow.recipes.spike_bench.gpu.rivals import Dense, Variant, captured, choose, prepare, time_limit
from sparseflow.recipes.spike_bench.gpu.settings import Budget

CPU = torch.device("cpu")


def dense(**more):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1).eval()
    return Dense(module=conv, inputs=[torch.rand(2, 3, 5, 5) for _ in range(2)], **more)


@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("dtype", ["tf32", "bf16"])
def test_every_variant_computes_the_forward_of_every_input(dtype, layout):
    forward = dense()
    made = prepare(forward, Variant(mode="eager", dtype=dtype, layout=layout), CPU)
    assert made.timing == "calls"
    outs = made.run()
    assert len(outs) == 2
    for out, x in zip(outs, forward.inputs, strict=True):
        tolerance = 1e-6 if dtype == "tf32" else 2e-2
        torch.testing.assert_close(out.float(), forward.module(x), rtol=tolerance, atol=tolerance)
    assert made.inputs[0].is_contiguous(memory_format=torch.channels_last) is (layout == "channels_last")


def test_a_variant_can_be_fed_anew_and_does_not_touch_what_it_was_given():
    forward = dense()
    kept = [x.clone() for x in forward.inputs]
    made = prepare(forward, Variant(mode="eager", dtype="tf32", layout="channels_last"), CPU)
    other = [torch.rand(2, 3, 5, 5) for _ in range(2)]
    made.feed(other)
    torch.testing.assert_close(made.run()[1], forward.module(other[1]), rtol=1e-6, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(kept, forward.inputs, strict=True))


def test_the_fastest_variant_is_chosen_and_the_others_are_on_record():
    found = choose(dense(), CPU, Budget(60.0), rounds=3, compile=False)
    assert len(found.timings) == 6
    assert found.best is not None
    fastest = min(found.timings, key=lambda v: found.timings[v][0].median_s)
    assert found.best.variant == fastest
    assert found.failures == {}


def test_without_time_only_what_must_run_runs_and_the_rest_says_so():
    found = choose(dense(), CPU, Budget(0.0), rounds=1, compile=False)
    assert len(found.timings) == 1
    assert set(found.failures.values()) == {"not run: no time left"}


def test_costly_modes_run_for_the_fastest_compiled_variants_only(monkeypatch):
    seen = []

    def fake(forward, variant, device):
        seen.append(variant)
        slow = {"fp16": 1e-4, "bf16": 3e-3, "tf32": 6e-3}[variant.dtype]
        return rivals.Prepared(variant=variant, run=lambda: time.sleep(slow), timing="calls", inputs=[], compile_s=0.0)

    monkeypatch.setattr(rivals, "prepare", fake)
    found = choose(dense(spikingjelly=lambda: None), CPU, Budget(60.0), rounds=2, refine=1)
    costly = [v for v in seen if v.mode in ("compile max-autotune", "compile reduce-overhead")]
    assert {v.mode for v in costly} == {"compile max-autotune", "compile reduce-overhead"}
    assert {v.dtype for v in costly} == {"fp16"}
    assert len(costly) == 2
    assert sum(v.mode == "compile" and v.provider == "torch" for v in seen) == 6
    assert {v.mode for v in seen if v.provider == "spikingjelly"} == {"eager", "compile"}
    assert found.fastest(1, "compile")[0].dtype == "fp16"


def test_a_variant_that_breaks_is_noted_and_the_others_go_on():
    def broken():
        raise ImportError("no module named spikingjelly")

    found = choose(dense(spikingjelly=broken), CPU, Budget(60.0), rounds=1, compile=False)
    assert found.best is not None
    assert len(found.failures) == 2
    assert all("no module" in reason for reason in found.failures.values())


def test_a_forward_without_a_foreign_form_says_so():
    with pytest.raises(MeasurementError, match="SpikingJelly"):
        prepare(dense(), Variant(mode="eager", dtype="tf32", layout="nchw", provider="spikingjelly"), CPU)


def test_without_a_gpu_nothing_is_captured():
    def run():
        return 1

    why = {}
    assert captured(run, CPU) == (run, "calls")
    assert captured(run, CPU, why, "ours") == (run, "calls")
    assert why == {"ours": "no CUDA device"}


def test_why_no_graph_was_captured_is_kept():
    found = choose(dense(), CPU, Budget(60.0), rounds=1, compile=False)
    assert set(found.called) == {v.name for v in found.timings}
    assert set(found.called.values()) == {"no CUDA device"}


def test_the_likely_winners_come_first(monkeypatch):
    seen = []

    def fake(forward, variant, device):
        seen.append((variant.provider, variant.mode, variant.layout))
        return rivals.Prepared(variant=variant, run=lambda: None, timing="calls", inputs=[], compile_s=0.0)

    monkeypatch.setattr(rivals, "prepare", fake)
    choose(dense(spikingjelly=lambda: None), CPU, Budget(60.0), dtypes=("fp16", "bf16"), rounds=1, refine=1)
    assert seen[:4] == [("torch", mode, "channels_last") for mode in ("eager", "eager", "compile", "compile")]
    assert seen[4][0] == "spikingjelly"
    assert seen[-2][1] == "compile max-autotune"


def test_time_limit_stops_what_takes_too_long_and_leaves_no_alarm():
    with pytest.raises(MeasurementError, match="given up"), time_limit(0.05):
        time.sleep(2)
    with pytest.raises(MeasurementError, match="given up"), time_limit(0.05), suppress(Exception):
        time.sleep(2)
    with time_limit(None):
        pass
    time.sleep(0.06)
    done = []
    thread = threading.Thread(target=lambda: done.append(time_limit(1.0).__enter__()))
    thread.start()
    thread.join()
    assert done == [None]


@pytest.mark.slow
def test_a_compiled_variant_computes_the_forward():
    forward = dense()
    made = prepare(forward, Variant(mode="compile", dtype="tf32", layout="nchw"), CPU)
    torch.testing.assert_close(made.run()[0], forward.module(forward.inputs[0]), rtol=1e-5, atol=1e-5)
