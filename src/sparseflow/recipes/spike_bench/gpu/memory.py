"""Peak activation memory, and whether a forward ever waits for the device."""

import gc
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.compress import Effort
from sparseflow.ops.spike_layer import LayerWeights
from sparseflow.recipes.checks import Check
from sparseflow.recipes.spike_bench.gpu.nets import NetCase, WithReset, optimized, synthetic
from sparseflow.recipes.spike_bench.gpu.record import StageResult
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig, fast_dense

__all__ = ["WAITS", "memory_case", "memory_stage", "peak_bytes", "waits", "weight_bytes"]

LEAST = 8.0
HASTY = Effort(repeats=3, compile_s=0.0, budget_s=0.05, model_budget_s=3.0)
# What the runtime calls when the host waits; a copy to the host waits too, whatever its name says.
WAITS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "Memcpy DtoH",
    "aten::_local_scalar_dense",
)


def memory_stage(
    config: GpuBenchConfig,
    budget: Budget,
    device: torch.device,
    *,
    steps: int = 16,
    batch: int = 32,
    side: int = 224,
    builder: str = "spiking_resnet50",
    find_peak: Callable[[Callable[[], Any], torch.device], int] | None = None,
    result: StageResult | None = None,
) -> StageResult:
    """Compare peak activation bytes of a deep network at T = 16, and look for waits in its forward.

    Args:
        config: settings.
        budget: time of this stage.
        device: where to run.
        steps: T.
        batch: images.
        side: edge of the images.
        builder: network of the zoo.
        find_peak: peak bytes of a call; `peak_bytes` if None.
        result: where to note what is found as it is found; a new one if None.
    """
    result = StageResult() if result is None else result
    peak = find_peak or peak_bytes
    if config.quick:
        batch, steps = min(batch, 4), min(steps, 4)
    what = f"{builder} @{side}, T {steps}, N {batch}"
    ratio, found = math.nan, ["not looked for"]
    details: dict[str, Any] = {"random_weights": True}
    try:
        with fast_dense():
            case = memory_case(device, steps, batch, side, builder, config.seed)
            dense = WithReset(case.model)
            details["dense_bytes"] = peak(_forward(dense, case.x), device) - held_bytes(case.model, case.x)
            ours, x = _ours(case, config)
            del case, dense
            _collect(device)
            details["ours_bytes"] = peak(_forward(ours, x), device) - held_bytes(ours, x)
            details["ours_weight_bytes"] = weight_bytes(ours)
            ratio = details["dense_bytes"] / max(1, details["ours_bytes"])
    except Exception as e:
        result.errors[what] = f"{type(e).__name__}: {e}"[:500]
    else:
        try:
            found = waits(_forward(ours, x), device)
        except Exception as e:
            found = [f"{type(e).__name__}: {e}"[:300]]
        details["waits"] = found
    result.details[what] = details
    result.rows.append({"network": what, "ratio": ratio, **{k: v for k, v in details.items() if k.endswith("bytes")}})
    result.checks += [
        Check(
            show="5", name=f"{what}: peak activation memory, eager float32 over ours", value=ratio, unit="x", rule=">=",
            bound=LEAST,
        ),
        Check(show="5", name=f"{what}: calls that wait for the device in a forward", value=len(found), unit="calls",
              rule="==", bound=0),
    ]  # fmt: skip
    return result


def memory_case(
    device: torch.device,
    steps: int = 16,
    batch: int = 32,
    side: int = 224,
    builder: str = "spiking_resnet50",
    seed: int = 0,
) -> NetCase:
    """Return the deep network, with random weights."""
    return synthetic(builder, side, batch, device, steps=steps, seed=seed)


def _ours(case: NetCase, config: GpuBenchConfig) -> tuple[nn.Module, Tensor]:
    # Which of the kernels is the fastest matters little here, and at this size timing them takes long.
    made, _ = optimized(case.model, case.x, config.precision, HASTY)
    return WithReset(made), case.x


def _forward(net: nn.Module, x: Tensor) -> Callable[[], Any]:
    def run() -> Any:
        with torch.no_grad():
            return net(x)

    return run


def _collect(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int:
    """Return the most bytes allocated on the device at once during two forwards.

    Everything that is alive counts, also what an earlier capture of a graph holds.
    """
    _collect(device)
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(2):
        run()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device))


def held_bytes(net: nn.Module, x: Tensor) -> int:
    """Return the bytes of the weights and of the input, which are no activations."""
    return weight_bytes(net) + x.untyped_storage().nbytes()


def weight_bytes(net: nn.Module) -> int:
    """Return the bytes of parameters, buffers and packed weights of a network.

    >>> weight_bytes(nn.Linear(3, 2))
    32
    """
    seen: set[int] = set()
    storages: dict[int, int] = {}
    for tensor in _weights(net, seen):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(storages.values())


def _weights(thing: Any, seen: set[int]) -> Iterator[Tensor]:
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, nn.Module):
        for tensors in (thing._parameters, thing._buffers):
            yield from (t for t in tensors.values() if t is not None)
        for value in (*thing._modules.values(), *vars(thing).values()):
            yield from _weights(value, seen)
    elif isinstance(thing, LayerWeights):
        yield from thing.tensors.values()
    elif isinstance(thing, Mapping):
        for value in list(thing.values()):
            yield from _weights(value, seen)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from _weights(value, seen)


def waits(run: Callable[[], Any], device: torch.device) -> list[str]:
    """Return what waits for the device between the beginning and the end of one forward.

    torch's own check runs first and raises at the first synchronising call it knows; the profiler then sees
    those that it does not know.

    Args:
        run: one forward; it has run before.
        device: the device.
    """
    if device.type != "cuda":
        return []
    for _ in range(2):
        run()
    torch.cuda.synchronize(device)
    found = []
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    except RuntimeError as e:
        found.append(f"sync debug mode: {e}"[:300])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize(device)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        with torch.profiler.record_function("the forward"):
            run()
        torch.cuda.synchronize(device)
    return found + waits_within(profile.events(), "the forward")


def waits_within(events: Any, span: str) -> list[str]:
    """Return the names of waiting events that began within the event of the name `span`."""
    spans = [e.time_range for e in events if e.name == span]
    if not spans:
        return [f"the profiler saw no {span!r}"]
    begin, end = spans[0].start, spans[0].end
    return [e.name for e in events if any(w in e.name for w in WAITS) and begin <= e.time_range.start <= end]
