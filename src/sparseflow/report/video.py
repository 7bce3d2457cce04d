"""VideoRun: everything that the page of video transformers shows, as plain data and pictures."""

from dataclasses import asdict, dataclass, field
from typing import Any

from sparseflow.errors import ConfigError

__all__ = ["VIDEO_SCHEMA", "Shown", "VideoRow", "VideoRun"]

VIDEO_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRow:
    """One network.

    Args:
        name: as "motion 0.25, seed 0".
        top1: share of videos that it got right.
        low: lower end of the interval of 95 %.
        high: its upper end.
        videos: that were scored.
        keep: share of the tokens kept.
        clips_per_s: throughput; 0 where it was not measured.
        gflops: of a clip, as counted.
        parameters: weights.
        dense: whether it keeps every token.
    """

    name: str
    top1: float
    low: float
    high: float
    videos: int
    keep: float
    clips_per_s: float
    gflops: float
    parameters: int
    dense: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One clip and what a network made of it.

    Args:
        title: which clip, with its class and what the network said.
        right: whether that is its class.
        strip: PNG, the frames side by side with what was dropped dimmed.
        moving: the same as an animated PNG.
        score: PNG, the score of every token, side by side likewise; empty without one.
    """

    title: str
    right: bool
    strip: bytes
    moving: bytes
    score: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRun:
    """A page.

    Args:
        title: of it.
        dataset: what was scored.
        synthetic: whether its motion is made and not filmed.
        rows: the networks, best known first.
        shown: clips of each network that drops tokens, by its name.
        environment: machine and versions.
        protocol: how it was measured, a sentence each.
        notes: worth knowing.
        command: what repeats the page.
        created: date and time, ISO 8601.

    Raises:
        ConfigError: no network.
    """

    title: str
    dataset: str
    synthetic: bool
    rows: tuple[VideoRow, ...]
    shown: dict[str, tuple[Shown, ...]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    protocol: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""
    created: str = ""

    def __post_init__(self) -> None:
        """Check the rows."""
        if not self.rows:
            raise ConfigError("a page of video transformers needs at least one of them")

    @property
    def headline(self) -> str:
        """One sentence: the network that drops most while it loses least, or the only one."""
        dense = max((r for r in self.rows if r.dense), key=lambda r: r.top1, default=None)
        pruned = [r for r in self.rows if not r.dense]
        best = max(pruned or self.rows, key=lambda r: r.top1)
        said = f"{100 * best.top1:.2f} % with {best.keep:.0%} of the tokens"
        if dense is None or best is dense:
            return said
        faster = f", {best.clips_per_s / dense.clips_per_s:.2f} times the clips a second" if dense.clips_per_s else ""
        return f"{said}, against {100 * dense.top1:.2f} % with all of them{faster}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data without the pictures."""
        body = asdict(self)
        body["shown"] = {
            name: [{"title": s.title, "right": s.right} for s in clips] for name, clips in self.shown.items()
        }
        return {"schema": VIDEO_SCHEMA, "headline": self.headline, **body}
