"""Target: the hardware that a plan is made for, as plain numbers with units."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sparseflow.errors import ConfigError
from sparseflow.ir._json import digest

__all__ = ["Target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One device.

    Args:
        name: short name, as "cpu" or "h200".
        kind: "cpu", "gpu" or "fpga".
        peak_flops_per_s: peak rate by precision name, as `{"float32": 1e11}`.
        bw_bytes_per_s: main-memory bandwidth.
        memory_bytes: main-memory size.
        cores: cores, multiprocessors, or DSP slices.
        launch_s: fixed cost of starting one kernel.
        features: instruction sets or units by name, as `("avx2", "avx512f")`.
        measured: rates reached in a measurement, by precision name or
            "bw_bytes_per_s"; they lie below the vendor's.
        resources: countable parts by name, as `{"lut": 274080}`.
        sources: where each number comes from, by field name; "name" names the
            device itself.

    Raises:
        ConfigError: unknown kind, no cores, or a rate or size that is not
            positive and finite.
    """

    name: str
    kind: str
    peak_flops_per_s: Mapping[str, float]
    bw_bytes_per_s: float
    memory_bytes: float
    cores: int
    launch_s: float = 0.0
    features: tuple[str, ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.kind not in ("cpu", "gpu", "fpga"):
            raise ConfigError(f"target {self.name!r} has kind {self.kind!r}; expected cpu, gpu or fpga")
        rates = {**self.peak_flops_per_s, "bw_bytes_per_s": self.bw_bytes_per_s, "memory_bytes": self.memory_bytes}
        rates |= {f"measured {what}": value for what, value in self.measured.items()}
        for what, value in {**rates, "cores": self.cores}.items():
            if not 0 < value < math.inf:
                raise ConfigError(f"target {self.name!r}: {what} is {value}; expected a positive number")
        if not 0 <= self.launch_s < math.inf:
            raise ConfigError(f"target {self.name!r}: launch_s is {self.launch_s}; expected zero or more seconds")

    @property
    def key(self) -> str:
        """Name and hash of what tells two devices apart; rates measured anew do not change it."""
        device = self.sources.get("name", "")
        return f"{self.name}-{digest([self.kind, self.cores, sorted(self.features), device])[:8]}"

    def peak(self, precision: str) -> float:
        """Return the peak rate in operations a second for a precision name.

        Raises:
            ConfigError: the target does not list this precision.
        """
        try:
            return self.peak_flops_per_s[precision]
        except KeyError:
            known = ", ".join(sorted(self.peak_flops_per_s))
            raise ConfigError(f"target {self.name!r} lists no rate for {precision!r}; it has {known}") from None
