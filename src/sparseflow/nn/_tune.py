"""Pick the fastest of a few functions by trying them side by side."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from sparseflow.errors import UnsupportedError

__all__ = ["fastest"]


def fastest(fns: Mapping[str, Callable[[], Any]], *, rounds: int = 5, margin: float = 0.02) -> str:
    """Return the name of the fastest function, judged by its least time over interleaved rounds.

    Args:
        fns: the first is the one to beat; another that raises `UnsupportedError` is left out.
        rounds: timed calls of each, after one untimed.
        margin: by which fraction another must be faster than the first.

    >>> fastest({"slow": lambda: sum(range(20000)), "quick": lambda: None})
    'quick'
    """
    running: dict[str, Callable[[], Any]] = {}
    for name, fn in fns.items():
        try:
            fn()
        except UnsupportedError:
            if not running:
                raise
            continue
        running[name] = fn
    best = dict.fromkeys(running, float("inf"))
    for _ in range(rounds):
        for name, fn in running.items():
            begin = time.perf_counter()
            fn()
            best[name] = min(best[name], time.perf_counter() - begin)
    first = next(iter(best))
    quickest = min(best, key=lambda name: best[name])
    return quickest if best[quickest] * (1 + margin) <= best[first] else first
