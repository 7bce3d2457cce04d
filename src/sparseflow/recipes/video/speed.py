"""Clips a second of video transformers, timed side by side."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from sparseflow.cost.measure import measure
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.recipes.graphed import recorded

__all__ = ["clips_per_s"]


def clips_per_s(
    models: Mapping[str, VideoViT], clips: Tensor, *, cast: Callable[[], Any] = nullcontext, repeats: int = 5
) -> dict[str, float]:
    """Return clips a second by name, in interleaved rounds; scorers lie inside. On CUDA calls replay one graph each.

    Args:
        models: networks in eval mode, on the device of the clips.
        clips: what a call takes, `[B, T, C, S, S]`.
        cast: what calls are wrapped in.
        repeats: rounds.

    Raises:
        MeasurementError: a call cannot be recorded as a CUDA graph.
    """
    sides: dict[str, Callable[[], Any]] = {}
    for name, model in models.items():

        def call(model: VideoViT = model) -> Any:
            with torch.no_grad(), cast():
                return model(clips)

        sides[name] = recorded(call) if clips.is_cuda else call
    timings = measure(sides, repeats=repeats, min_time_s=1e-2, budget_s=60.0)
    return {name: len(clips) / t.median_s for name, t in timings.items()}
