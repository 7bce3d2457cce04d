"""Settings of the training of a video transformer; the defaults are the seed's, on digits that move."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.recipes.device import DEVICES, PRECISIONS

__all__ = ["DATASETS", "MODES", "VideoConfig"]

DATASETS = ("digits", "jhmdb", "ucf101")
MODES = ("dense_baseline", "single_device_ast")
# A run may be given another folder, device or number of readers, and go on there.
_NOT_THE_RUN = ("out", "data", "device", "graph", "eval_batch", "workers", "eval_every", "save_every")
_FROM_DATA = ("num_classes", "in_chans", "img_size", "num_frames")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoConfig:
    """One training run.

    Args:
        dataset: "digits", MNIST digits in made motion, drawn as they are needed; "jhmdb", real actions as heat maps of
            joints; "ucf101", or any videos in its layout.
        data: its folder; None for the digits that ship, and for "ucf101" a small sample tree of digits, which is
            written beside the run.
        split: of "jhmdb" or "ucf101".
        validate: hold every fifth digit, track or group of videos of the training data back and score on those, so that
            settings are chosen while the test stays closed.
        mode: "dense_baseline", all tokens; "single_device_ast", pruned as `ast_cfg` says.
        ast_cfg: settings of the pruner, as `keep`, `prune_before`, `score`; see `compress.prune`.
        prune_from: share of the steps after which tokens are left behind; until then the network learns on all of them
            (as EViT's does, arXiv 2202.07800). A network that never saw what it leaves behind may learn from which
            places are left alone, and stay there.
        ast_weight: λ_AST, weight of the pruner's loss.
        hw_weight: λ_hw, weight of the operations of the blocks over those of the dense network; of the shares that are
            learned (`learn_keep`, gates) they are a smooth function.
        num_frames: T.
        img_size: S, height and width of a frame.
        model_args: further arguments of `nn.models.video_vit.VideoViT`.
        position_std: deviation of fresh tables of positions; None for the network's own .02. Where the class lies in
            how things move, larger ones save a training most of its first steps.
        init_from: file to start from: of a training here, or timm's or VideoMAE's weights.
        epochs: passes.
        clips: clips of an epoch of "digits".
        test_clips: clips of its test.
        digits: further fields of `data.MovingDigits`, as `movers` and `speeds`.
        clip_lens: frames that a clip of a video spans.
        per_video: clips of each video in an epoch; None for all its covers.
        test_per_video: clips of each video in the test, whose logits are averaged; None for all.
        flip: mirror half of the clips of videos; only where left and right are one class.
        batch_size: clips a step.
        accumulate: parts that a step is divided into, one after the other, to save memory.
        lr: largest learning rate of AdamW.
        gate_lr: the same for the logits of gates, which have a longer way than weights; None for ten times `lr`.
        weight_decay: of matrices; vectors are not decayed.
        warmup_epochs: passes over which the rate rises from 0; it falls along a cosine afterwards.
        label_smoothing: share of a label that is spread over all classes.
        clip: largest norm of the gradients; 0 for any.
        precision: "auto" for bfloat16 products on CUDA and float32 elsewhere, "bfloat16", "tf32" or "float32".
        graph: on CUDA, replay each step as one graph.
        device: "auto", "cpu" or "cuda".
        workers: processes that read videos.
        seed: of weights, clips, order and dropout.
        out: folder of the runs; each gets a folder of its own below it.
        name: of that folder; by default from data set, mode, score and keep.
        eval_batch: clips a call when scoring.
        eval_every: passes between scores on the test; 0 scores at the end alone.
        save_every: passes between states to go on from.

    Raises:
        ConfigError: a value out of range.
    """

    dataset: str = "digits"
    data: str | None = None
    split: int = 1
    validate: bool = False
    mode: str = "single_device_ast"
    ast_cfg: dict[str, Any] = field(default_factory=dict)
    prune_from: float = 0.0
    ast_weight: float = 1.0
    hw_weight: float = 0.0
    num_frames: int = 8
    img_size: int = 64
    model_args: dict[str, Any] = field(default_factory=dict)
    position_std: float | None = None
    init_from: str | None = None
    epochs: int = 50
    clips: int = 4096
    test_clips: int = 2048
    digits: dict[str, Any] = field(default_factory=dict)
    clip_lens: tuple[int, ...] = (8, 16)
    per_video: int | None = None
    test_per_video: int | None = None
    flip: bool = True
    batch_size: int = 8
    accumulate: int = 1
    lr: float = 3e-4
    gate_lr: float | None = None
    weight_decay: float = 0.05
    warmup_epochs: float = 5.0
    label_smoothing: float = 0.0
    clip: float = 1.0
    precision: str = "auto"
    graph: bool = True
    device: str = "auto"
    workers: int = 2
    seed: int = 0
    out: str = "outputs/video"
    name: str | None = None
    eval_batch: int = 64
    eval_every: int = 0
    save_every: int = 1

    def __post_init__(self) -> None:
        """Check the fields."""
        for name, allowed in {
            "dataset": DATASETS,
            "mode": MODES,
            "precision": PRECISIONS,
            "device": DEVICES,
        }.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        for name in (
            "num_frames",
            "img_size",
            "epochs",
            "clips",
            "test_clips",
            "batch_size",
            "accumulate",
            "eval_batch",
            "save_every",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("ast_weight", "hw_weight", "weight_decay", "warmup_epochs", "clip", "workers", "eval_every"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 or more")
        if not 0 < self.lr < math.inf or not 0 < (self.gate_lr or self.lr) < math.inf:
            raise ConfigError(f"lr is {self.lr} and gate_lr {self.gate_lr}; expected more than 0")
        if self.position_std is not None and not 0 < self.position_std < math.inf:
            raise ConfigError(f"position_std is {self.position_std}; expected more than 0, or nothing")
        for name in ("label_smoothing", "prune_from"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 to below 1")
        if self.batch_size % self.accumulate:
            raise ConfigError(f"batch_size is {self.batch_size}; {self.accumulate} parts cannot divide it equally")
        if wrong := [name for name in _FROM_DATA if name in self.model_args]:
            raise ConfigError(
                f"model_args sets {', '.join(wrong)}; use img_size and num_frames, classes follow the data"
            )
        if self.mode == "dense_baseline" and self.ast_cfg:
            raise ConfigError("mode is 'dense_baseline', which prunes nothing; take ast_cfg out")
        if self.dataset == "jhmdb" and self.data is None:
            raise ConfigError("dataset is 'jhmdb', which does not ship; data names the folder of jhmdb14_pose.npz")

    @property
    def title(self) -> str:
        """What the run is called, as "digits_motion_keep0.5" or "digits_dense"."""
        if self.name is not None:
            return self.name
        if self.mode == "dense_baseline":
            return f"{self.dataset}_dense"
        return f"{self.dataset}_{self.ast_cfg.get('score', 'entropy')}_keep{self.ast_cfg.get('keep', 0.5):g}"

    @property
    def folder(self) -> Path:
        """Folder of the run's own files."""
        return Path(self.out) / f"{self.title}_seed{self.seed}"

    def rate(self, done: float) -> float:
        """Return the learning rate once the share `done` of all steps lies behind.

        >>> c = VideoConfig(lr=1.0, epochs=10, warmup_epochs=5)
        >>> [round(c.rate(d), 3) for d in (0.0, 0.25, 0.5, 0.75, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
        """
        warm = min(self.warmup_epochs / self.epochs, 1.0)
        if done < warm:
            return self.lr * done / warm
        return self.lr * 0.5 * (1 + math.cos(math.pi * (done - warm) / max(1e-9, 1 - warm)))

    def to_dict(self, *, all: bool = False) -> dict[str, Any]:
        """Return the settings as JSON values; without `all` those alone that make a run another one."""
        body: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return body if all else {k: v for k, v in body.items() if k not in _NOT_THE_RUN}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "VideoConfig":
        """Return the settings of `to_dict(all=True)`.

        Raises:
            ConfigError: a value out of range.
            TypeError: an unknown field.
        """
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**given)
