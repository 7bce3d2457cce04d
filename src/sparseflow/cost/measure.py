"""Time several functions side by side in one run, so that noise hits them alike."""

import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sparseflow.errors import ConfigError, MeasurementError

__all__ = ["Timing", "measure", "ratio"]

_MAX_CALLS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Time of one call of a function.

    Args:
        median_s: median over the rounds.
        iqr_s: distance between the first and the third quartile.
        min_s: fastest round.
        repeats: number of rounds.
        rounds_s: the time of every round, in order, for `ratio`.
    """

    median_s: float
    iqr_s: float
    min_s: float
    repeats: int
    rounds_s: tuple[float, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, rounds_s: Iterable[float]) -> "Timing":
        """Summarise the time of every round.

        Raises:
            MeasurementError: no round, or a time that is not finite and positive.

        >>> Timing.of([3.0, 1.0, 2.0])
        Timing(median_s=2.0, iqr_s=1.0, min_s=1.0, repeats=3)
        """
        kept = tuple(rounds_s)
        if not kept:
            raise MeasurementError("nothing was timed; allow at least one round")
        if not all(math.isfinite(x) and x > 0 for x in kept):
            raise MeasurementError(f"a timed round is not a positive number of seconds: {kept}; raise min_time_s")
        low, middle, high = (_quantile(kept, q) for q in (0.25, 0.5, 0.75))
        return cls(median_s=middle, iqr_s=high - low, min_s=min(kept), repeats=len(kept), rounds_s=kept)


def measure(
    fns: Mapping[str, Callable[[], Any]],
    *,
    warmup: int = 3,
    repeats: int = 20,
    min_time_s: float = 1e-3,
    budget_s: float | None = None,
    failures: MutableMapping[str, str] | None = None,
    on_round: Callable[[int], None] | None = None,
) -> dict[str, Timing]:
    """Time functions in interleaved rounds and summarise each.

    Every round calls every function; the order turns by one from round to
    round, so that a slow phase of the machine or a warm cache favours nobody.
    Within a round a short function is called often enough to last
    `min_time_s`. A function whose result holds CUDA tensors is timed by CUDA
    events between synchronisations; any other by the wall clock.

    Args:
        fns: functions without arguments, by name.
        warmup: untimed calls of each before the first round, at least 1.
        repeats: rounds.
        min_time_s: least time of one function in one round, in seconds.
        budget_s: after this many seconds, warm-up included, no further round
            starts; one full round always runs.
        failures: where to note functions that raise, as name to reason; they
            are then left out of the result. None: the first failure raises.
        on_round: called with the number of finished rounds, outside the timer,
            after the warm-up (0) and after every round.

    Returns:
        Timing by name, in the order of `fns`.

    Raises:
        ConfigError: no function, or a count or time out of range.
        MeasurementError: a function raised and `failures` is None.

    >>> timings = measure({"a": lambda: sum(range(100)), "b": lambda: None}, repeats=3)
    >>> timings["a"].median_s > timings["b"].median_s > 0
    True
    """
    if not fns:
        raise ConfigError("measure was given no function")
    if warmup < 1 or repeats < 1 or not min_time_s >= 0 or (budget_s is not None and not budget_s >= 0):
        raise ConfigError(
            f"measure needs warmup >= 1, repeats >= 1 and times >= 0; "
            f"got warmup={warmup}, repeats={repeats}, min_time_s={min_time_s}, budget_s={budget_s}"
        )
    spent = partial(_spent, budget_s, time.perf_counter())
    runners: dict[str, _Runner] = {}
    for name, fn in fns.items():
        runner = _Runner(fn, min_time_s)
        if _try(name, partial(runner.warm_up, warmup, spent), failures):
            runners[name] = runner

    gc_was_on = gc.isenabled()
    gc.disable()
    try:
        tell = on_round or _nobody
        tell(0)
        for done in range(repeats):
            if done and spent():
                break
            for name in _turned(list(runners), done):
                runner = runners[name]
                if not _try(name, runner.time_once, failures):
                    del runners[name]
            tell(done + 1)
    finally:
        if gc_was_on:
            gc.enable()
    return {name: Timing.of(runner.rounds_s) for name, runner in runners.items()}


def ratio(timings: Mapping[str, Timing], base: str, other: str, *, quantile: float = 0.5) -> float:
    """Return how many times faster `other` is than `base`, above 1 if it is faster.

    median over rounds r of base_s[r] / other_s[r]: each round compares two
    times taken next to each other, so drift of the machine cancels.

    Args:
        timings: result of one `measure` call.
        base: name of the function to compare with.
        other: name of the function to judge.
        quantile: which quantile of the per-round ratios; below 0.5 is a more
            careful claim.

    Raises:
        ConfigError: a name is not in `timings`, or the quantile is outside 0..1.
        MeasurementError: the two were not timed in the same rounds.

    >>> ratio({"a": Timing.of([2.0, 4.0]), "b": Timing.of([1.0, 2.0])}, "a", "b")
    2.0
    """
    for name in (base, other):
        if name not in timings:
            raise ConfigError(f"no timing of {name!r}; there are {', '.join(sorted(timings)) or 'none'}")
    if not 0 <= quantile <= 1:
        raise ConfigError(f"quantile is {quantile}; expected 0 to 1")
    first, second = timings[base].rounds_s, timings[other].rounds_s
    if not first or len(first) != len(second):
        raise MeasurementError(
            f"{base!r} has {len(first)} rounds and {other!r} has {len(second)}; time them in one measure call"
        )
    return _quantile([a / b for a, b in zip(first, second, strict=True)], quantile)


class _Runner:
    """One function with its inner call count, its clock and its rounds."""

    def __init__(self, fn: Callable[[], Any], min_time_s: float) -> None:
        self.fn = fn
        self.min_time_s = min_time_s
        self.calls = 1
        self.device: Any = None
        self.rounds_s: list[float] = []

    def warm_up(self, times: int, spent: Callable[[], bool]) -> None:
        """Call the function, learn its device, and find how often to call it in a round."""
        self.device = _cuda_device(self.fn())
        for _ in range(times - 1):
            if spent():
                break
            self.fn()
        while (seconds := self._seconds()) < self.min_time_s and self.calls < _MAX_CALLS:
            wanted = math.ceil(self.calls * self.min_time_s / max(seconds, 1e-9))
            self.calls = min(max(wanted, self.calls + 1), _MAX_CALLS)

    def time_once(self) -> None:
        """Time one round."""
        self.rounds_s.append(self._seconds() / self.calls)

    def _seconds(self) -> float:
        fn, calls = self.fn, self.calls
        if self.device is None:
            begin = time.perf_counter()
            for _ in range(calls):
                fn()
            return time.perf_counter() - begin
        torch = _torch()
        with torch.cuda.device(self.device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize(self.device)
            start.record()
            for _ in range(calls):
                fn()
            end.record()
            torch.cuda.synchronize(self.device)
            return float(start.elapsed_time(end)) / 1e3


def _try(name: str, step: Callable[[], None], failures: MutableMapping[str, str] | None) -> bool:
    try:
        step()
    except Exception as e:
        reason = f"{type(e).__name__}: {e}"
        if failures is None:
            raise MeasurementError(f"{name!r} failed while it was timed: {reason}") from e
        failures[name] = reason
        return False
    return True


def _nobody(_: int) -> None:
    """Listen to nothing."""


def _turned(names: list[str], by: int) -> list[str]:
    shift = by % len(names) if names else 0
    return names[shift:] + names[:shift]


def _spent(budget_s: float | None, started: float) -> bool:
    return budget_s is not None and time.perf_counter() - started >= budget_s


def _quantile(values: Iterable[float], q: float) -> float:
    ordered = sorted(values)
    if q == 0.5:
        return statistics.median(ordered)
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def _torch() -> Any:
    """Return torch if the program uses it; timing plain functions does not import it."""
    return sys.modules.get("torch")


def _cuda_device(result: Any) -> Any:
    """Return the CUDA device of the first CUDA tensor in a result, or None."""
    torch = _torch()
    if torch is None or not torch.cuda.is_initialized():
        return None
    waiting = [result]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            if value.is_cuda:
                return value.device
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
    return None
