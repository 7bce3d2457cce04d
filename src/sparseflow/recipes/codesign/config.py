"""Settings of a co-design; the defaults are the seed's."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.hardware.loss import HwWeights
from sparseflow.recipes.video.config import VideoConfig

__all__ = ["MODES", "CodesignConfig"]

MODES = ("multi_chip_fixed", "version_c_full")
_OBJECTIVES = ("serial", "balanced")
_STRATEGIES = ("greedy_local", "search", "viterbi", "dp", "cp_sat", "round_robin")
_PHASES = "ABCD"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodesignConfig:
    """One run: a network learns, and chips, mapping and placement follow in turn.

    Args:
        mode: "version_c_full"; or "multi_chip_fixed", whose slots hold `fixed` for good.
        workload: JSON of a traced network, or YAML of ZigZag; its layers stay as they are. None trains the network of
            `video`.
        video: the task and its network, see `VideoConfig`; its `epochs`, `mode` and `out` do not count.
        phases: which of A (weights and keeps), B (chips), C (mapping) and D (placement) take part.
        two_stage: learn first, without the hardware, and do all of B, C and D behind it: the rival of a joint run.
        outer_epochs: passes of A to D.
        steps_theta: steps of A.
        steps_final: steps behind the last epoch, on the network as it runs: gates closed, tokens left behind.
        steps_alpha: steps of B on a relaxed choice, before designs near it are judged.
        candidates: designs that B judges at most.
        steps_layout: steps of D.
        alpha_lr: rate of the logits of slots.
        lambda_hw: weight of L_hw in A.
        warmup: share of the steps of A without it.
        ramp: share behind that over which it grows.
        guard: share by which the accuracy on training clips, smoothed, may fall below what it was when the warm-up
            ended; below it λ_hw is 0 and chips and mapping rest.
        hw: form and weights of L_hw, see `HwWeights`.
        library: file of the types of chips.
        types: which of them; None for all.
        slots: S.
        fixed: types in the first slots of "multi_chip_fixed", and of the design that ratios refer to; None for four of
            the first type.
        objective: "serial", the latency of one sample; or "balanced", the period of a pipeline.
        strategy: of `MappingSolver`; or "round_robin", segment k on used slot k modulo their number.
        segment_size: layers of the network that stay together.
        fine_split: divide a segment over several slots where the whole objective falls.
        optimize_layout: move dies; else they stay on the grid.
        radius_mm: of the wafer.
        proxy: name or file of a fitted proxy, or "roofline": bounds of each chip alone, nothing fitted.
        precision: of the layers on the chips.
        batch: samples that the chips take at once.
        seed: of everything.
        out: folder of the runs.
        name: of the run's folder below it; by default from mode and seed.

    Raises:
        ConfigError: a value out of range.
    """

    mode: str = "version_c_full"
    workload: str | None = None
    video: VideoConfig = field(default_factory=VideoConfig)
    phases: str = _PHASES
    two_stage: bool = False
    outer_epochs: int = 10
    steps_theta: int = 100
    steps_final: int = 200
    steps_alpha: int = 20
    candidates: int = 40
    steps_layout: int = 20
    alpha_lr: float = 0.3
    lambda_hw: float = 1.0
    warmup: float = 0.1
    ramp: float = 0.3
    guard: float = 0.02
    hw: HwWeights = field(default_factory=HwWeights)
    library: str = "gpu_data.yaml"
    types: tuple[str, ...] | None = None
    slots: int = 16
    fixed: tuple[str, ...] | None = None
    objective: str = "balanced"
    strategy: str = "search"
    segment_size: int = 2
    fine_split: bool = True
    optimize_layout: bool = True
    radius_mm: float = 150.0
    proxy: str = "h200"
    precision: str = "float16"
    batch: int = 1
    seed: int = 0
    out: str = "outputs/codesign"
    name: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        for name, allowed in (("mode", MODES), ("objective", _OBJECTIVES), ("strategy", _STRATEGIES)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        for name in (
            "outer_epochs",
            "steps_theta",
            "steps_alpha",
            "candidates",
            "steps_layout",
            "slots",
            "segment_size",
            "batch",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("lambda_hw", "warmup", "ramp", "guard", "steps_final"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 or more")
        if not self.alpha_lr > 0 or not self.radius_mm > 0:
            raise ConfigError(f"alpha_lr is {self.alpha_lr} and radius_mm {self.radius_mm}; expected more than 0")
        if self.warmup + self.ramp > 1:
            raise ConfigError(f"warmup {self.warmup} and ramp {self.ramp} make more than all steps")
        if not self.phases or set(self.phases) - set(_PHASES) or len(set(self.phases)) != len(self.phases):
            raise ConfigError(f"phases is {self.phases!r}; expected some of {_PHASES}, each once")
        if self.fixed is not None and not 1 <= len(self.fixed) <= self.slots:
            raise ConfigError(f"fixed names {len(self.fixed)} chips for {self.slots} slots; expected 1 to that many")
        if self.mode == "multi_chip_fixed" and self.two_stage:
            raise ConfigError("two_stage learns chips behind the network; mode multi_chip_fixed learns none")

    @property
    def title(self) -> str:
        """What the run is called, as "version_c_full"."""
        return self.name or (f"{self.mode}_two_stage" if self.two_stage else self.mode)

    @property
    def folder(self) -> Path:
        """Folder of the run's own files."""
        return Path(self.out) / f"{self.title}_seed{self.seed}"

    @property
    def task(self) -> VideoConfig:
        """The task with this run's seed and folder, and one pass for each outer epoch."""
        return replace(
            self.video, mode="single_device_ast", seed=self.seed, out=str(self.folder), epochs=self.outer_epochs
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        body: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return body
