"""What reaches every layer, and the network as a chain of layers for the report."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.data import ImageSet
from sparseflow.ir import LayerReport, Report
from sparseflow.nn.functional import reset_net
from sparseflow.report import Stage, image_png, maps_png

__all__ = ["Inputs", "first_image_inputs", "record_inputs", "stages"]

Inputs = dict[str, Tensor]


def first_image_inputs(model: nn.Module, x: Tensor, names: Iterable[str]) -> Inputs:
    """Return what reaches the named layers when one image passes through.

    Args:
        model: network in eval mode; left reset.
        x: one image `[1, C, H, W]`.
        names: dotted module names; others than modules are left out.

    Returns:
        Input by name, `[T, C, H, W]` or `[T, K]`; T is 1 before the first neuron.
    """
    found: Inputs = {}
    for name, y in record_inputs(model, x, names).items():
        kept = 3 if y.dim() >= 4 else 1
        found[name] = y.reshape(-1, *y.shape[y.dim() - kept :])
    return found


def record_inputs(model: nn.Module, x: Tensor, names: Iterable[str]) -> Inputs:
    """Return a copy of what reaches the named modules in one forward of `x`, as they get it.

    Args:
        model: network in eval mode; left reset.
        x: one input batch.
        names: dotted module names; others than modules are left out, and so is what gets no tensor with two axes.
    """
    modules = dict(model.named_modules())
    found: Inputs = {}
    handles = []
    for name in names:
        if name not in modules:
            continue

        def keep(_: nn.Module, args: tuple[Any, ...], name: str = name) -> None:
            if args and isinstance(args[0], Tensor) and args[0].dim() > 1:
                found[name] = args[0].detach().clone()

        handles.append(modules[name].register_forward_pre_hook(keep))
    try:
        reset_net(model)
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
        reset_net(model)
    return found


def stages(model: nn.Module, report: Report, inputs: Inputs, images: ImageSet) -> tuple[Stage, ...]:
    """Return the layers of a report as a chain, with pictures of what reaches them.

    Args:
        model: the network the report is about.
        report: outcome of its optimisation.
        inputs: as from `first_image_inputs`.
        images: their first image is the one that passed through.
    """
    modules = dict(model.named_modules())
    return tuple(_stage(row, modules.get(row.name), inputs.get(row.name), images) for row in report.layers)


def _stage(row: LayerReport, module: nn.Module | None, x: Tensor | None, images: ImageSet) -> Stage:
    spikes = x is not None and bool(((x == 0) | (x == 1)).all())
    png = None
    if x is not None:
        is_image = x.shape[1:] == images.images.shape[1:] and not spikes
        png = image_png(images.images[0].numpy()) if is_image else maps_png(x[-1].numpy(), spikes=spikes)
    return Stage(
        name=row.name,
        detail=_detail(module),
        receives="bits" if spikes else "floats",
        density=row.density,
        kernel=row.kernel,
        png=png,
    )


def _detail(module: nn.Module | None) -> str:
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        stride = f", stride {module.stride[0]}" if module.stride[0] != 1 else ""
        return f"{height}×{width}, {module.in_channels} → {module.out_channels}{stride}"
    if isinstance(module, nn.Linear):
        return f"linear, {module.in_features} → {module.out_features}"
    return "" if module is None else type(module).__name__
