"""Settings of the training of a forecaster; the defaults are those published for ETTh1, 96 readings ahead."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sparseflow.data import ETT
from sparseflow.errors import ConfigError
from sparseflow.nn.models.cmamba import ModelArgs
from sparseflow.recipes.device import DEVICES, PRECISIONS

__all__ = ["DATASETS", "ForecastConfig"]

DATASETS = (*ETT, "csv", "npz")
# A run may be made longer, and go on elsewhere.
_NOT_THE_RUN = ("out", "data", "device", "graph", "eval_batch", "epochs", "patience")
_DROPOUT = {"dropout": 0.1, "head_dropout": 0.1}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastConfig:
    """One training run.

    Args:
        dataset: "ETTh1", "ETTh2", "ETTm1", "ETTm2"; "csv" for any series; "npz" for windows and answers as they are
            (`sparseflow.data.npz_xy`, answers `[N, V, F]`).
        data: its file or folder; None for the ETTh1 that ships.
        columns: variates to read, of a series; none for all.
        targets: variates whose forecast is learned and scored; none for all. The others are seen alone.
        missing: number that stands for a missing reading in a CSV file, as -9999.
        train_share: share of a CSV file's readings to train on.
        test_share: share of them, at the end, for the test.
        seq_len: L, readings seen.
        forecast_len: F, readings asked for.
        variant: "official", the published network, or "seed".
        model_args: further fields of `nn.models.cmamba.ModelArgs`, over those published for ETTh1 if "official";
            `forecast_dropout` is then `head_dropout` unless given.
        epochs: passes at most.
        patience: passes without a better loss on val after which the training stops.
        batch_size: windows a step; a smaller rest is left out in training.
        lr: learning rate of Adam in the first epochs.
        steady: epochs at that rate.
        decay: factor for each epoch after them.
        sigma: deviation of the share of another variate that Channel Mixup adds; 0 for none.
        ema: share of itself that a running mean of the weights keeps at each step, from the second epoch on; the mean
            is then what val judges and the checkpoint holds. 0, as published, for the weights of the step themselves.
        precision: "auto" for TF32 on CUDA and float32 elsewhere, "bfloat16", "tf32" or "float32".
        graph: on CUDA, replay each step as one graph.
        device: "auto", "cpu" or "cuda".
        seed: of weights, order, mixing and dropout.
        out: folder of the runs; each gets a folder of its own below it.
        eval_batch: windows a call when scoring.
        train_limit: use only the first so many windows for training.

    Raises:
        ConfigError: a value out of range.
    """

    dataset: str = "ETTh1"
    data: str | None = None
    columns: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    missing: float | None = None
    train_share: float = 0.7
    test_share: float = 0.2
    seq_len: int = 96
    forecast_len: int = 96
    variant: str = "official"
    model_args: dict[str, Any] = field(default_factory=dict)
    epochs: int = 100
    patience: int = 3
    batch_size: int = 64
    lr: float = 5e-4
    steady: int = 3
    decay: float = 0.9
    sigma: float = 1.0
    ema: float = 0.0
    precision: str = "auto"
    graph: bool = True
    device: str = "auto"
    seed: int = 2021
    out: str = "outputs/forecast"
    eval_batch: int = 512
    train_limit: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        for name, allowed in {
            "dataset": DATASETS,
            "variant": ("official", "seed"),
            "precision": PRECISIONS,
            "device": DEVICES,
        }.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        for name in ("seq_len", "forecast_len", "epochs", "patience", "batch_size", "eval_batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.train_limit is not None and self.train_limit < 1:
            raise ConfigError(f"train_limit is {self.train_limit}; expected at least 1, or nothing")
        if self.steady < 0 or not self.sigma >= 0:
            raise ConfigError(f"steady is {self.steady} and sigma {self.sigma}; expected 0 or more")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema is {self.ema}; expected 0 or more and less than 1")
        if not self.lr > 0 or not 0 < self.decay <= 1:
            raise ConfigError(f"lr is {self.lr} and decay {self.decay}; expected more than 0, decay at most 1")
        for name in ("train_share", "test_share"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a share between 0 and 1")
        if self.dataset in ("csv", "npz") and self.data is None:
            raise ConfigError(f"dataset is {self.dataset!r} and data names no file; give one, as --{self.dataset} FILE")
        if set(self.model_args) & {"seq_len", "forecast_len", "num_channels", "variant"}:
            raise ConfigError("model_args sets what follows from the data; use seq_len, forecast_len and variant")

    @property
    def name(self) -> str:
        """Name of the run's task, as "ETTh1_96"."""
        if self.dataset in ETT or self.data is None:
            return f"{self.dataset}_{self.forecast_len}"
        return f"{Path(self.data).stem}_{self.forecast_len}"

    @property
    def folder(self) -> Path:
        """Folder of the run's own files."""
        return Path(self.out) / f"{self.name}_{self.variant}_seed{self.seed}"

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0.

        >>> [round(ForecastConfig(lr=1.0).rate(e), 3) for e in range(6)]
        [1.0, 1.0, 1.0, 1.0, 0.9, 0.81]
        """
        return self.lr * self.decay ** max(0, epoch - self.steady)

    def network(self, variates: int) -> ModelArgs:
        """Return the settings of the network for some variates V.

        Raises:
            ConfigError: `model_args` holds unknown fields, or one out of range.
        """
        sizes = {"seq_len": self.seq_len} | self.model_args
        if self.variant == "official":
            given = _DROPOUT | sizes
            # The published code drops as much of the forecast itself as of the embedded patches.
            return ModelArgs.paper(variates, self.forecast_len, **({"forecast_dropout": given["head_dropout"]} | given))
        asked = {"variant": self.variant, "num_channels": variates, "forecast_len": self.forecast_len}
        return ModelArgs.from_dict({**asked, **sizes})

    def to_dict(self, *, all: bool = False) -> dict[str, Any]:
        """Return the settings as JSON values; without `all` those alone that make a run another one."""
        body = asdict(self)
        return body if all else {k: v for k, v in body.items() if k not in _NOT_THE_RUN}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ForecastConfig":
        """Return the settings of `to_dict(all=True)`.

        Raises:
            ConfigError: a value out of range.
            TypeError: an unknown field.
        """
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**given)
