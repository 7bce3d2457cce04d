"""The compiled rival of the coverage benchmark on a CPU, given up when it takes too long."""

import copy
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

__all__ = ["OutOfTime", "compiled"]


class OutOfTime(Exception):
    """The compiler was given up."""


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    def strike(*_: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def compiled(model: nn.Module, sample: Tensor, seconds: float) -> Callable[[], Any]:
    """Return a call of the compiled network, neurons reset before each run; it has run once.

    Args:
        model: network of SpikingJelly in eval mode; copied.
        sample: its input.
        seconds: how long the compiler may take.

    Raises:
        OutOfTime: it took longer.
        Exception: whatever else the compiler says.
    """
    # After a few recompilations of one forward, dynamo would silently stay eager.
    torch._dynamo.reset()
    net = copy.deepcopy(model)
    forward = torch.compile(net)

    def run() -> Any:
        functional.reset_net(net)
        with torch.no_grad():
            return forward(sample)

    began = time.perf_counter()
    try:
        with _deadline(seconds):
            run()
    except Exception as e:
        # The compiler may have wrapped it into an error of its own.
        if time.perf_counter() - began >= seconds:
            raise OutOfTime(f"not compiled within {seconds:g} s") from e
        raise
    return run
