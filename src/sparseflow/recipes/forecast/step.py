"""One step of training a forecaster on tensors of the device, run as it is or replayed as one CUDA graph."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.recipes.forecast.dataset import Pool
from sparseflow.recipes.forecast.mixup import channel_mixup
from sparseflow.recipes.graphed import Graphed
from sparseflow.recipes.ranks import ALONE, Ranks

__all__ = ["Step", "make_adam"]


def make_adam(model: nn.Module, lr: float, *, graph: bool) -> torch.optim.Adam:
    """Return Adam for a model; on CUDA fused, and with a rate that a graph reads anew.

    Args:
        model: its parameters are trained.
        lr: learning rate.
        graph: whether steps are recorded.
    """
    device = next(model.parameters()).device
    if device.type != "cuda":
        return torch.optim.Adam(model.parameters(), lr=lr)
    rate = torch.tensor(lr, device=device) if graph else lr
    return torch.optim.Adam(model.parameters(), lr=rate, fused=True, capturable=graph)


class Step:
    """Takes windows, mixes their variates and learns them; the loss is the mean |forecast - truth| over the targets.

    Args:
        model: from `[B, V, L]` to `[B, V, F]`, trained in place.
        pool: windows, on the device of the model.
        optimizer: see `make_adam`.
        size: windows a step.
        sigma: of Channel Mixup.
        targets: variates that are learned.
        cast: what calls of the network are wrapped in.
        graph: replay steps, on CUDA, of a process alone.
        after: what follows each step of the optimizer, recorded with it.
        ranks: the processes that share each step; all draw the same order and mix the same windows, then each learns
            its own of them.

    Attributes:
        loss: sum of the losses since `restart`, on the device.
        steps: how many those are.
    """

    def __init__(
        self,
        model: nn.Module,
        pool: Pool,
        optimizer: torch.optim.Optimizer,
        *,
        size: int,
        sigma: float,
        targets: tuple[int, ...],
        cast: Callable[[], Any],
        graph: bool = False,
        after: Callable[[], None] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        device = next(model.parameters()).device
        self.pool, self.optimizer, self.cast, self.sigma, self.ranks = pool, optimizer, cast, sigma, ranks
        self.after = after
        self.model = ranks.wrap(model)
        self.mine = ranks.share(size)
        self.index = torch.zeros(size, dtype=torch.int64, device=device)
        self.targets = None if targets == tuple(range(pool.variates)) else torch.tensor(targets, device=device)
        self.loss, self.steps = torch.zeros((), device=device), 0
        # What all processes draw alike; a process alone draws all from the default generator, which graphs go on with.
        self.drawn = torch.Generator(device) if ranks.count > 1 else None
        recorded = graph and device.type == "cuda" and ranks.count == 1
        self._go: Callable[[], None] = Graphed(self.run) if recorded else self.run

    def restart(self, seed: int | None = None) -> None:
        """Set the sum of the losses to zero.

        Args:
            seed: of all random numbers from here on; None goes on with those of before.
        """
        self.loss.zero_()
        self.steps = 0
        if seed is None:
            return
        if self.drawn is None:
            torch.manual_seed(seed)
        else:
            self.drawn.manual_seed(seed)
            torch.manual_seed(seed * self.ranks.count + self.ranks.rank)

    def order(self, windows: int) -> list[Tensor]:
        """Return the windows of each step of an epoch, in a new order; a smaller rest is left out.

        Args:
            windows: the first so many of the pool are used.
        """
        size = len(self.index)
        drawn = torch.randperm(windows, device=self.index.device, generator=self.drawn)
        return list(torch.split(drawn[: len(drawn) - len(drawn) % size], size))

    def __call__(self, index: Tensor, rate: float) -> None:
        """Learn the windows `index` at a learning rate.

        Raises:
            MeasurementError: the step cannot be recorded as a graph.
        """
        self.index.copy_(index)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self.steps += 1
        self._go()

    def run(self) -> None:
        """Take the step in `index` now."""
        with torch.no_grad():
            x, y = channel_mixup(*self.pool.take(self.index), self.sigma, self.drawn)
            x, y = x[self.mine], y[self.mine]
        with self.cast():
            forecast = self.model(x)
        if self.targets is not None:
            forecast, y = forecast[:, self.targets], y[:, self.targets]
        loss = F.l1_loss(forecast.float(), y)
        self.ranks.backward(loss)
        self.optimizer.step()
        if self.after is not None:
            self.after()
        # At the end, so that a recording starts without gradients of the step before it.
        self.optimizer.zero_grad(set_to_none=True)
        self.loss += loss.detach()
