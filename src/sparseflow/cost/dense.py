"""Dense rivals: one model in every way torch can run it in float32 on this device.

A speed-up is quoted against the fastest of these, never against the slowest.
"""

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.errors import MeasurementError
from sparseflow.ir.env import cxx

__all__ = ["DenseVariants", "compiler_available", "dense_variants"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseVariants:
    """Callables without arguments that run the same forward in different ways.

    Args:
        fns: variant name to callable; each has run once already.
        failures: variant name to the reason why it could not run.
        inputs: the tensors that the callables read, one a layout.
    """

    fns: dict[str, Callable[[], Any]]
    failures: dict[str, str]
    inputs: tuple[Tensor, ...] = ()

    def feed(self, x: Tensor) -> None:
        """Let every callable read the values of `x` from now on; nothing is compiled anew."""
        for y in self.inputs:
            y.copy_(x)


def compiler_available() -> bool:
    """Tell whether torch.compile can find a C++ compiler on this machine.

    >>> isinstance(compiler_available(), bool)
    True
    """
    return any(shutil.which(name) for name in (cxx(), "g++", "clang++", "c++") if name)


def dense_variants(
    model: nn.Module,
    x: Tensor,
    *,
    reset: Callable[[nn.Module], None] | None = None,
    compile: bool = True,
    compile_layouts: tuple[str, ...] = ("nchw", "channels_last"),
) -> DenseVariants:
    """Prepare the float32 forward of `model(x)` in every way worth timing.

    Eager and compiled (inductor; default, and with frozen weights so that
    oneDNN packs them once), each with contiguous and channels_last tensors.
    Conversion of `x` to channels_last stands outside the callable: the rival
    gets its input in the layout it likes best.

    Args:
        model: module in eval mode; copied, never changed.
        x: one input batch, 4-D `[N, C, H, W]` or 5-D `[T, N, C, H, W]`.
        reset: clears the state of stateful neurons; runs inside the timer.
        compile: also prepare the compiled variants.
        compile_layouts: layouts to compile for; inductor moves convolutions to
            channels_last by itself, so that layout alone will do for single layers.

    Raises:
        MeasurementError: not even the eager forward runs.
    """
    fns: dict[str, Callable[[], Any]] = {}
    failures: dict[str, str] = {}
    inputs = []
    for layout in ("nchw", "channels_last"):
        if layout == "channels_last" and x.dim() not in (4, 5):
            continue
        y = _laid_out(x, layout)
        inputs.append(y)
        for mode in ("eager", "compile", "compile-frozen") if compile and layout in compile_layouts else ("eager",):
            name = f"{mode} {layout}"
            net = copy.deepcopy(model)
            if reset is not None:
                reset(net)
            if layout == "channels_last":
                net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            fn = _callable(net, y, mode, reset)
            try:
                with torch.no_grad(), torch._inductor.config.patch(freezing=mode == "compile-frozen"):
                    fn()
            except Exception as e:
                failures[name] = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"[:300]
                continue
            fns[name] = fn
    if not fns:
        raise MeasurementError(f"the dense model runs in no way: {failures}; run model(x) by itself to see why")
    return DenseVariants(fns=fns, failures=failures, inputs=tuple(inputs))


def _laid_out(x: Tensor, layout: str) -> Tensor:
    if layout == "nchw":
        return x.clone(memory_format=torch.contiguous_format)
    flat = x.flatten(0, 1) if x.dim() == 5 else x
    flat = flat.clone(memory_format=torch.channels_last)
    return flat.view(*x.shape[:2], *flat.shape[1:]) if x.dim() == 5 else flat


def _callable(net: nn.Module, x: Tensor, mode: str, reset: Callable[[nn.Module], None] | None) -> Callable[[], Any]:
    forward: Callable[[Tensor], Any] = net if mode == "eager" else torch.compile(net)

    def run() -> Any:
        if reset is not None:
            reset(net)
        with torch.no_grad():
            return forward(x)

    return run
