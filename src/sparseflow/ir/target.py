"""Target: the hardware that a plan is made for, as plain numbers with units."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sparseflow.errors import ConfigError

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
        sources: where each number comes from, by field name.

    Raises:
        ConfigError: unknown kind, or a rate or size that is not positive.
    """

    name: str
    kind: str
    peak_flops_per_s: Mapping[str, float]
    bw_bytes_per_s: float
    memory_bytes: float
    cores: int
    launch_s: float = 0.0
    features: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.kind not in ("cpu", "gpu", "fpga"):
            raise ConfigError(f"target {self.name!r} has kind {self.kind!r}; expected cpu, gpu or fpga")
        rates = {**self.peak_flops_per_s, "bw_bytes_per_s": self.bw_bytes_per_s, "memory_bytes": self.memory_bytes}
        for what, value in rates.items():
            if not value > 0:
                raise ConfigError(f"target {self.name!r}: {what} is {value}; expected a positive number")

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
