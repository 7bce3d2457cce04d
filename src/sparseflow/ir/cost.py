"""Cost: what a layer or a workload takes, with where the figure came from."""

from dataclasses import dataclass

__all__ = ["Cost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Predicted or measured cost; None means unknown, never zero.

    Args:
        latency_s: time of one call or forward.
        energy_j: energy of one call or forward.
        peak_bytes: peak memory beyond parameters.
        area_mm2: silicon area.
        source: "measured", "records", "learned" or "analytical".
        stdev: standard deviation of `latency_s`, in seconds.
    """

    latency_s: float | None = None
    energy_j: float | None = None
    peak_bytes: float | None = None
    area_mm2: float | None = None
    source: str = ""
    stdev: float | None = None
