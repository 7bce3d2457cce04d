"""One measurement or failure, and the key it is found by."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from sparseflow.errors import ConfigError

__all__ = ["Key", "Record", "source_hash"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a measurement is of; two records with one key measure the same thing.

    Args:
        layer: `Layer.key`, `Workload.hash`, or the name of a search problem.
        decision: `Decision.key`, or the hash of a trial's parameters.
        target: `Target.key`, which tells two machines apart.
        protocol: how it was measured, as "rounds=20 warmup=3 threads=2".
        source: hash of the code that was measured, from `source_hash`.

    Raises:
        ConfigError: layer, decision, target or protocol is empty.
    """

    layer: str
    decision: str
    target: str
    protocol: str
    source: str = ""

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("layer", "decision", "target", "protocol"):
            if not getattr(self, name):
                raise ConfigError(f"the {name} of a record key is empty; name what was measured")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of the store: a value, or the reason why there is none.

    Args:
        key: what was measured.
        value: what is minimised, as the median latency; None for a failure.
        unit: unit of `value`, as "s".
        failure: reason, or None if the measurement succeeded.
        name: layer or problem name, for people.
        decision: the decision or the parameters behind `key.decision`.
        stats: further figures by name with their unit, as `iqr_s`.
        run: name of the run that wrote it.
        id: number given by the store; None before it is stored.
        created_at: time of storing in UTC; None before it is stored.

    Raises:
        ConfigError: value and failure both given or both missing, or a
            figure is not finite.
    """

    key: Key
    value: float | None = None
    unit: str = "s"
    failure: str | None = None
    name: str = ""
    decision: Mapping[str, Any] = field(default_factory=dict)
    stats: Mapping[str, float] = field(default_factory=dict)
    run: str = ""
    id: int | None = None
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if (self.value is None) == (self.failure is None):
            raise ConfigError(f"a record holds a value or a failure; got value={self.value}, failure={self.failure!r}")
        for what, figure in {"value": self.value, **self.stats}.items():
            if figure is not None and not math.isfinite(figure):
                raise ConfigError(f"{what} of a record is {figure}; record a failure with its reason instead")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON.

        >>> key = Key(layer="conv", decision="dense", target="cpu", protocol="rounds=3")
        >>> Record(key=key, value=0.5).to_dict()["key"]["layer"]
        'conv'
        """
        body = {name: getattr(self, name) for name in ("id", "name", "value", "unit", "failure", "run")}
        created = None if self.created_at is None else self.created_at.isoformat()
        return {
            **body,
            "created_at": created,
            "key": asdict(self.key),
            "decision": dict(self.decision),
            "stats": dict(self.stats),
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> "Record":
        """Read what `to_dict` returned.

        Raises:
            ConfigError: a field is missing or unknown.
        """
        try:
            given = dict(body)
            created = given.pop("created_at")
            when = None if created is None else datetime.fromisoformat(created)
            return cls(key=Key(**given.pop("key")), created_at=when, **given)
        except (KeyError, TypeError) as e:
            raise ConfigError(f"not a record: {e}; write it with Record.to_dict") from e


def source_hash(*sources: ModuleType | Path | str | bytes) -> str:
    """Hash the code that a measurement runs, so that changed code is measured again.

    Args:
        sources: modules (their file), paths of files, or text such as the name
            of a compiled kernel and the library version that holds it.

    Returns:
        16 hex digits; the order of the sources matters.

    Raises:
        ConfigError: a module has no file, or a file cannot be read.

    >>> source_hash("event", "1.0") == source_hash("event", "1.0") != source_hash("event", "1.1")
    True
    """
    parts = [hashlib.sha256(_content(source)).digest() for source in sources]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _content(source: ModuleType | Path | str | bytes) -> bytes:
    if isinstance(source, ModuleType):
        if not source.__file__:
            raise ConfigError(f"module {source.__name__} has no file to hash")
        source = Path(source.__file__)
    if isinstance(source, Path):
        try:
            return source.read_bytes()
        except OSError as e:
            raise ConfigError(f"cannot hash source {source}: {e}") from e
    return source.encode() if isinstance(source, str) else source
