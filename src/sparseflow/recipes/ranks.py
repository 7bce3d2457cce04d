"""The processes of one training: one alone, or several that `torchrun` started and Lightning Fabric joins."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir.env import processes
from sparseflow.recipes.device import device_of

__all__ = ["ALONE", "Ranks", "is_first", "join"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The place of this process among those of a training.

    Args:
        rank: its number, from 0.
        count: how many there are.
        fabric: Lightning Fabric, which joins them; None for one alone.
    """

    rank: int = 0
    count: int = 1
    fabric: Any = None

    def share(self, size: int) -> slice:
        """Return which of `size` windows of a step this process takes.

        Raises:
            ConfigError: they cannot be divided equally.

        >>> Ranks(rank=1, count=4).share(64)
        slice(16, 32, None)
        """
        if size % self.count:
            raise ConfigError(f"batch_size is {size}; {self.count} processes cannot divide it equally")
        part = size // self.count
        return slice(part * self.rank, part * (self.rank + 1))

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return a model whose gradients are the mean over the processes; the weights are those of the first one."""
        wrapped: nn.Module = model if self.fabric is None else self.fabric.setup_module(model)
        return wrapped

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, of a model that `wrap` returned, to those of the weights."""
        if self.fabric is None:
            torch.autograd.backward(loss)
        else:
            self.fabric.backward(loss)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over the processes, the same in each."""
        if self.fabric is None:
            return value
        total: Tensor = self.fabric.all_reduce(value, reduce_op="sum")
        return total

    def tell(self, value: Any) -> Any:
        """Return the value of the first process."""
        return value if self.fabric is None else self.fabric.broadcast(value)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.fabric is not None:
            self.fabric.barrier()


ALONE = Ranks()
"""The place of a process that trains alone."""


def join(device: str) -> tuple[Ranks, torch.device]:
    """Return the place of this process, and its device.

    Processes that `torchrun` started, on one machine or several, are joined: by NCCL on CUDA, a GPU each, else by Gloo.

    Args:
        device: "auto", "cpu" or "cuda".

    Raises:
        ConfigError: no such device.
        UnsupportedError: several processes, and Lightning Fabric is not installed.
    """
    where = device_of(device)
    count, here = processes()
    if count == 1 or not (torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()):
        return ALONE, where
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    except ImportError as e:
        raise UnsupportedError("several processes are joined by Lightning Fabric; pip install sparseflow[train]") from e
    fabric = Fabric(
        accelerator="cuda" if where.type == "cuda" else "cpu", strategy="ddp", devices=here, num_nodes=count // here,
        plugins=TorchElasticEnvironment(),
    )  # fmt: skip
    fabric.launch()
    return Ranks(rank=fabric.global_rank, count=count, fabric=fabric), fabric.device


def is_first() -> bool:
    """Tell whether this is the process that writes and speaks: the first one, or one alone."""
    return not (torch.distributed.is_available() and torch.distributed.is_initialized()) or (
        torch.distributed.get_rank() == 0
    )
