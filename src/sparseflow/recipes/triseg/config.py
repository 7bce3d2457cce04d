"""Settings of the trainings: a network in float32, then on fake-quantised codes, then with approximated codes."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sparseflow.compress.approximate import TmaxRule
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import MODES
from sparseflow.recipes.triseg.checkpoint import network_name

__all__ = ["FinetuneConfig", "QatConfig", "TrainConfig", "check_choice"]

_NOT_THE_RUN = ("out", "data", "device", "compile", "graph")


def check_choice(config: object, name: str, allowed: tuple[str | None, ...]) -> None:
    """Refuse a field that has none of the allowed values.

    Raises:
        ConfigError: says which field, and what is allowed.
    """
    value = getattr(config, name)
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; expected one of {', '.join(a for a in allowed if a)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Training in float32; the defaults are the recipe of the earlier project.

    Args:
        model: a network of the zoo, or `file.py:function` of the user.
        model_args: arguments of its builder.
        data: folder of CIFAR-10, as `sparseflow.data.cifar10` takes it; None for the images that ship.
        out: folder of the checkpoints; the run's own files lie in `runs/` below it.
        epochs: passes over the training images.
        minutes: train for so long instead, compilation included; rates follow the clock.
        batch_size: images a step.
        optimizer: "sgd" or "adamw".
        lr: learning rate at its peak.
        momentum: of SGD.
        nesterov: Nesterov's form of it.
        weight_decay: on weights of two or more dimensions.
        schedule: "step" multiplies the rate by `gamma` at each milestone, "cosine" lets it fall to zero.
        milestones: shares of the run.
        gamma: factor at each milestone.
        warmup: share of the run in which the rate rises from zero.
        ema: share of the moving average of the weights that stays at a step, as 0.999; the averages are what is judged
            and kept. 0 keeps the weights themselves.
        clip: largest norm of the gradient, which is scaled down to it; 0 for none.
        label_smoothing: share of the target spread over all classes.
        crop_padding: random crop after padding by so many pixels; 0 for none.
        flip: mirror half of the images.
        degrees: largest angle of a random rotation; 0 for none.
        erasing: share of the images of which a random rectangle is blanked.
        calm: share of the run at its end without rotation and blanking.
        mixup: mix each batch with itself in another order, the share of an image drawn from Beta(mixup, mixup); 0 for
            none.
        cutmix: share of the steps whose batch is not blended so but cut: a rectangle of each image, of the other's
            share, comes from the other.
        teacher: checkpoint on codes whose logits are learned too; None for none.
        kd_weight: share of the loss that those logits have.
        kd_t: temperature of both logits there.
        precision: "auto" for the fastest that the stage bears on CUDA and float32 elsewhere, "bfloat16", "tf32" or
            "float32".
        compile: compile the network for training.
        graph: on CUDA, replay each step as one graph; for networks whose launches cost more than their sums.
        device: "auto", "cpu" or "cuda".
        seed: seed of weights, order, augmentation and dropout.
        val: images for the choice of the epoch; None for the default of `open_splits`.
        calib: images for calibration; likewise.
        held_out: whether those are left out of the training.
        split_seed: seed of the division.
        eval_every: epochs between evaluations; the last is always evaluated, and the best kept.
        train_limit: use only the first so many training images.

    Raises:
        ConfigError: a value out of range.
    """

    model: str = "vgg16"
    model_args: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    out: str = "outputs"
    epochs: int = 20
    minutes: float | None = None
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-3
    schedule: str = "step"
    milestones: tuple[float, ...] = (0.3, 0.6)
    gamma: float = 0.1
    warmup: float = 0.0
    ema: float = 0.0
    clip: float = 0.0
    label_smoothing: float = 0.0
    crop_padding: int = 4
    flip: bool = True
    degrees: float = 15.0
    erasing: float = 0.5
    calm: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    teacher: str | None = None
    kd_weight: float = 0.9
    kd_t: float = 4.0
    precision: str = "auto"
    compile: bool = False
    graph: bool = False
    device: str = "auto"
    seed: int = 0
    val: int | None = None
    calib: int | None = None
    held_out: bool = True
    split_seed: int = 0
    eval_every: int = 1
    train_limit: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        check_choice(self, "optimizer", ("sgd", "adamw"))
        check_choice(self, "schedule", ("step", "cosine"))
        check_choice(self, "precision", ("auto", "bfloat16", "tf32", "float32"))
        check_choice(self, "device", ("auto", "cpu", "cuda"))
        for name in ("epochs", "batch_size", "lr", "gamma", "kd_t", "eval_every"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected more than 0")
        for name in ("weight_decay", "clip", "crop_padding", "degrees", "mixup"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 or more")
        for name in ("momentum", "warmup", "label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 to below 1")
        for name in ("erasing", "kd_weight", "calm", "cutmix"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if self.cutmix and not self.mixup:
            raise ConfigError(f"cutmix is {self.cutmix}, but mixup, which draws how much is cut, is 0; set both")
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov needs a momentum above 0")
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigError(f"minutes is {self.minutes}; expected more than 0, or nothing")
        if list(self.milestones) != sorted(self.milestones) or not all(0 < m <= 1 for m in self.milestones):
            raise ConfigError(f"milestones are {self.milestones}; expected shares of the run, in order")

    @property
    def name(self) -> str:
        """Name of the network in file names."""
        return network_name(self.model)

    @property
    def stage(self) -> str:
        """Name of the stage in the run's folder."""
        return "float"

    @property
    def folder(self) -> Path:
        """Folder of the run's own files."""
        return Path(self.out) / "runs" / f"{self.name}_{self.stage}_seed{self.seed}"

    def to_dict(self, *, all: bool = False) -> dict[str, Any]:
        """Return the settings as JSON values; without `all` those alone that make a run another one."""
        body = asdict(self)
        return body if all else {k: v for k, v in body.items() if k not in _NOT_THE_RUN}


@dataclass(frozen=True, slots=True, kw_only=True)
class QatConfig(TrainConfig):
    """Quantisation-aware training; the defaults are the recipe of the earlier project.

    Args:
        start: checkpoint in float32 to start from; None for that of `train_float` in `out`.
        freeze_at: share of the run from which ranges of codes and statistics of norms stay as they are.
        warmup_float_epochs: epochs at the start in which ranges are watched, but nothing is rounded; None for 2, or for
            a fifth of the epochs where that is less.
        averaging: share of a new batch in the moving average of the ranges.
        calib_batches: batches of calibration images that set the ranges before the first step.

    Raises:
        ConfigError: a value out of range.
    """

    epochs: int = 10
    lr: float = 1e-3
    weight_decay: float = 5e-4
    milestones: tuple[float, ...] = (0.5, 0.75)
    start: str | None = None
    freeze_at: float = 0.6
    warmup_float_epochs: float | None = None
    averaging: float = 0.01
    calib_batches: int = 8

    def __post_init__(self) -> None:
        """Check the fields."""
        TrainConfig.__post_init__(self)
        if not 0 <= self.freeze_at < 1:
            raise ConfigError(f"freeze_at is {self.freeze_at}; expected 0 to below 1, so that frozen codes are trained")
        if not 0 <= self.float_epochs < self.epochs:
            raise ConfigError(
                f"warmup_float_epochs is {self.warmup_float_epochs} of {self.epochs} epochs; expected fewer, so that "
                "some train on codes"
            )
        if not 0 < self.averaging <= 1:
            raise ConfigError(f"averaging is {self.averaging}; expected more than 0, at most 1")
        if self.calib_batches < 1:
            raise ConfigError(f"calib_batches is {self.calib_batches}; expected at least 1")

    @property
    def float_epochs(self) -> float:
        """Epochs at the start in which nothing is rounded."""
        return min(2.0, self.epochs / 5) if self.warmup_float_epochs is None else self.warmup_float_epochs

    @property
    def stage(self) -> str:
        """Name of the stage in the run's folder."""
        return "qat"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig(TrainConfig):
    """Training of weights, values and thresholds once the activations take three codes.

    The network is its own teacher: `kd_weight` of the loss compares with its logits before the change. Mode "saturate"
    wants a rate near 1e-3 and many epochs; mode "pass", which starts close, one near 3e-4 and few.

    Args:
        config_path: result of a search to start from; None starts from the optimum of the Fisher-weighted histograms.
        mode: "pass" leaves codes beyond tmax; "clip" gives them v2; "saturate" tmax, a quantiser of 2 bits.
        tmax: how tmax is chosen in mode "pass" without a search: the default lets at most 4 % of all codes pass.
        result_file: name of the result below `tri_ppo_int_codes/` of `out`; None names network, mode and seed.
        hint: weight in the loss of how far the maps of the sites are from those of the network before the change: the
            mean over the sites of |a − b|² / |b|², over a quarter of each batch. 0 for none.
        code_rule: how codes follow the weights: "gradient" trains values and thresholds, "counts" and "fisher" take the
            optimum of the histograms of calibration images, plain or Fisher-weighted, anew some twenty times. None is
            "counts" in mode "saturate", whose tmax has no gradient, and "gradient" else.
        code_lr: rate of values and thresholds at its peak, about codes a step with "adamw".
        code_share: share of the run in which codes move; then they stay, and the weights settle.
        window: half width in codes over which the gradient of a threshold is taken.
        freeze_at: share of the run from which statistics of norms and scales of weights stay as they are.
        bn_frozen: statistics of norms stay from the start on; those of mixed batches are not those of whole images.
        calib_batches: batches of calibration images for the histograms.

    Raises:
        ConfigError: a value out of range.
    """

    epochs: int = 5
    optimizer: str = "adamw"
    lr: float = 3e-4
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    degrees: float = 0.0
    erasing: float = 0.25
    calm: float = 0.15
    ema: float = 0.998
    kd_weight: float = 0.9
    kd_t: float = 2.0
    config_path: str | None = None
    mode: str = "pass"
    tmax: TmaxRule = field(default_factory=TmaxRule)
    result_file: str | None = None
    hint: float = 25.0
    code_rule: str | None = None
    code_lr: float = 0.01
    code_share: float = 0.6
    window: int = 2
    freeze_at: float = 0.8
    bn_frozen: bool = False
    calib_batches: int = 16

    def __post_init__(self) -> None:
        """Check the fields."""
        TrainConfig.__post_init__(self)
        check_choice(self, "mode", MODES)
        check_choice(self, "code_rule", (None, "gradient", "counts", "fisher"))
        for name in ("code_share", "freeze_at"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        for name in ("code_lr", "hint"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 or more")
        for name in ("window", "calib_batches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")

    @property
    def stage(self) -> str:
        """Name of the stage in the run's folder."""
        return f"finetuned_{self.mode}"

    @property
    def rule(self) -> str:
        """How codes follow the weights."""
        return self.code_rule or ("counts" if self.mode == "saturate" else "gradient")
