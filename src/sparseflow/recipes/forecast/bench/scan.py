"""The scan's errors against float64 at every length, and its speed and memory on a GPU against mambapy's."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sparseflow.cost.measure import measure, ratio
from sparseflow.errors import UnsupportedError
from sparseflow.ops.selective_scan import Operands, cpp, reference, selective_scan
from sparseflow.recipes.checks import Check
from sparseflow.recipes.forecast.bench import rival

__all__ = ["FORMS", "LENGTHS", "SHAPES", "ErrorRow", "SpeedRow", "draw", "scan_errors", "scan_speed", "speed_checks"]

LENGTHS = (1, 2, 12, 63, 512, 2048)
"""Steps of the sequences whose errors are measured."""
SHAPES = ((448, 12), (2568, 12), (32, 512), (448, 512), (8, 2048), (448, 2048))
"""Sequences and steps of the timed scans, of 128 channels and 16 states."""
FORMS = ("eager", "graph", "compiled")
"""Plain calls, calls recorded as one CUDA graph, and, of short sequences, calls of what torch.compile makes."""
ERROR, FASTER, SMALLER = 1e-5, 10.0, 0.25
_CHANNELS, _STATES = 128, 16
# mambapy's sweeps are unrolled: torch.compile takes ten seconds for 12 steps, and minutes for hundreds.
_COMPILED_STEPS = 64
# Calls follow each other without a wait for so long, as those of a training do.
_LEAST_S = 2e-2
_NAMES = ("x", "dt", "A_log", "B", "C", "D", "z", "dt_bias")

Step = Callable[[], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRow:
    """The largest difference from float64 over the largest true value.

    Args:
        kernel: of the scan.
        memory: "long", states of up to a thousand steps, or "short", decays that leave nothing of a state.
        steps: of a sequence.
        forward: of y and the last state.
        gradient: of the gradients of all operands.
    """

    kernel: str
    memory: str
    steps: int
    forward: float
    gradient: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRow:
    """One shape in one form: y and the gradients of all operands.

    Args:
        sequences: B V.
        steps: K.
        form: of both sides, a name of `FORMS`.
        ours_s: median time.
        rival_s: median time of mambapy's scan with the same softplus, direct term and gate; NaN if it does not run.
        ratio: median of the times of a round over each other.
        ours_bytes: most memory above what was there before, of plain calls.
        rival_bytes: the same of the rival.
        failure: why a side does not run.
    """

    sequences: int
    steps: int
    form: str
    ours_s: float = float("nan")
    rival_s: float = float("nan")
    ratio: float = float("nan")
    ours_bytes: int = 0
    rival_bytes: int = 0
    failure: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data without NaN."""
        return {k: None if isinstance(v, float) and v != v else v for k, v in asdict(self).items()}


def draw(sequences: int, steps: int, channels: int, *, device: str = "cpu", memory: str = "long") -> Operands:
    """Return random float32 operands of CMamba's scan with 16 states, the same on every device.

    Args:
        sequences: B V.
        steps: K.
        channels: E.
        device: where they lie.
        memory: see `ErrorRow`.
    """
    g = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g).to(device)

    wide, narrow = (sequences, steps, channels), (sequences, steps, _STATES)
    # Steps of 1e-3 to 0.1 at rest, as a network starts with.
    step = torch.exp(torch.rand(channels, generator=g) * 4.6 - 6.9)
    rates = torch.arange(1, _STATES + 1, dtype=torch.float32).log()[None] + (8.0 if memory == "short" else 0.0)
    return Operands(
        x=noise(*wide), dt=noise(*wide), A_log=rates.to(device), B=noise(*narrow), C=noise(*narrow), D=noise(*wide),
        z=noise(*wide), dt_bias=(step + torch.log(-torch.expm1(-step))).to(device),
    )  # fmt: skip


