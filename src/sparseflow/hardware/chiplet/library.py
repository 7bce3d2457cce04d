"""Types of chiplets, read from a library in YAML."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.hardware.facts import FactReader

__all__ = ["ChipletType", "load_library"]

_SHIPPED = "gpu_data.yaml"
_NUMBERS = (
    "peak_flops_per_s", "peak_bw_bytes_per_s", "mem_gb", "area_mm2", "aspect", "tdp_w",
    "link_bw_bytes_per_s", "link_pj_per_bit", "link_latency_ns",
)  # fmt: skip
_MAY_BE_ZERO = ("link_pj_per_bit", "link_latency_ns")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipletType:
    """One type of chiplet.

    Args:
        name: short name, as "big_core".
        peak_flops_per_s: peak rate, dense, at `precision`.
        peak_bw_bytes_per_s: bandwidth of its memory.
        mem_gb: size of its memory, 1e9 bytes.
        area_mm2: area of the die.
        aspect: width over height.
        tdp_w: power that it may draw for long.
        link_bw_bytes_per_s: bandwidth to other chiplets, one direction.
        link_pj_per_bit: energy of a bit that leaves it.
        link_latency_ns: delay of one hop to another chiplet.
        precision: the precision that the peak is stated for.
        sources: where each number comes from, by field name.

    Raises:
        ConfigError: a number that is not finite or, but for the link's energy
            and latency, not positive.

    >>> big = load_library(names=["big_core"])[0]
    >>> round(big.width_mm), round(big.height_mm)
    (25, 24)
    """

    name: str
    peak_flops_per_s: float
    peak_bw_bytes_per_s: float
    mem_gb: float
    area_mm2: float
    aspect: float = 1.0
    tdp_w: float
    link_bw_bytes_per_s: float
    link_pj_per_bit: float
    link_latency_ns: float
    precision: str = "float16"
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Check the numbers."""
        for key in _NUMBERS:
            value = getattr(self, key)
            if not (0 <= value < math.inf and (value > 0 or key in _MAY_BE_ZERO)):
                raise ConfigError(f"chiplet {self.name!r}: {key} is {value}; give a positive number")

    @property
    def width_mm(self) -> float:
        """Width of the die, √(area·aspect)."""
        return math.sqrt(self.area_mm2 * self.aspect)

    @property
    def height_mm(self) -> float:
        """Height of the die, √(area/aspect)."""
        return math.sqrt(self.area_mm2 / self.aspect)

    @property
    def mem_mb(self) -> float:
        """Size of its memory, 1e6 bytes."""
        return 1e3 * self.mem_gb


def load_library(path: str | Path = _SHIPPED, *, names: Sequence[str] | None = None) -> tuple[ChipletType, ...]:
    """Return the types of a chiplet library.

    Args:
        path: a YAML file; "gpu_data.yaml" is the one that comes with
            sparseflow unless there is such a file in the folder at hand.
        names: which types, in this order; all of the file if None.

    Raises:
        ConfigError: the file cannot be read, a fault in it, or an unknown name:
            names the file, the key and the mend.

    >>> [chip.name for chip in load_library()][:2]
    ['big_core', 'small_core']
    """
    file = Path(path)
    try:
        if str(path) == _SHIPPED and not file.is_file():
            content = resources.files(__package__).joinpath(_SHIPPED).read_text(encoding="utf-8")
        else:
            content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read chiplet library {path}: {e}; name a readable YAML file") from e
    reader = FactReader(str(path))
    body = reader.mapping("the file", reader.parse(content))
    reader.keys(body, ("chiplets",), ("chiplets",))
    entries = reader.mapping("chiplets", body["chiplets"])
    for name in names or ():
        if name not in entries:
            raise ConfigError(f"{path} has no chiplet {name!r}; it has {', '.join(map(str, entries))}")
    types = tuple(_chiplet(str(path), str(name), entries[name]) for name in (entries if names is None else names))
    if not types:
        raise ConfigError(f"{path}: no chiplet; a wafer needs at least one type")
    return types


def _chiplet(place: str, name: str, value: Any) -> ChipletType:
    reader = FactReader(f"{place}: {name}")
    body = reader.mapping("the chiplet", value)
    reader.keys(body, ("precision", *_NUMBERS), tuple(key for key in _NUMBERS if key != "aspect"))
    numbers = {key: reader.number(key, body[key]) for key in _NUMBERS if key in body}
    words = {"precision": reader.word("precision", body["precision"])} if "precision" in body else {}
    try:
        return ChipletType(name=name, sources=reader.sources, **numbers, **words)  # type: ignore[arg-type]
    except ConfigError as e:
        raise ConfigError(f"{place}: {e}") from e
