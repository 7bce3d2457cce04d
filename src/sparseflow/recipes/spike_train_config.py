"""The settings of a training run, checked, and read from YAML."""

import os
from dataclasses import dataclass, field
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.nn import models
from sparseflow.recipes.settings import read_settings

__all__ = ["SpikeTrainConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeTrainConfig:
    """One training run.

    Args:
        model: name for `nn.models.build`.
        model_args: its arguments; channels, size and classes follow from the images.
        dataset: "cifar10" or "fashion_mnist".
        data_path: folder of the data set; None takes the data set's default place.
        out: folder for `checkpoint.safetensors`, `state.safetensors` and `metrics.jsonl`.
        image_size: scale the augmented images bilinearly to this side; None for as they are.
        epochs: passes over the training images; with `minutes`, what `warmup_epochs` is a share of.
        minutes: train for so long instead, compilation included: learning rate and grids follow the clock.
        batch_size: images a step.
        optimizer: "sgd" (Nesterov momentum 0.9) or "adamw".
        lr: peak learning rate: linear warm-up, then cosine to zero.
        weight_decay: on weights of two or more dimensions.
        warmup_epochs: epochs of warm-up.
        label_smoothing: share of the target spread over all classes.
        crop_padding: random crop after padding by so many pixels; 0 for none.
        flip: mirror half of the images.
        cutout: side of the square that is blanked; 0 for none.
        rate_low: input density below which a layer is pushed up.
        rate_high: input density above which a layer is pushed down.
        rate_weight: weight of both pushes; 0 for none.
        grid_bits: bits of a weight on its channel's exact grid, 2 to 8; 0 for float16 weights.
        grid_share: last share of the training, in which the weights are rounded to those grids.
        amp: "bfloat16", "none", or "auto" for bfloat16 on CUDA only.
        compile: compile the training step.
        fused: train neurons as one operator each, which keeps only its input (see `ops.fire`).
        device: "auto", "cpu" or "cuda".
        seed: seed of weights, order and augmentation.
        eval_every: epochs between evaluations; the last is always evaluated.
        train_limit: use only the first so many training images.
        test_limit: use only the first so many test images.
        phases: lists `[side, share]` or `[side, share, "analog"]`: train at each image size for its share of the
            run, in this order, small images first for speed; the shares add up to 1, and `image_size`, at which is
            tested, is the last side. An analog phase trains rates instead of spikes, T batches a step (`AnalogTwin`).
        init_from: start from the weights of this checkpoint (`.safetensors`, or a shipped name) of the same model.
        start: "plain" starts the norms at scale 1 and shift 0; "threshold" at `threshold_start`, for deep networks
            whose blocks add in front of the neuron.
        clip: largest norm of the gradient, which is scaled down to it; 0 for none.

    Raises:
        ConfigError: a value out of range.
    """

    model: str = "spiking_vgg9"
    model_args: dict[str, Any] = field(default_factory=dict)
    dataset: str = "cifar10"
    data_path: str | None = None
    out: str = "runs/train"
    image_size: int | None = None
    epochs: int = 100
    minutes: float | None = None
    batch_size: int = 256
    optimizer: str = "sgd"
    lr: float = 0.1
    weight_decay: float = 5e-4
    warmup_epochs: float = 3.0
    label_smoothing: float = 0.1
    crop_padding: int = 4
    flip: bool = True
    cutout: int = 8
    rate_low: float = 0.03
    rate_high: float = 0.06
    rate_weight: float = 0.05
    grid_bits: int = 0
    grid_share: float = 0.2
    amp: str = "auto"
    compile: bool = False
    fused: bool = False
    device: str = "auto"
    seed: int = 0
    eval_every: int = 5
    train_limit: int | None = None
    test_limit: int | None = None
    phases: list[list[Any]] = field(default_factory=list)
    init_from: str | None = None
    start: str = "plain"
    clip: float = 0.0

    def __post_init__(self) -> None:
        """Check the fields."""
        known = models.names("spiking")
        if self.model not in known:
            raise ConfigError(f"model is {self.model!r}; expected one of {', '.join(known)}")
        choices = {
            "dataset": ("cifar10", "fashion_mnist"),
            "optimizer": ("sgd", "adamw"),
            "amp": ("auto", "bfloat16", "none"),
            "device": ("auto", "cpu", "cuda"),
            "start": ("plain", "threshold"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        for name in ("epochs", "batch_size", "lr", "eval_every"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected more than 0")
        least_zero = (
            "weight_decay",
            "warmup_epochs",
            "label_smoothing",
            "crop_padding",
            "cutout",
            "rate_weight",
            "clip",
        )
        for name in least_zero:
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 or more")
        for name in ("minutes", "image_size"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; expected more than 0, or nothing")
        if self.grid_bits and not 2 <= self.grid_bits <= 8:
            raise ConfigError(f"grid_bits is {self.grid_bits}; expected 0, or 2 to 8")
        if not 0 <= self.grid_share <= 1:
            raise ConfigError(f"grid_share is {self.grid_share}; expected 0 to 1")
        if not 0 < self.rate_low < self.rate_high < 1:
            raise ConfigError(
                f"rate_low={self.rate_low}, rate_high={self.rate_high}; expected 0 < rate_low < rate_high < 1"
            )
        self._check_phases()

    def _check_phases(self) -> None:
        for phase in self.phases:
            if not _sound(phase):
                raise ConfigError(f"phases holds {phase!r}; expected [side, share] or [side, share, 'analog']")
        total = sum(phase[1] for phase in self.phases)
        if self.phases and abs(total - 1) > 1e-6:
            raise ConfigError(f"the shares in phases add up to {total:g}; expected 1")
        if self.phases and len(self.phases[-1]) == 3:
            raise ConfigError("the last of phases is analog; the network is tested with spikes, so end with them")
        if self.phases and self.image_size not in (None, self.phases[-1][0]):
            raise ConfigError(
                f"image_size is {self.image_size}, but the last of phases trains at {self.phases[-1][0]}; "
                "leave image_size out"
            )

    @property
    def side(self) -> int | None:
        """Side of the images at the end of the run and in its tests; None for as they are."""
        return int(self.phases[-1][0]) if self.phases else self.image_size

    def phase(self, done: float) -> tuple[int, int | None, bool]:
        """Return the phase once the share `done` of the run lies behind, its side, and whether it is analog.

        >>> SpikeTrainConfig(phases=[[16, 0.75, "analog"], [32, 0.25]]).phase(0.8)
        (1, 32, False)
        """
        end = 0.0
        for index, (side, share, *analog) in enumerate(self.phases):
            end += share
            if done < end or index == len(self.phases) - 1:
                return index, int(side), bool(analog)
        return 0, self.image_size, False

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> "SpikeTrainConfig":
        """Read a configuration file.

        Raises:
            ConfigError: unreadable, not a mapping, or an unknown or ill-typed setting.
        """
        return read_settings(cls, path)


def _sound(phase: Any) -> bool:
    """Tell whether an entry of `phases` is well formed."""
    if not isinstance(phase, list | tuple) or len(phase) not in (2, 3) or (len(phase) == 3 and phase[2] != "analog"):
        return False
    side, share = phase[:2]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (side, share))
    return numbers and side >= 1 and side == int(side) and 0 < share <= 1
