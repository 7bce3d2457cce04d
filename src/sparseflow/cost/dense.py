"""Dense rivals: one model in every way torch can run it in float32 on this device.

A speed-up is quoted against the fastest of these, never against the slowest.
"""

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.cost.measure import measure, ratio
from sparseflow.errors import ConfigError, MeasurementError
from sparseflow.ir.env import cxx

__all__ = ["DenseVariants", "compiler_available", "dense_variants"]

_LAYOUTS = ("nchw", "channels_last")
_ROUNDS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseVariants:
    """Callables without arguments that run the same forward in different ways.

    Args:
        fns: variant name to callable; each has run once already.
        failures: variant name to the reason why it could not run.
        inputs: the tensors that the callables read, one a layout.
        left_out: variant name to the measured reason why it was not compiled.
    """

    fns: dict[str, Callable[[], Any]]
    failures: dict[str, str]
    inputs: tuple[Tensor, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)

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
    modes: tuple[str, ...] = ("compile", "compile-frozen"),
    prune: float | None = None,
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
        modes: which compiled forms; inductor's cache keeps the first for the next process,
            not the second.
        prune: compile contiguous tensors only if their eager forward, timed here, takes
            at most this many times as long as channels_last, which inductor prefers
            and which is always compiled; None compiles all.

    Raises:
        ConfigError: `prune` is below 1.
        MeasurementError: not even the eager forward runs.
    """
    if prune is not None and not prune >= 1:
        raise ConfigError(f"prune is {prune}; expected 1 or more, as 1.1")
    made = DenseVariants(fns={}, failures={})
    inputs = {name: _laid_out(x, name) for name in _LAYOUTS if name == "nchw" or x.dim() in (4, 5)}
    for layout, y in inputs.items():
        _prepare(made, model, y, "eager", layout, reset)
    slow = _slow(made.fns, prune) if compile and prune is not None else {}
    for layout in (name for name in inputs if compile and name in compile_layouts):
        for mode in modes:
            if layout in slow:
                made.left_out[f"{mode} {layout}"] = slow[layout]
            else:
                _prepare(made, model, inputs[layout], mode, layout, reset)
    if not made.fns:
        raise MeasurementError(f"the dense model runs in no way: {made.failures}; run model(x) by itself to see why")
    return replace(made, inputs=tuple(inputs.values()))


def _prepare(
    made: DenseVariants, model: nn.Module, x: Tensor, mode: str, layout: str, reset: Callable[[nn.Module], None] | None
) -> None:
    """Run one variant once, and note it among the functions or the failures."""
    net = copy.deepcopy(model)
    if reset is not None:
        reset(net)
    if layout == "channels_last":
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fn = _callable(net, x, mode, reset)
    try:
        with torch.no_grad():
            fn()
    except Exception as e:
        made.failures[f"{mode} {layout}"] = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"[:300]
        return
    made.fns[f"{mode} {layout}"] = fn


def _slow(eager: Mapping[str, Callable[[], Any]], prune: float) -> dict[str, str]:
    """Return why to compile nothing for a layout, by a few eager rounds of each."""
    if len(eager) < 2:
        return {}
    timings = measure(eager, warmup=2, repeats=_ROUNDS, min_time_s=0.0)
    times = ratio(timings, "eager nchw", "eager channels_last")
    reason = f"left out: eager nchw took {times:.2f} times as long as eager channels_last"
    return {"nchw": reason} if times > prune else {}


def _laid_out(x: Tensor, layout: str) -> Tensor:
    if layout == "nchw":
        return x.clone(memory_format=torch.contiguous_format)
    flat = x.flatten(0, 1) if x.dim() == 5 else x
    flat = flat.clone(memory_format=torch.channels_last)
    return flat.view(*x.shape[:2], *flat.shape[1:]) if x.dim() == 5 else flat


def _callable(net: nn.Module, x: Tensor, mode: str, reset: Callable[[nn.Module], None] | None) -> Callable[[], Any]:
    forward: Callable[[Tensor], Any] = net
    if mode != "eager":
        # As an option and not by a patch around the first call: dynamo would take the other mode's code for this one.
        forward = torch.compile(net, options={"freezing": mode == "compile-frozen"})

    def run() -> Any:
        if reset is not None:
            reset(net)
        with torch.no_grad():
            return forward(x)

    return run
