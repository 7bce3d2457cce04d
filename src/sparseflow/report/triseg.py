"""TriSegRun: everything that the page of an approximated network shows, as plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sparseflow.errors import ConfigError

__all__ = ["TRISEG_SCHEMA", "Curve", "Finding", "SiteView", "TriSegRun"]

TRISEG_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """One approximated activation.

    Args:
        name: name of the site, as "conv1".
        counts: how often each code 0..255 occurred without approximation, where the codes are made.
        codes: t1, v1, t2, v2, tmax.
        shares: of zeros, v1, v2 and codes beyond tmax where layers read them; None if nobody counted.
        bits: bits an activation there, or None.
        avoided: share of multiplies saved in the layers that read it, or None.
        drop: points of accuracy lost if this site alone is approximated, or None.

    Raises:
        ConfigError: another number of counts or codes.
    """

    name: str
    counts: tuple[int, ...]
    codes: tuple[int, int, int, int, int]
    shares: tuple[float, ...] | None = None
    bits: float | None = None
    avoided: float | None = None
    drop: float | None = None

    def __post_init__(self) -> None:
        """Check the lengths."""
        if len(self.counts) != 256 or len(self.codes) != 5:
            raise ConfigError(
                f"site {self.name!r} has {len(self.counts)} counts and {len(self.codes)} codes; want 256, 5"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How the best reward of one searcher grew.

    Args:
        name: the searcher.
        points: evaluations spent and the best reward until then, in order; the median where there are several seeds.
        low: lowest of the seeds at the same places, or empty.
        high: highest, likewise.
        seeds: how many runs are behind it.
        ours: whether it is the default searcher.

    Raises:
        ConfigError: evaluations that do not grow, or another number of lows or highs.
    """

    name: str
    points: tuple[tuple[int, float], ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    seeds: int = 1
    ours: bool = False

    def __post_init__(self) -> None:
        """Check the order."""
        spent = [n for n, _ in self.points]
        if spent != sorted(set(spent)) or any(len(b) not in (0, len(spent)) for b in (self.low, self.high)):
            raise ConfigError(f"curve {self.name!r} needs growing evaluations and as many lows and highs as points")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One configuration in the picture of accuracy against bits.

    Args:
        name: what it is, as "finalist 3" or "INT8".
        bits: bits an activation.
        accuracy: in percent.
        kind: "teacher", "finalist", "chosen" or "tuned".
    """

    name: str
    bits: float
    accuracy: float
    kind: str = "finalist"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriSegRun:
    """One approximated network: what was found, how, and what it costs.

    Args:
        title: heading of the page.
        model: name of the network.
        acc_teacher: accuracy of the INT8 network, in percent.
        acc_student: accuracy with the codes applied.
        split: images of these accuracies, as "val" or "test".
        images: how many they are.
        selection: why this configuration was taken.
        overflow: "pass", "clip" or "saturate".
        sites: the approximated activations, in order.
        curves: reward curves of the searchers.
        findings: accuracy against bits.
        cost: plain data of the counted cost, as `TriSegCost.to_dict` makes it; empty if nobody counted.
        environment: machine and versions by name.
        protocol: how the figures were taken, one sentence each.
        notes: remarks for the reader.
        command: the command that repeats this run.
        created: date and time, ISO 8601.
    """

    title: str
    model: str
    acc_teacher: float
    acc_student: float
    split: str
    images: int
    selection: str = ""
    overflow: str = "pass"
    sites: tuple[SiteView, ...] = ()
    curves: tuple[Curve, ...] = ()
    findings: tuple[Finding, ...] = ()
    cost: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    protocol: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""
    created: str = ""

    @property
    def acc_drop(self) -> float:
        """Points of accuracy lost; below 0 if some were won."""
        return round(self.acc_teacher - self.acc_student, 9)

    @property
    def headline(self) -> str:
        """The run in one honest sentence."""
        parts = []
        if self.cost:
            parts = [
                f"{self.cost['bits_per_activation']:.2f} bits an activation",
                f"{100 * self.cost['multiplies_avoided']:.1f}\u202f% of multiplies gone",
            ]
        lost = f"{abs(self.acc_drop):.2f} points of accuracy {'lost' if self.acc_drop >= 0 else 'won'}"
        return f"{', '.join([*parts, lost])} on {self.images} {self.split} images"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        body = asdict(self)
        return {"schema": TRISEG_SCHEMA, **body, "acc_drop": self.acc_drop}