def scan_errors(device: str, *, progress: bool = True) -> tuple[list[Check], list[ErrorRow]]:
    """Compare every kernel of a device with the sequential float64, forwards and backwards.

    Args:
        device: "cpu" or "cuda".
        progress: show a bar.
    """
    kernels = ["triton"] if device == "cuda" else ["dense"] if cpp.ABSENT else ["cpp", "dense"]
    rows = []
    for steps in tqdm(LENGTHS, desc="scan against float64", disable=None if progress else True):
        for memory in ("long", "short"):
            given = draw(2, steps, 8, memory=memory)
            truth = _results(given, torch.float64, _reference)
            for kernel in kernels:
                found = _results(_moved(given, device), torch.float32, _operator(kernel))
                rows.append(
                    ErrorRow(
                        kernel=kernel, memory=memory, steps=steps, forward=_error(found[:2], truth[:2]),
                        gradient=_error(found[2:], truth[2:]),
                    )
                )  # fmt: skip
    checks = [
        Check(
            show="3",
            name=f"scan {kernel}, float32 against float64, {steps} steps, {what}",
            value=max(getattr(r, what) for r in rows if (r.kernel, r.steps) == (kernel, steps)),
            unit="relative",
            rule="<=",
            bound=ERROR,
        )
        for kernel in kernels
        for steps in LENGTHS
        for what in ("forward", "gradient")
    ]
    return checks, rows


def scan_speed(
    shapes: Sequence[tuple[int, int]], forms: Sequence[str], *, repeats: int, progress: bool = True
) -> tuple[list[Check], list[SpeedRow]]:
    """Time the Triton scan and mambapy's, forwards and backwards, side by side on the GPU.

    Args:
        shapes: sequences and steps.
        forms: names of `FORMS`.
        repeats: rounds.
        progress: show a bar.
    """
    rows = [
        row
        for shape in tqdm(shapes, desc="scan against mambapy", disable=None if progress else True)
        for row in _speed(*shape, forms, repeats)
    ]
    return speed_checks(rows), rows


def speed_checks(rows: Sequence[SpeedRow]) -> list[Check]:
    """Hold the best form of each side against the other's, and the memory of plain calls.

    Args:
        rows: as `scan_speed` returns them, of any shapes and forms.
    """
    checks = []
    for shape in dict.fromkeys((row.sequences, row.steps) for row in rows):
        found = [row for row in rows if (row.sequences, row.steps) == shape]
        size = f"({shape[0]}, {shape[1]}, {_CHANNELS}, {_STATES})"
        ours, theirs = _least(row.ours_s for row in found), _least(row.rival_s for row in found)
        what = f"scan forward and backward {size}, each side's best form, over mambapy"
        checks.append(Check(show="3", name=what, value=theirs / ours, unit="x", rule=">=", bound=FASTER))
        for row in found:
            if row.form == "eager":
                share = row.ours_bytes / row.rival_bytes if row.ours_bytes and row.rival_bytes else float("nan")
                what = f"scan peak memory {size}, of mambapy's"
                checks.append(Check(show="3", name=what, value=share, unit="share", rule="<=", bound=SMALLER))
    return checks


def _least(times: Iterable[float]) -> float:
    return min((t for t in times if not math.isnan(t)), default=float("nan"))


def _speed(sequences: int, steps: int, forms: Sequence[str], repeats: int) -> list[SpeedRow]:
    try:
        recur = rival.parallel()
    except UnsupportedError as e:
        return [SpeedRow(sequences=sequences, steps=steps, form=form, failure=str(e)) for form in forms]
    given = _moved(draw(sequences, steps, _CHANNELS), "cuda")

    def theirs(*tensors: Tensor) -> Tensor:
        return rival.gated_scan(_named(tensors), recur)

    def ours(*tensors: Tensor) -> Tensor:
        return _operator("triton")(_named(tensors), False)  # type: ignore[no-any-return]

    return [
        SpeedRow(sequences=sequences, steps=steps, form=form, failure=f"not compiled above {_COMPILED_STEPS} steps")
        if form == "compiled" and steps > _COMPILED_STEPS
        else _compare(given, ours, theirs, form, repeats)
        for form in forms
    ]


