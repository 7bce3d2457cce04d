"""Whole networks that a proxy is judged on: as they run, and as the layers that a trace finds."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.hardware.proxy import LayerSpec, layers_of
from sparseflow.nn.models.cmamba import CMamba, ModelArgs
from sparseflow.nn.models.convnets.resnet import resnet18
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.trace import trace

__all__ = ["Subject", "subjects"]

_VIT_B = {
    "img_size": 224, "num_classes": 101, "embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0,
    "patch_size": 16,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One network and its sample.

    Args:
        name: with batch and precision.
        model: in eval mode, on its device.
        sample: its input.
        layers: as the trace of one sample finds them, scaled to the batch.
    """

    name: str
    model: nn.Module
    sample: Tensor
    layers: tuple[LayerSpec, ...]


def subjects(device: torch.device, but: Collection[str] = ()) -> Iterator[Subject]:
    """Yield ViT-B, CMamba and ResNet-18, in half precision on a GPU where they have it.

    Args:
        device: where they run.
        but: names that are left out.
    """
    for label, build, shape, batch, precision in _PLANS["gpu" if device.type == "cuda" else "cpu"]:
        name = f"{label} B{batch} {precision}"
        if name in but:
            continue
        torch.manual_seed(0)
        model = build().eval()
        # CMamba on a CPU is one compiled operator; with a hook inside it runs as its modules, which are predicted.
        next(model.children()).register_forward_hook(_pass)
        model = model.to(device)
        layers = layers_of(trace(model, torch.zeros(1, *shape, device=device)), batch=batch, precision=precision)
        dtype = getattr(torch, precision)
        sample = torch.randn(batch, *shape).to(device, dtype)
        model = model.to(dtype)
        if len(shape) == 3 and device.type == "cuda":
            model, sample = model.to(memory_format=torch.channels_last), sample.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        yield Subject(name=name, model=model, sample=sample, layers=layers)


def _pass(_module: nn.Module, _inputs: Any, output: Any) -> Any:
    return output


_Plan = tuple[str, Callable[[], nn.Module], tuple[int, ...], int, str]
_VIT: Callable[[], nn.Module] = partial(VideoViT, num_frames=1, **_VIT_B)  # type: ignore[arg-type]
_CLIP: Callable[[], nn.Module] = partial(VideoViT, num_frames=8, **_VIT_B)  # type: ignore[arg-type]
_PLANS: dict[str, tuple[_Plan, ...]] = {
    "gpu": (
        ("ViT-B/16", _VIT, (1, 3, 224, 224), 32, "bfloat16"),
        ("ViT-B/16, 8 frames", _CLIP, (8, 3, 224, 224), 4, "bfloat16"),
        ("CMamba ETT", lambda: CMamba(ModelArgs.paper(7)), (7, 96), 64, "float32"),
        ("ResNet-18", lambda: resnet18(num_classes=1000), (3, 112, 112), 32, "bfloat16"),
    ),
    "cpu": (
        ("ViT-B/16", _VIT, (1, 3, 224, 224), 1, "float32"),
        ("CMamba ETT", lambda: CMamba(ModelArgs.paper(7)), (7, 96), 4, "float32"),
        ("ResNet-18", lambda: resnet18(num_classes=10), (3, 32, 32), 1, "float32"),
    ),
}
