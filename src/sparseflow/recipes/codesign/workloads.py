"""What is placed on chips: the layers of a traced network, or those of a video transformer with the shares it keeps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sparseflow.errors import DataError
from sparseflow.hardware.proxy import LayerSpec, layers_of
from sparseflow.ir import Workload
from sparseflow.nn.models.video_vit import VideoViT

__all__ = ["kept_layers", "read_workload", "video_layers", "workload_layers"]


def read_workload(path: str | Path) -> Workload:
    """Return the workload of a file that `sparseflow trace` or `Workload.to_json` wrote.

    Raises:
        DataError: the file cannot be read, or holds no workload.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"cannot read workload {path}: {e}; write one with sparseflow trace") from e
    try:
        return Workload.from_json(text)
    except DataError as e:
        raise DataError(f"{path}: {e}") from e


def workload_layers(workload: Workload, *, precision: str = "float32", batch: int = 1) -> tuple[LayerSpec, ...]:
    """Return the layers of a traced network.

    Args:
        workload: of one sample.
        precision: of weights and activations.
        batch: samples.

    Raises:
        ConfigError: the workload has no layer that costs anything.
    """
    return tuple(replace(layer, precision=precision) for layer in layers_of(workload, batch=batch))


def video_layers(model: VideoViT, *, precision: str = "float32", batch: int = 1) -> tuple[LayerSpec, ...]:
    """Return the layers of a network with the shares that its pruner keeps now.

    Of shares that are learned the layers hold tensors, through which figures of layers carry gradients to them: tokens
    behind a stage, and the means of the factors of heads, hidden channels and blocks.

    Args:
        model: with or without a pruner.
        precision: of weights and activations.
        batch: clips.
    """
    pruner = model.pruner
    gates = {} if pruner is None else pruner.gates()
    stages: dict[int, Any] = {}
    if pruner is not None:
        shares = pruner.keeps() if pruner.keep_logits is not None else list(pruner.stages.values())
        stages = {block: shares[i] for i, block in enumerate(pruner.stages)}
    kept = {
        kind: [gates[kind][i].mean() if kind in gates else 1.0 for i in range(model.args.depth)]
        for kind in ("head", "ch", "block")
    }
    return _layers(model, stages, kept, precision, batch)


def kept_layers(model: VideoViT, *, precision: str = "float32", batch: int = 1) -> tuple[LayerSpec, ...]:
    """Return the layers as they run in the end: whole tokens, heads and channels; blocks that are closed are left out.

    A gate keeps its target share, as `ASTPruner.harden` and `compress.prune.slice_model` do.

    Args:
        model: see `video_layers`.
        precision: of weights and activations.
        batch: clips.
    """
    pruner, a = model.pruner, model.args
    stages: dict[int, Any] = {}
    kept: dict[str, list[Any]] = {kind: [1.0] * a.depth for kind in ("head", "ch", "block")}
    if pruner is not None:
        stages = {block: count / a.tokens for block, count in pruner.counts(a.tokens).items()}
        for kind, gate in (("head", pruner.head_gate), ("ch", pruner.channel_gate)):
            if gate is not None:
                kept[kind] = [gate.count / gate.logits.shape[1]] * a.depth
        if pruner.block_gate is not None:
            best = pruner.block_gate()[0].sort(descending=True, stable=True).indices[: pruner.block_gate.count].tolist()
            kept["block"] = [float(i in best) for i in range(a.depth)]
    layers = _layers(model, stages, kept, precision, batch)
    return tuple(layer for layer in layers if isinstance(layer.keep_block, Tensor) or layer.keep_block > 0)


def _layers(
    model: VideoViT, stages: dict[int, Any], kept: dict[str, list[Any]], precision: str, batch: int
) -> tuple[LayerSpec, ...]:
    a = model.args
    common: dict[str, Any] = {"precision": precision, "batch": batch, "channels": a.embed_dim}
    pixels = a.in_chans * a.tubelet_size * a.patch_size**2
    found = [
        LayerSpec(
            name="patch_embed", kind="patch_embed", tokens=a.tokens, attrs=(("in_features", pixels),), **common
        )
    ]  # fmt: skip
    share: Any = 1.0
    for i in range(a.depth):
        share = stages.get(i, share)
        pruned = {"tokens": a.tokens, "keep_token": share, "keep_block": kept["block"][i], **common}
        if a.heads[i]:
            found.append(
                LayerSpec(
                    name=f"blocks.{i}.attn", kind="attn", heads=a.heads[i], keep_head=kept["head"][i],
                    attrs=(("head_dim", a.head_dim),), **pruned,
                )
            )  # fmt: skip
        if a.hidden[i]:
            ratio = a.hidden[i] / a.embed_dim
            found.append(
                LayerSpec(name=f"blocks.{i}.mlp", kind="mlp", mlp_ratio=ratio, keep_channel=kept["ch"][i], **pruned)
            )
    head = {**common, "channels": a.num_classes}
    found.append(LayerSpec(name="head", kind="other", tokens=1, attrs=(("in_features", a.embed_dim),), **head))
    return tuple(found)
