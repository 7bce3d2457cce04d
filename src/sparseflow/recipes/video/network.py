"""The network of a configuration: fresh, or with the weights of an earlier training or of a published one."""

from torch import nn

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.models.video_vit import VideoViT, load_pretrained, load_video
from sparseflow.recipes.video.config import VideoConfig

__all__ = ["SMALL", "build"]

SMALL = {"embed_dim": 128, "depth": 6, "num_heads": 4, "mlp_ratio": 4.0, "patch_size": 8}
"""Sizes for "digits" and "jhmdb" unless `model_args` says otherwise; videos get the seed's, ViT-B/16."""
_SEED = {"embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0, "patch_size": 16}


def build(config: VideoConfig, *, classes: int, channels: int) -> VideoViT:
    """Return the network, on the CPU.

    `init_from` names a file of a training here, whose pruner need not be the same (a dense start of a pruned network),
    or weights of others as `nn.models.video_vit.load_pretrained` takes them. The classifier stays fresh where the
    classes are others.

    Args:
        config: the settings.
        classes: classes of the data.
        channels: channels of a frame.

    Raises:
        ConfigError: sizes or settings of the pruner out of range or unknown; names them.
        DataError: `init_from` cannot be read, or does not fit.
    """
    sizes = _SEED if config.dataset == "ucf101" else SMALL
    given = {
        **sizes, **config.model_args, "img_size": config.img_size, "num_frames": config.num_frames,
        "num_classes": classes, "in_chans": channels,
    }  # fmt: skip
    pruned = config.mode == "single_device_ast"
    try:
        model = VideoViT(**given, use_ast_prune=pruned, ast_cfg=config.ast_cfg if pruned else None)
    except TypeError as e:
        raise ConfigError(f"model_args holds an argument that VideoViT lacks: {e}") from e
    if config.position_std is not None:
        for table in (getattr(model, name, None) for name in ("pos_embed", "time_embed")):
            if table is not None:
                nn.init.normal_(table, std=config.position_std)
    if config.init_from is not None:
        _start(model, config.init_from)
    return model


def _start(model: VideoViT, path: str) -> None:
    try:
        found, _ = load_video(path)
    except DataError as e:
        if "holds no VideoViT" not in str(e):
            raise
        load_pretrained(model, path)
        return
    own, stored = model.state_dict(), found.state_dict()
    taken = {
        k: v
        for k, v in stored.items()
        if k in own and (own[k].shape == v.shape or not k.startswith(("head.", "pruner.")))
    }
    if wrong := [k for k, v in taken.items() if own[k].shape != v.shape]:
        raise DataError(f"{path}: {wrong[0]} is {list(taken[wrong[0]].shape)}, here {list(own[wrong[0]].shape)}")
    if missing := [k for k in own if k not in taken and not k.startswith(("head.", "pruner."))]:
        raise DataError(f"{path} lacks {missing[0]}; its network is of another depth or scheme of positions")
    model.load_state_dict(taken, strict=False)
