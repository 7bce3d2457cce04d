"""The dense side of the coverage benchmark on a GPU."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from sparseflow.compress.sparsify.rivals import channels_last
from sparseflow.recipes.spike_bench.gpu.rivals import captured

__all__ = ["rivals"]

# Every further form costs a compilation a network.
FORMS = (
    ("eager", torch.float32),
    ("eager", torch.float16),
    ("compile", torch.float16),
    ("compile", torch.float32),
)


def rivals(model: nn.Module, sample: Tensor, *, compile: bool) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """Return the dense forms of a network that run, and the reasons of those that do not.

    Each is replayed as a CUDA graph where it can be captured; state is reset in every forward.

    Args:
        model: network of SpikingJelly in eval mode on the device.
        sample: its input.
        compile: prepare compiled forms too.
    """
    found: dict[str, Callable[[], Any]] = {}
    failures: dict[str, str] = {}
    for mode, dtype in FORMS:
        name = f"{mode} {str(dtype).removeprefix('torch.')}"
        if mode == "compile" and not compile:
            continue
        try:
            found[name] = _ready(model, sample, mode, dtype)
        except Exception as e:
            failures[name] = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"[:200]
    return found, failures


def _ready(model: nn.Module, sample: Tensor, mode: str, dtype: torch.dtype) -> Callable[[], Any]:
    """Prepare one form; it takes and gives float32, as the optimised network does."""
    functional.reset_net(model)
    net = channels_last(copy.deepcopy(model).to(dtype))
    forward: Any = torch.compile(net, dynamic=False) if mode == "compile" else net

    def run() -> Any:
        functional.reset_net(net)
        x = sample.to(dtype)
        x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        with torch.no_grad():
            return tree_map_only(Tensor, lambda y: y.float(), forward(x))

    run()
    return captured(run, sample.device)[0]
