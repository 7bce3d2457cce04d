"""CodesignRun: everything that the page of a co-design shows, as plain data and a picture of the heat."""

from dataclasses import asdict, dataclass, field
from typing import Any

from sparseflow.errors import ConfigError

__all__ = ["CODESIGN_SCHEMA", "CodesignRun", "Die", "Link", "Phase", "Seen", "Slice", "Weighing"]

CODESIGN_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Die:
    """One die on the wafer: its slot, type, centre and size in mm, watts, and busy share of the period."""

    slot: int
    type: str
    x_mm: float
    y_mm: float
    width_mm: float
    height_mm: float
    power_w: float
    busy: float
    memory_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Bytes of one sample from one slot to another."""

    source: int
    target: int
    bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One segment of one sample on its slot, from and to in ms."""

    segment: int
    sample: int
    slot: int
    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One line of the log: outer epoch, phase, whether its proposal was taken, and L_hw behind it."""

    epoch: int
    phase: str
    accepted: bool
    objective: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One design that was judged.

    Args:
        latency_ms: of one sample, or the period.
        energy_mj: of one sample.
        area_mm2: of all dies.
        chips: dies.
        front: whether no other design is at least as good in all three and better in one.
        chosen: whether it is the one in force.
    """

    latency_ms: float
    energy_mj: float
    area_mm2: float
    chips: int
    front: bool
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """What a search from the final design comes to with one weight of L_hw multiplied."""

    weight: str
    factor: float
    latency_ms: float
    energy_mj: float
    area_mm2: float
    chips: int
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CodesignRun:
    """A page.

    Args:
        title: of it.
        headline: one sentence with the result.
        network: what runs on the wafer.
        radius_mm: of the wafer.
        t_max_c: hottest die.
        dies: on it.
        links: between them.
        heat: PNG of the temperature over the wafer's square; empty without one.
        heat_span_c: lowest and highest temperature of the picture.
        gantt: slices of the first samples.
        phases: of the log.
        seen: designs that were judged.
        weighings: sensitivity to each weight.
        figures: rows of name, value and unit.
        environment: machine and versions.
        protocol: how it was made, a sentence each.
        command: what repeats it.
        created: date and time, ISO 8601.

    Raises:
        ConfigError: no die.
    """

    title: str
    headline: str
    network: str
    radius_mm: float
    t_max_c: float
    dies: tuple[Die, ...]
    links: tuple[Link, ...] = ()
    heat: bytes = b""
    heat_span_c: tuple[float, float] = (0.0, 0.0)
    gantt: tuple[Slice, ...] = ()
    phases: tuple[Phase, ...] = ()
    seen: tuple[Seen, ...] = ()
    weighings: tuple[Weighing, ...] = ()
    figures: tuple[tuple[str, float, str], ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    protocol: tuple[str, ...] = ()
    command: str = ""
    created: str = ""

    def __post_init__(self) -> None:
        """Check the dies."""
        if not self.dies:
            raise ConfigError("a wafer without a die has no page")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data without the picture."""
        body = asdict(self)
        body.pop("heat")
        return {"schema": CODESIGN_SCHEMA, **body}
