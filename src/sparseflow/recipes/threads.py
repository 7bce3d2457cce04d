"""A count of threads for one measurement."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["with_threads"]


@contextmanager
def with_threads(count: int) -> Iterator[None]:
    """Run with `count` threads; compiled code holds its count, so it is dropped on both sides.

    >>> with with_threads(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch._dynamo.reset()
    torch.set_num_threads(count)
    try:
        with torch._inductor.config.patch(fx_graph_cache=False):
            yield
    finally:
        torch.set_num_threads(before)
        torch._dynamo.reset()
