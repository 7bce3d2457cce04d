"""A trained video transformer in one file: the network, and beside it the settings and figures of its training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.models.video_vit import VideoViT, load_video, save_video
from sparseflow.recipes.video.config import VideoConfig

__all__ = ["Trained", "load_trained", "save_trained"]

_KIND = "video"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """A trained network and what belongs to it.

    Args:
        model: in eval mode.
        classes: names by label.
        config: of its training.
        record: what the training reached.
    """

    model: VideoViT
    classes: tuple[str, ...]
    config: VideoConfig
    record: dict[str, Any]


def save_trained(path: str | Path, trained: Trained) -> Path:
    """Write a network with its settings; the same one gives the same bytes.

    Raises:
        ConfigError: another ending than `.safetensors`, `.npz` or `.pt`.
        DataError: it cannot be written.
    """
    body = {"classes": list(trained.classes), "config": trained.config.to_dict(all=True), "record": trained.record}
    save_video(path, trained.model, record={_KIND: body})
    return Path(path)


def load_trained(path: str | Path) -> Trained:
    """Read a trained network, on the CPU; sliced ones are read like others.

    Raises:
        ConfigError: another ending.
        DataError: no such file, a damaged one, or a network without its settings.
    """
    if not Path(path).is_file():
        raise DataError(f"there is no network {path}; make one with: sparseflow video train")
    model, record = load_video(path)
    try:
        body = record[_KIND]
        found = Trained(
            model=model,
            classes=tuple(body["classes"]),
            config=VideoConfig.from_dict(body["config"]),
            record=dict(body["record"]),
        )
    except (KeyError, TypeError, ConfigError) as e:
        raise DataError(f"what stands in {path} beside the weights is no record of a training here: {e}") from e
    if len(found.classes) != model.arguments["num_classes"]:
        raise DataError(f"{path} names {len(found.classes)} classes; its network has {model.arguments['num_classes']}")
    return found
