"""Work on fixed tensors that is recorded once and then replayed as one CUDA graph."""

from collections.abc import Callable
from typing import Any

import torch

from sparseflow.errors import MeasurementError

__all__ = ["Graphed", "recorded"]


class Graphed:
    """Calls a function, on the second call and later by replaying its kernels.

    Everything that differs from call to call lies in tensors that the function reads: numbers of the host are those of
    the recording. Random numbers of CUDA's default generator go on as in plain calls.

    Args:
        run: takes and returns nothing.
    """

    def __init__(self, run: Callable[[], None]) -> None:
        self.run = run
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Do the work once.

        Raises:
            MeasurementError: it cannot be recorded.
        """
        if self.graph is not None:
            self.graph.replay()
            return
        try:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self.run()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.run()
        except RuntimeError as e:
            raise MeasurementError(f"this cannot be recorded as a CUDA graph: {e}; leave graph out") from e
        self.graph = graph


def recorded(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return what replays a call that is recorded now, and returns the tensors of its recording.

    It keeps the call, and with it the memory that the graph reads; a result on CUDA lets clocks wait for the device.

    Args:
        call: returns tensors.

    Raises:
        MeasurementError: it cannot be recorded.
    """
    result: list[Any] = []

    def run() -> None:
        result[:] = [call()]

    graphed = Graphed(run)
    graphed()

    def replay() -> Any:
        graphed()
        return result[0]

    return replay
