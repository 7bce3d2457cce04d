"""Whole networks: optimised, against the best dense way to run them, and against eager float32."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.cost.measure import Timing, measure, ratio
from sparseflow.errors import MeasurementError
from sparseflow.recipes.checks import Check
from sparseflow.recipes.spike_bench.gpu.blocks import figures_of
from sparseflow.recipes.spike_bench.gpu.dense import plain_network
from sparseflow.recipes.spike_bench.gpu.energy import joules
from sparseflow.recipes.spike_bench.gpu.memory import waits
from sparseflow.recipes.spike_bench.gpu.nets import (
    CLAIMS,
    NetCase,
    WithReset,
    densities,
    net_cases,
    optimized,
    spikingjelly_net,
)
from sparseflow.recipes.spike_bench.gpu.record import Enough, Figure, StageResult
from sparseflow.recipes.spike_bench.gpu.rivals import (
    Choice,
    Dense,
    Prepared,
    Variant,
    captured,
    choose,
    prepare,
    time_limit,
)
from sparseflow.recipes.spike_bench.gpu.settings import (
    Budget,
    GpuBenchConfig,
    device_name,
    fast_dense,
    strict,
    versions,
)

__all__ = ["BATCHES", "BESIDE", "dense_network", "network_stage"]

BATCHES = (32, 1)
Beside = Callable[[str, Budget], dict[str, Any]]
# Seconds kept for the timing after the choice of a rival, and those that a row beside may take past the budget.
RESERVE_S = 15.0
GRACE_S = 10.0
ALIVE = (0.02, 0.40)
# Precisions whose rows stand beside that of the settings.
BESIDE = ("int8",)


def network_stage(
    config: GpuBenchConfig,
    budget: Budget,
    device: torch.device,
    *,
    batches: Sequence[int] = BATCHES,
    side: int = 224,
    cases: Sequence[NetCase] | None = None,
    result: StageResult | None = None,
) -> StageResult:
    """Time every network with many images and with one.

    Args:
        config: settings.
        budget: time of this stage.
        device: where to run.
        batches: images a forward, the largest first.
        side: edge of the images of the claims.
        cases: the networks; by default the checkpoints of the settings and what the claims need besides.
        result: where to note what is found as it is found; a new one if None.
    """
    result = StageResult() if result is None else result
    if cases is None:
        wanted = [c.builder for c in CLAIMS if any(config.wants(c.builder, b) for b in batches)]
        cases = net_cases(
            config.checkpoints, max(batches), device, side=side, seed=config.seed, errors=result.errors, builders=wanted
        )
    # Many images take longer to prepare for than one.
    parts = [(case, batch) for batch in batches for case in cases if config.wants(case.builder, batch)]
    if config.cases:
        result.parts += dict.fromkeys(f"{case.builder}:{batch}" for case, batch in parts)
    later: list[Beside] = []
    for i, (case, batch) in enumerate(parts):
        row: dict[str, Any] = {}
        try:
            with fast_dense():
                row, beside = _one(case, batch, config, budget.share(1, len(parts) - i), device, result)
            result.rows.append(row)
            later.append(beside)
        except Exception as e:
            result.errors[f"{case.name}, N {batch}"] = f"{type(e).__name__}: {e}"[:500]
        result.checks += _checks(case, batch, max(batches), row)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    # Where a network's parts run side by side, the one with many images says whether it is alive.
    for case in [c for c in cases if config.wants(c.builder, max(batches))]:
        result.checks += _alive(case, result)
    for claim in [c for c in CLAIMS if config.wants(c.builder, max(batches))]:
        trained = sum(c.trained and c.builder == claim.builder for c in cases)
        name = f"{claim.builder}: timed with trained weights"
        result.checks.append(Check(show="2", name=name, value=trained, unit="networks", rule=">=", bound=1))
    # Last, since no check hangs on them.
    try:
        for precision in [p for p in BESIDE if p != config.precision]:
            for beside in later:
                with fast_dense():
                    result.rows.append(beside(precision, budget))
    except KeyboardInterrupt as e:
        raise Enough("interrupted in what stands beside") from e
    return result


def _checks(case: NetCase, batch: int, many: int, row: dict[str, Any]) -> list[Check]:
    never = row.get("waits")
    calls = math.nan if never is None else len(never)
    name = f"{case.name}, N {batch}: calls that wait for the device in a forward"
    waiting = Check(show="5", name=name, value=calls, unit="calls", rule="==", bound=0)
    if case.claim is None:
        return [waiting]
    bound = case.claim.over_dense if batch == many else case.claim.single
    found = [("the best dense", row.get("over_dense", math.nan), bound)]
    if batch == many:
        found.append(("eager float32", row.get("over_eager", math.nan), case.claim.over_eager))
    return [
        Check(show="2", name=f"{case.name}, N {batch}, over {what}", value=value, unit="x", rule=">=", bound=least)
        for what, value, least in found
    ] + [waiting]


def _alive(case: NetCase, result: StageResult) -> list[Check]:
    try:
        rates = densities(case.model, case.x)
        with torch.no_grad():
            spread = float(WithReset(case.model)(case.x).std(0).max())
    except Exception as e:
        result.errors[f"{case.name}, alive"] = f"{type(e).__name__}: {e}"[:300]
        rates, spread = {}, math.nan
    result.details[case.name] = {"density": rates, "logits_spread": spread, "trained": case.trained, **case.record}
    if len(case.x) < 2:
        spread = math.nan
    ends = (min(rates.values(), default=math.nan), max(rates.values(), default=math.nan))
    checks = (
        ("lowest density of a layer", ends[0], "fraction", ">=", ALIVE[0]),
        ("highest density of a layer", ends[1], "fraction", "<=", ALIVE[1]),
        ("logits change with the image by", spread, "", ">=", 1e-3),
    )
    return [
        Check(show="2", name=f"{case.name}: {what}", value=value, unit=unit, rule=rule, bound=bound)
        for what, value, unit, rule, bound in checks
    ]


def _one(
    case: NetCase, batch: int, config: GpuBenchConfig, budget: Budget, device: torch.device, result: StageResult
) -> tuple[dict[str, Any], Beside]:
    began = time.perf_counter()
    x = case.x[:batch].contiguous()
    fast, report = optimized(case.model, x, config.precision)
    ours = _calls(WithReset(fast), x)
    got = ours()
    with strict(), torch.no_grad():
        expected = WithReset(case.model)(x)
    same = float((expected.argmax(-1) == got.argmax(-1)).float().mean())
    eager = prepare(
        Dense(module=WithReset(case.model), inputs=[x]), Variant(mode="eager", dtype="tf32", layout="nchw"), device
    )
    optimized_s = time.perf_counter() - began
    # What comes after is timing, and our side once more in every precision beside.
    after_s = 0.0 if config.quick else RESERVE_S + len(BESIDE) * min(optimized_s, 30.0)
    choice = _choice(case, x, config, Budget(max(0.0, budget.left() - after_s)), device)
    chosen_s = time.perf_counter() - began
    rival = choice.best
    if rival is None:
        raise MeasurementError(f"no rival runs: {choice.failures}")
    warmup, rounds = config.timing()
    # Like against like: replays against replays; a user's calls are timed besides.
    why: dict[str, str] = {}
    best, how = captured(ours, device, why, "ours") if rival.timing == "graph" else (ours, "calls")
    runs = {"dense": rival.run, "ours": best, "ours called": ours, "eager": _calls(WithReset(case.model), x)}
    timings = measure(runs, warmup=warmup, repeats=rounds)
    eager_graph = measure({"it": eager.run}, warmup=5, repeats=20)["it"]
    shape = tuple(x.shape)
    result.figures += figures_of(case.name, shape, math.nan, choice, 1, device)
    result.figures += _quoted(case, shape, rival, how, timings, config, device)
    energy = None if config.quick else {"ours": joules(best, batch, device), "dense": joules(rival.run, batch, device)}
    row = {
        "network": case.name,
        "batch": batch,
        "trained": case.trained,
        "rival": rival.variant.name,
        "rival_ms": timings["dense"].median_s * 1e3,
        "eager_ms": timings["eager"].median_s * 1e3,
        "eager_graph_ms": eager_graph.median_s * 1e3,
        "ours_ms": timings["ours"].median_s * 1e3,
        "ours_timing": how,
        "ours_called_ms": timings["ours called"].median_s * 1e3,
        "over_dense": ratio(timings, "dense", "ours"),
        "over_eager": ratio(timings, "eager", "ours called"),
        "top1_equal": same,
        "precision": config.precision,
        "energy": energy,
        "kernels": {layer.name: layer.kernel for layer in report.layers},
        "refusals": [f"{r.layer} {r.what}: {r.reason}"[:200] for r in report.refusals][:20],
        "fallbacks": list(report.fallbacks)[:20],
        "not_run": choice.failures,
        "not_captured": {**choice.called, **why},
        "waits": waits(ours, device),
        "seconds": {"optimize": optimized_s, "choose": chosen_s - optimized_s, "all": time.perf_counter() - began},
    }

    def beside(precision: str, left: Budget) -> dict[str, Any]:
        return _beside(case, x, precision, expected, rival, config, left, device)

    return row, beside


def _beside(
    case: NetCase,
    x: Tensor,
    precision: str,
    expected: Tensor,
    rival: Prepared,
    config: GpuBenchConfig,
    budget: Budget,
    device: torch.device,
) -> dict[str, Any]:
    """Return the row of another precision against the same rival; it holds no check."""
    row: dict[str, Any] = {
        "network": f"{case.name}, {precision}", "batch": len(x), "trained": case.trained, "precision": precision,
    }  # fmt: skip
    if budget.left() <= 0:
        return {**row, "refused": "not run: no time left"}
    try:
        with time_limit(budget.left() + GRACE_S):
            fast, report = optimized(case.model, x, precision)
            ours = _calls(WithReset(fast), x)
            got = ours()
            why: dict[str, str] = {}
            best, how = captured(ours, device, why, "ours") if rival.timing == "graph" else (ours, "calls")
            warmup, rounds = config.timing()
            timings = measure({"dense": rival.run, "ours": best, "ours called": ours}, warmup=warmup, repeats=rounds)
    except Exception as e:
        return {**row, "refused": f"{type(e).__name__}: {e}"[:300]}
    return {
        **row,
        "rival": rival.variant.name,
        "rival_ms": timings["dense"].median_s * 1e3,
        "ours_ms": timings["ours"].median_s * 1e3,
        "ours_timing": how,
        "ours_called_ms": timings["ours called"].median_s * 1e3,
        "over_dense": ratio(timings, "dense", "ours"),
        "top1_equal": float((expected.argmax(-1) == got.argmax(-1)).float().mean()),
        "kernels": {layer.name: layer.kernel for layer in report.layers},
        "refusals": [f"{r.layer} {r.what}: {r.reason}"[:200] for r in report.refusals][:20],
        "not_captured": why,
    }


def _calls(net: nn.Module, x: Tensor) -> Any:
    def run() -> Any:
        with torch.no_grad():
            return net(x)

    return run


def dense_network(case: NetCase, x: Tensor) -> Dense:
    """Return the forward of a network as its rivals run it."""
    steps = getattr(getattr(case.model, "repeat", None), "steps", 4)

    def theirs() -> tuple[nn.Module, list[Tensor]]:
        return spikingjelly_net(case), [x.unsqueeze(0).expand(int(steps), *x.shape).contiguous()]

    return Dense(module=plain_network(case.model), inputs=[x], spikingjelly=theirs)


def _choice(case: NetCase, x: Tensor, config: GpuBenchConfig, budget: Budget, device: torch.device) -> Choice:
    dense = dense_network(case, x)
    if config.quick:
        return choose(
            dense, device, budget, dtypes=("fp16",), layouts=("channels_last",), rounds=5, refine=0,
            compile=device.type == "cuda",
        )  # fmt: skip
    return choose(dense, device, budget, refine=1, slow_s=150.0)


def _quoted(
    case: NetCase,
    shape: tuple[int, ...],
    rival: Prepared,
    how: str,
    timings: dict[str, Timing],
    config: GpuBenchConfig,
    device: torch.device,
) -> list[Figure]:
    known = versions()
    common: dict[str, Any] = {
        "case": case.name, "shape": shape, "density": math.nan, "quoted": True, "device": device_name(device),
    }  # fmt: skip
    v = rival.variant
    return [
        Figure.of(
            timings["dense"], provider=v.provider, mode=v.mode, dtype=v.dtype, layout=v.layout, timing=rival.timing,
            version=known.get(v.provider, "?"), **common,
        ),
        Figure.of(
            timings["eager"], provider="torch", mode="eager", dtype="tf32", layout="nchw", timing="calls",
            version=known["torch"], **common,
        ),
        Figure.of(
            timings["ours"], provider="sparseflow", mode="optimize", dtype=config.precision, layout="nchw",
            timing=how, version=config.commit or "?", **common,
        ),
        Figure.of(
            timings["ours called"], provider="sparseflow", mode="optimize", dtype=config.precision, layout="nchw",
            timing="calls", version=config.commit or "?", **common,
        ),
    ]  # fmt: skip
