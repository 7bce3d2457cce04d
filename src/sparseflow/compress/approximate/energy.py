"""What the operations on codes cost in joules: a table of numbers, each with its source."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from sparseflow.errors import ConfigError

__all__ = ["EnergyTable"]

_SHIPPED = Path(__file__).parent / "energy.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyTable:
    """Energy of one operation each, in joules.

    Args:
        name: short name, as "45nm".
        technology: what the numbers hold for.
        multiply_int8_j: product of two codes.
        multiply_int32_j: product of a 32-bit sum and a code.
        add_int32_j: addition into a 32-bit sum.
        compare_int8_j: comparison of a code with a threshold.
        memory_j_per_bit: one bit read from or written to the memory of activations.
        sources: where each number comes from, by its name.

    Raises:
        ConfigError: a number that is negative or not finite.
    """

    name: str
    technology: str
    multiply_int8_j: float
    multiply_int32_j: float
    add_int32_j: float
    compare_int8_j: float
    memory_j_per_bit: float
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the numbers."""
        for key in _NUMBERS:
            value = getattr(self, key)
            if not 0 <= value < math.inf:
                raise ConfigError(f"energy table {self.name!r}: {key} is {value}; expected 0 or more joules")

    @classmethod
    def load(cls, path: str | Path | None = None) -> "EnergyTable":
        """Return the shipped table, or that of a YAML file of the same form.

        Raises:
            ConfigError: the file cannot be read, or a number or its source is missing; names both.

        >>> EnergyTable.load().multiply_int8_j
        2e-13
        """
        place = _SHIPPED if path is None else Path(path)
        try:
            body = yaml.safe_load(place.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
            raise ConfigError(f"cannot read the energy table {place}: {e}; name a readable YAML file") from e
        if not isinstance(body, dict):
            raise ConfigError(f"{place} holds no energy table; write lines as in {_SHIPPED}")
        words = {key: str(body.pop(key, "")) for key in ("name", "technology")}
        if unknown := [str(key) for key in body if key not in _NUMBERS]:
            raise ConfigError(f"{place}: {unknown[0]} is not known; use {', '.join(_NUMBERS)}")
        found = {key: _number(place, key, body.get(key)) for key in _NUMBERS}
        sources = {key: source for key, (_, source) in found.items()}
        numbers: dict[str, Any] = {key: value for key, (value, _) in found.items()}
        return cls(name=words["name"], technology=words["technology"], sources=sources, **numbers)


_NUMBERS = tuple(f.name for f in fields(EnergyTable) if f.type in ("float", float))


def _number(place: Path, key: str, entry: Any) -> tuple[float, str]:
    if not isinstance(entry, dict) or set(entry) != {"value", "source"} or not str(entry["source"]).strip():
        raise ConfigError(f'{place}: {key} is {entry!r}; write {{value: NUMBER, source: "where it comes from"}}')
    try:
        # YAML 1.1 reads 2e-13, without a point, as text.
        return float(entry["value"]), str(entry["source"])
    except (TypeError, ValueError):
        raise ConfigError(f"{place}: {key} has value {entry['value']!r}; give a number of joules") from None