def _compare(given: Operands, ours: Any, theirs: Any, form: str, repeats: int) -> SpeedRow:
    make = {"eager": lambda f: _step(given, f), "graph": _recorded(given), "compiled": _compiled(given)}[form]
    sides: dict[str, Step] = {}
    peaks: dict[str, int] = {}
    failures: dict[str, str] = {}
    try:
        for name, scan in (("sparseflow", ours), ("mambapy", theirs)):
            try:
                sides[name] = make(scan)
                peaks[name] = _peak(sides[name]) if form == "eager" else 0
            except Exception as e:
                # Whatever a side raises: its row says so, and the other is timed alone.
                sides.pop(name, None)
                failures[name] = f"{type(e).__name__}: {e}"
        timings = (
            measure(sides, repeats=repeats, min_time_s=_LEAST_S, budget_s=20.0, failures=failures) if sides else {}
        )
    finally:
        torch._dynamo.reset()
        torch.cuda.empty_cache()
    seconds = {name: timings[name].median_s if name in timings else float("nan") for name in ("sparseflow", "mambapy")}
    return SpeedRow(
        sequences=given.x.shape[0], steps=given.x.shape[1], form=form, ours_s=seconds["sparseflow"],
        rival_s=seconds["mambapy"], ratio=ratio(timings, "mambapy", "sparseflow") if len(timings) > 1 else float("nan"),
        ours_bytes=peaks.get("sparseflow", 0), rival_bytes=peaks.get("mambapy", 0),
        failure="; ".join(f"{name}: {why[:300]}" for name, why in failures.items()) or None,
    )  # fmt: skip


def _step(given: Operands, scan: Callable[..., Tensor]) -> Step:
    leaves = [t.detach().clone().requires_grad_() for t in given.tensors() if t is not None]
    grad = torch.ones_like(given.x)
    return lambda: torch.autograd.grad(scan(*leaves), leaves, grad)


def _recorded(given: Operands) -> Callable[[Callable[..., Tensor]], Step]:
    def make(scan: Callable[..., Tensor]) -> Step:
        step = _step(given, scan)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = step()

        def replay() -> Any:
            graph.replay()
            return results

        return replay

    return make


def _compiled(given: Operands) -> Callable[[Callable[..., Tensor]], Step]:
    return lambda scan: _step(given, torch.compile(scan, dynamic=False))


def _peak(step: Step) -> int:
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


def _reference(given: Operands, state: bool) -> Any:
    return reference.selective_scan(given) if state else reference.selective_scan(given)[0]


def _operator(kernel: str) -> Callable[[Operands, bool], Any]:
    def run(given: Operands, state: bool) -> Any:
        return selective_scan(
            given.x, given.dt, given.A_log, given.B, given.C, given.D, given.z, dt_bias=given.dt_bias,
            return_state=state, kernel=kernel,
        )  # fmt: skip

    return run


def _results(given: Operands, dtype: torch.dtype, scan: Callable[[Operands, bool], Any]) -> list[Tensor]:
    """Return y, the last state, and the gradients of all operands, of the same direction everywhere."""
    leaves = [t.detach().to(dtype).requires_grad_() for t in given.tensors() if t is not None]
    y, state = scan(_named(leaves), True)
    g = torch.Generator().manual_seed(1)
    towards = torch.randn(y.shape, generator=g).to(y.device, dtype)
    return [y.detach(), state.detach(), *torch.autograd.grad(y, leaves, towards)]


def _error(found: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    return max(
        float((a.cpu().double() - b).abs().max() / b.abs().max().clamp(min=1e-30))
        for a, b in zip(found, truth, strict=True)
    )


def _named(tensors: Sequence[Tensor]) -> Operands:
    named: dict[str, Any] = dict(zip(_NAMES, tensors, strict=True))
    return Operands(**named)


def _moved(given: Operands, device: str) -> Operands:
    moved: dict[str, Any] = {name: getattr(given, name).to(device) for name in _NAMES}
    return Operands(**moved)
