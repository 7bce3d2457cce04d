"""Dense rivals on a GPU: one forward in every way that torch and SpikingJelly can run it."""

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.cost.measure import Timing, measure
from sparseflow.errors import MeasurementError
from sparseflow.nn.functional import reset_net
from sparseflow.recipes.spike_bench.gpu.settings import Budget

__all__ = ["COMPILE_MODES", "Choice", "Dense", "Prepared", "Variant", "captured", "choose", "prepare", "time_limit"]

DTYPES = {"tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LAYOUTS = ("nchw", "channels_last")
# Our own graph around max-autotune spares it the copies of inductor's graphs: never slower, so a fair rival.
COMPILE_MODES = {
    "compile": "default",
    "compile reduce-overhead": "reduce-overhead",
    "compile max-autotune": "max-autotune-no-cudagraphs",
}
# Seconds by which a rival that began in time may be late.
LATE_S = 15.0
Run = Callable[[], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run a dense forward.

    Args:
        mode: "eager" or a key of `COMPILE_MODES`.
        dtype: "tf32" (float32 with TF32 products), "fp16" or "bf16".
        layout: "nchw" or "channels_last".
        provider: "torch" or "spikingjelly".
    """

    mode: str
    dtype: str
    layout: str
    provider: str = "torch"

    @property
    def name(self) -> str:
        """A label that tells it from every other variant."""
        return f"{self.provider} {self.mode} {self.dtype} {self.layout}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A forward to be run densely.

    Args:
        module: float32 module in eval mode, without state between calls; never changed.
        inputs: float32 inputs of one shape, run one after the other in every round.
        spikingjelly: makes the same forward of SpikingJelly's modules, and its inputs; None where there is none.
    """

    module: nn.Module
    inputs: Sequence[Tensor]
    spikingjelly: Callable[[], tuple[nn.Module, Sequence[Tensor]]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A variant that has run.

    Args:
        variant: which one.
        run: runs every input once.
        timing: "graph" or "calls".
        inputs: the tensors that it reads, in its own dtype and layout.
        compile_s: seconds until it was ready.
        not_captured: why it is timed by calls; empty for "graph".
    """

    variant: Variant
    run: Run
    timing: str
    inputs: list[Tensor]
    compile_s: float
    not_captured: str = ""

    def feed(self, inputs: Sequence[Tensor]) -> None:
        """Let it read other values; nothing is compiled or captured anew."""
        for mine, x in zip(self.inputs, inputs, strict=True):
            mine.copy_(x.reshape(mine.shape))


@dataclass(slots=True)
class Choice:
    """What a search found.

    Args:
        best: the fastest variant, ready to run; None if none ran.
        timings: variant to its timing and how it was timed, of the choosing measurement.
        failures: variant name to reason, for those that did not run.
        called: variant name to reason, for those timed by calls since no graph could be captured.
    """

    best: Prepared | None = None
    timings: dict[Variant, tuple[Timing, str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)

    def fastest(self, count: int, mode: str) -> list[Variant]:
        """Return the fastest variants of torch in one mode."""
        found = [v for v in self.timings if v.mode == mode and v.provider == "torch"]
        return sorted(found, key=lambda v: self.timings[v][0].median_s)[:count]


def captured(
    run: Run, device: torch.device, failures: MutableMapping[str, str] | None = None, name: str = "capture"
) -> tuple[Run, str]:
    """Return `run` as the replay of a CUDA graph and "graph", or `run` itself and "calls" where that fails.

    What a captured run reads and makes stays alive as long as the replay.

    Args:
        run: a forward.
        device: where it runs.
        failures: where to note why there is no graph.
        name: under which name.
    """
    failures = {} if failures is None else failures
    if device.type != "cuda":
        failures[name] = "no CUDA device"
        return run, "calls"
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(3):
            run()
    torch.cuda.current_stream(device).wait_stream(stream)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.no_grad(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            out = run()
    except Exception as e:
        failures[name] = f"{type(e).__name__}: {(str(e).splitlines() or [''])[0]}"[:300]
        torch.cuda.synchronize(device)
        return run, "calls"

    def replay(keeps: Run = run) -> Any:
        # The graph knows addresses only: weights that nobody else holds would be freed under it.
        graph.replay()
        return out

    replay()
    torch.cuda.synchronize(device)
    return replay, "graph"


def prepare(dense: Dense, variant: Variant, device: torch.device) -> Prepared:
    """Make a variant ready: converted, compiled and, where it can be, captured.

    Raises:
        Exception: whatever the variant raises on its first forward.
    """
    began = time.perf_counter()
    torch._dynamo.reset()
    module, inputs = dense.module, dense.inputs
    foreign = variant.provider == "spikingjelly"
    if foreign:
        if dense.spikingjelly is None:
            raise MeasurementError("there is no SpikingJelly form of this forward")
        module, inputs = dense.spikingjelly()
    dtype = DTYPES[variant.dtype]
    net = copy.deepcopy(module).to(device=device, dtype=dtype).eval()
    last = variant.layout == "channels_last"
    if last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    xs = [_laid_out(x.to(device=device, dtype=dtype), last) for x in inputs]
    forward: Callable[[Tensor], Any] = net
    if variant.mode != "eager":
        forward = torch.compile(net, mode=COMPILE_MODES[variant.mode], dynamic=False)
    own_graphs = variant.mode == "compile reduce-overhead"

    def run() -> Any:
        outs: list[Any] = []
        with torch.no_grad():
            for x in xs:
                if foreign:
                    reset_net(net)
                if own_graphs and device.type == "cuda":
                    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
                out = forward(x)
                outs = [out] if own_graphs else [*outs, out]
        return outs

    run()
    why = {"capture": "it replays graphs of its own"} if own_graphs else {}
    call, how = (run, "calls") if own_graphs else captured(run, device, why)
    taken = time.perf_counter() - began
    return Prepared(
        variant=variant, run=call, timing=how, inputs=xs, compile_s=taken, not_captured=why.get("capture", "")
    )


def choose(
    dense: Dense,
    device: torch.device,
    budget: Budget,
    *,
    dtypes: Sequence[str] = ("fp16", "bf16", "tf32"),
    layouts: Sequence[str] = ("channels_last", "nchw"),
    rounds: int = 15,
    refine: int = 2,
    compile: bool = True,
    slow_s: float = 120.0,
) -> Choice:
    """Find the fastest way to run a dense forward within a budget.

    The likely winners come first, so that a short budget keeps them: the first
    layout eager and compiled, SpikingJelly, reduce-overhead; then the other
    layouts; max-autotune for the `refine` fastest compiled dtypes and layouts
    last, since it compiles longest. Only the fastest stays in memory.

    Args:
        dense: the forward.
        device: where it runs.
        budget: no variant starts once it is used up, but the first eager and the first compiled one always run.
        dtypes: dtypes, the likely fastest first.
        layouts: layouts, the likely fastest first.
        rounds: timed rounds of each.
        refine: how many compiled forms get the costly modes.
        compile: run compiled forms at all.
        slow_s: seconds after which one max-autotune is given up.
    """
    found = Choice()
    pairs = [(d, k) for d in dtypes for k in layouts]

    def attempt(variant: Variant, limit: float | None = None, must: bool = False) -> None:
        if budget.left() <= 0 and not must:
            found.failures[variant.name] = "not run: no time left"
            return
        try:
            # What is not in a cache may take long to compile, and must not take the time of all that comes after.
            with time_limit(None if must else min(limit or math.inf, budget.left() + LATE_S)):
                made = prepare(dense, variant, device)
            timing = measure({"it": made.run}, warmup=5, repeats=rounds, budget_s=4.0)["it"]
        except Exception as e:
            found.failures[variant.name] = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"[:300]
            _tidy(device)
            return
        found.timings[variant] = (timing, made.timing, made.compile_s)
        if made.not_captured:
            found.called[variant.name] = made.not_captured
        if found.best is None or timing.median_s < found.timings[found.best.variant][0].median_s:
            found.best = made
        del made
        _tidy(device)

    def attempt_theirs(mode: str, dtype: str, layout: str) -> None:
        if dense.spikingjelly is not None:
            attempt(Variant(mode=mode, dtype=dtype, layout=layout, provider="spikingjelly"), 60.0)

    def refined(mode: str) -> None:
        for variant in found.fastest(refine, "compile"):
            limit = min(slow_s, max(budget.left(), 1.0))
            attempt(Variant(mode=mode, dtype=variant.dtype, layout=variant.layout), limit)

    first = [pair for pair in pairs if pair[1] == layouts[0]]
    for n, some in enumerate((first, [pair for pair in pairs if pair not in first])):
        for mode in ("eager", "compile")[: 1 + compile]:
            for i, (dtype, layout) in enumerate(some):
                attempt(Variant(mode=mode, dtype=dtype, layout=layout), must=i == n == 0)
        if n == 0:
            attempt_theirs("eager", dtypes[0], layouts[0])
            attempt_theirs("eager", "tf32", "nchw")
            if compile:
                refined("compile reduce-overhead")
    if compile:
        refined("compile max-autotune")
        attempt_theirs("compile", dtypes[0], layouts[0])
    return found


class _TimeUp(BaseException):
    """Not an `Exception`, since compilers catch those, and go on."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise `MeasurementError` in the block after so many seconds; without effect outside the main thread."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(*_: Any) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    except _TimeUp:
        raise MeasurementError(f"given up after {seconds:.0f} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _laid_out(x: Tensor, last: bool) -> Tensor:
    if not last or x.dim() not in (4, 5):
        return x.clone(memory_format=torch.contiguous_format)
    flat = x.flatten(0, 1) if x.dim() == 5 else x
    flat = flat.clone(memory_format=torch.channels_last)
    return flat.view(*x.shape[:2], *flat.shape[1:]) if x.dim() == 5 else flat


def _tidy(device: torch.device) -> None:
    if device.type == "cuda":
        with suppress(RuntimeError):
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
