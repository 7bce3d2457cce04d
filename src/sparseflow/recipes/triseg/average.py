"""A moving average of a model's weights, which often predicts better than the last ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError

__all__ = ["Average"]


class Average(nn.Module):
    """Follows every floating-point parameter and buffer of a model: a += (1 − d)·(w − a) at each update.

    d = min(decay, (1 + n) / (10 + n)) at the nth update, so that a short run is not judged by the weights that it began
    with. Its own state is a list of buffers, so that it is saved and loaded as a module is.

    Args:
        model: followed from its present state on; keeps its tensors, so load into it in place.
        decay: share that stays at an update in the long run, 0 to below 1.

    Raises:
        ConfigError: a decay outside its range.

    Source: Polyak and Juditsky, SIAM J. Control Optim. 1992, with exponential weights.
    """

    updates: Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ConfigError(f"decay is {decay}; expected 0 to below 1")
        self.decay = decay
        self._all = list(model.state_dict().values())
        self._live = [t for t in self._all if t.is_floating_point()]
        for i, tensor in enumerate(self._live):
            self.register_buffer(str(i), tensor.detach().clone())
        # On the device, as a graph that replays an update repeats what the host counted.
        self.register_buffer("updates", torch.zeros((), device=self._all[0].device if self._all else None))

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the model's present state; reads nothing back from the device."""
        self.updates.add_(1)
        decay = ((1 + self.updates) / (10 + self.updates)).clamp(max=self.decay)
        averages = self._averages()
        torch._foreach_mul_(averages, decay)
        torch._foreach_add_(averages, torch._foreach_mul(self._live, 1 - decay))

    def _averages(self) -> list[Tensor]:
        return [self.get_buffer(str(i)) for i in range(len(self._live))]

    @contextmanager
    def applied(self, after: Callable[[], None] | None = None) -> Iterator[None]:
        """Give the model the averages inside the block, and its own state back behind it.

        Args:
            after: called once the averages are in place, as to round codes anew.
        """
        with torch.no_grad():
            own = [t.clone() for t in self._all]
            torch._foreach_copy_(self._live, self._averages())
            if after is not None:
                after()
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, before in zip(self._all, own, strict=True):
                    tensor.copy_(before)
