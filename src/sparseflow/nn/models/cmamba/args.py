"""Settings of a CMamba forecaster: fields and defaults of the first design, checked, with what follows from them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sparseflow.errors import ConfigError

__all__ = ["VARIANTS", "ModelArgs"]

VARIANTS = ("official", "seed")

_EPS = {"official": 1e-5, "seed": 1e-6}
_COUNTS = (
    "d_model", "n_layer", "seq_len", "d_state", "d_conv", "pad_multiple", "num_channels", "patch_len", "stride",
    "forecast_len", "reduction_ratio",
)  # fmt: skip
_FLAGS = ("conv_bias", "bias", "verbose")
_DROPOUTS = ("dropout", "head_dropout", "forecast_dropout")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArgs:
    """Sizes of a CMamba that maps `[B, V, L]` to `[B, V, F]`.

    Args:
        d_model: width D of a token.
        n_layer: blocks.
        seq_len: length L of the past that is read.
        d_state: states N of each channel of the scan.
        expand: width of the scan over that of a token, E = ⌊expand·D⌋; 1 in the paper.
        dt_rank: rank R of the step sizes; "auto" becomes ⌈D/16⌉, the paper takes 32.
        d_conv: taps of the causal convolution ("seed" alone).
        pad_multiple: exporters round the forecast up to a multiple of it; the network does not.
        conv_bias: whether that convolution has a bias.
        bias: whether the projections into and out of the scan have one; they do in the paper.
        num_channels: series V.
        patch_len: length P of a patch.
        stride: distance S between the starts of patches.
        forecast_len: length F of the forecast; kept as given.
        reduction_ratio: V over the hidden width ⌊V/r⌋ of the channel MLP ("official" alone); 2 for the paper's ETT.
        verbose: kept for configurations that name it; nothing is printed by the network.
        variant: "official", the published network: a token of each series and patch, M-Mamba, GDD-MLP, instance
            norm; or "seed", the skeleton of the first design: a token of all series, Mamba.
        norm_eps: ε under the root of RMSNorm; None becomes 1e-5 ("official") or 1e-6 ("seed").
        dropout: share of a block's output dropped in training.
        head_dropout: share of the embedded patches dropped in training.
        forecast_dropout: share of the forecast itself dropped in training. The published code drops `head_dropout`
            of it, which pulls forecasts off their level; so 0 unless asked for.

    Raises:
        ConfigError: a field is out of range; names it.

    Source: Zeng et al., "CMamba: Channel Correlation Enhanced State Space Models", arXiv 2406.05316.

    >>> args = ModelArgs(variant="seed")
    >>> args.num_patches, args.d_inner, args.dt_rank
    (11, 256, 8)
    """

    d_model: int = 128
    n_layer: int = 4
    seq_len: int = 96
    d_state: int = 16
    expand: float = 2
    dt_rank: int | str = "auto"
    d_conv: int = 4
    pad_multiple: int = 8
    conv_bias: bool = True
    bias: bool = False
    num_channels: int = 24
    patch_len: int = 16
    stride: int = 8
    forecast_len: int = 96
    reduction_ratio: int = 8
    verbose: bool = False
    variant: str = "official"
    norm_eps: float | None = None
    dropout: float = 0.0
    head_dropout: float = 0.0
    forecast_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check every field and settle those that follow from others."""
        for name in _COUNTS:
            _check_count(name, getattr(self, name))
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected true or false")
        for name in _DROPOUTS:
            value = getattr(self, name)
            if not _number(value) or not 0 <= value < 1:
                raise ConfigError(f"{name} is {value!r}; expected a share from 0 to below 1")
        if self.variant not in VARIANTS:
            raise ConfigError(f"variant is {self.variant!r}; expected one of {', '.join(VARIANTS)}")
        if not _number(self.expand) or not math.isfinite(self.expand) or self.d_inner < 1:
            raise ConfigError(f"expand is {self.expand!r}; expected a factor that leaves at least one of d_model")
        if self.dt_rank == "auto":
            object.__setattr__(self, "dt_rank", math.ceil(self.d_model / 16))
        _check_count("dt_rank", self.dt_rank, ' or "auto"')
        if self.norm_eps is None:
            object.__setattr__(self, "norm_eps", _EPS[self.variant])
        if not _number(self.norm_eps) or not 0 < self.eps < math.inf:
            raise ConfigError(f"norm_eps is {self.norm_eps!r}; expected a number above 0")
        if self.num_patches < 1:
            raise ConfigError(
                f"patch_len is {self.patch_len}; a series of {self.seq_len + self.padding} values (seq_len "
                f"{self.seq_len}, padding {self.padding}) holds no such patch; shorten patch_len"
            )

    @classmethod
    def paper(cls, num_channels: int, forecast_len: int = 96, **given: Any) -> "ModelArgs":
        """Return the published network's sizes: D = E = 128, N = 16, R = 32, three blocks, r = 2.

        Args:
            num_channels: series V.
            forecast_len: length F of the forecast.
            given: fields that differ, as `n_layer=4`.

        Raises:
            ConfigError: a field is unknown or out of range.

        >>> ModelArgs.paper(7).num_patches
        12
        """
        chosen: dict[str, Any] = {"n_layer": 3, "expand": 1, "dt_rank": 32, "bias": True, "reduction_ratio": 2}
        return cls.from_dict({**chosen, "num_channels": num_channels, "forecast_len": forecast_len, **given})

    @property
    def padding(self) -> int:
        """How often the last value is repeated behind a series: S ("official") or 0."""
        return self.stride if self.variant == "official" else 0

    @property
    def num_patches(self) -> int:
        """Patches K = ⌊(L + padding − P)/S⌋ + 1."""
        return (self.seq_len + self.padding - self.patch_len) // self.stride + 1

    @property
    def d_inner(self) -> int:
        """Width E of the scan."""
        return int(self.expand * self.d_model)

    @property
    def rank(self) -> int:
        """Rank R of the step sizes, `dt_rank` once it is settled."""
        return int(self.dt_rank)

    @property
    def eps(self) -> float:
        """`norm_eps` once it is settled."""
        return float(self.norm_eps or 0.0)

    @property
    def padded_forecast_len(self) -> int:
        """F rounded up to a multiple of `pad_multiple`, for exporters; they crop to F.

        >>> ModelArgs(forecast_len=90).forecast_len, ModelArgs(forecast_len=90).padded_forecast_len
        (90, 96)
        """
        return -(-self.forecast_len // self.pad_multiple) * self.pad_multiple

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; `from_dict` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelArgs":
        """Return the settings of a mapping.

        Raises:
            ConfigError: unknown names, or a field out of range.
        """
        known = {f.name for f in fields(cls)}
        if unknown := [str(name) for name in values if name not in known]:
            raise ConfigError(f"unknown fields {', '.join(unknown)} of ModelArgs; known: {', '.join(sorted(known))}")
        return cls(**values)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_count(name: str, value: object, also: str = "") -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} is {value!r}; expected a whole number of at least 1{also}")
