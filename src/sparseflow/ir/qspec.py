"""QSpec: the one object from which every integer form of a network derives, as JSON with a schema version."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.ir._json import digest

__all__ = ["ARITHMETIC", "QSpec", "QTensor"]

ARITHMETIC = "fixed_point/1"
"""Name of the arithmetic that `sparseflow/ops/fixed_point/README.md` specifies."""

_SCHEMA = 1
_MOST_BITS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class QTensor:
    """How one tensor is stored: its numbers are scale · code + offset.

    Args:
        bits: of a code; signed codes are symmetric, ±(2^(bits−1) − 1), unsigned ones 0 … 2^bits − 1.
        scale: real value of one step; several, one for each place of the first axis, for weights and biases.
        signed: whether codes may be negative.
        offset: real value of code 0.
        rounding: how real values become codes; this arithmetic has "nearest_even" alone.
        saturation: clamp at the ends; this arithmetic never wraps.

    Raises:
        ConfigError: bits outside 2…48, a scale that is not positive and finite, or another rounding.

    >>> QTensor(bits=8, scale=0.5).limit, QTensor(bits=16, scale=1.0, signed=False).limit
    (127, 65535)
    """

    bits: int
    scale: float | tuple[float, ...]
    signed: bool = True
    offset: float = 0.0
    rounding: str = "nearest_even"
    saturation: bool = True

    def __post_init__(self) -> None:
        """Check the fields."""
        if not isinstance(self.bits, int) or not 2 <= self.bits <= _MOST_BITS:
            raise ConfigError(f"QTensor.bits is {self.bits!r}; expected 2 to {_MOST_BITS}")
        if isinstance(self.scale, list):
            object.__setattr__(self, "scale", tuple(self.scale))
        for scale in self.scales:
            if not isinstance(scale, int | float) or not (math.isfinite(scale) and scale > 0):
                raise ConfigError(f"QTensor.scale holds {scale!r}; expected positive, finite numbers")
        if not isinstance(self.offset, int | float) or not math.isfinite(self.offset):
            raise ConfigError(f"QTensor.offset is {self.offset!r}; expected a finite number")
        if self.rounding != "nearest_even" or self.saturation is not True:
            raise ConfigError(
                f"rounding {self.rounding!r} with saturation {self.saturation!r}; {ARITHMETIC} rounds to nearest, "
                "ties to even, and saturates"
            )

    @property
    def scales(self) -> tuple[float, ...]:
        """The scale, or the scales."""
        return self.scale if isinstance(self.scale, tuple) else (self.scale,)

    @property
    def step(self) -> float:
        """The scale of a tensor that has one.

        Raises:
            ConfigError: it has several.
        """
        if isinstance(self.scale, tuple):
            raise ConfigError(f"a tensor has {len(self.scale)} scales where one is expected")
        return float(self.scale)

    @property
    def limit(self) -> int:
        """Largest code."""
        return (1 << (self.bits - 1 if self.signed else self.bits)) - 1

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        scale = list(self.scale) if isinstance(self.scale, tuple) else self.scale
        return {
            "bits": self.bits, "scale": scale, "signed": self.signed, "offset": self.offset,
            "rounding": self.rounding, "saturation": self.saturation,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class QSpec:
    """Every tensor of a quantised network.

    Args:
        model: settings of the network, as JSON values.
        tensors: how each tensor is stored, by the dotted name of its place.
        note: how the scales were found, as JSON values.

    Raises:
        ConfigError: no tensor.

    >>> spec = QSpec(model={}, tensors={"a": QTensor(bits=8, scale=0.5)})
    >>> QSpec.from_json(spec.to_json()) == spec
    True
    """

    model: Mapping[str, Any]
    tensors: Mapping[str, QTensor]
    note: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.tensors:
            raise ConfigError("a QSpec names no tensor")

    def __getitem__(self, name: str) -> QTensor:
        """Return how a tensor is stored.

        Raises:
            ConfigError: the specification does not name it.
        """
        try:
            return self.tensors[name]
        except KeyError:
            raise ConfigError(f"the QSpec names no tensor {name!r}; it was made for another network") from None

    @property
    def digest(self) -> str:
        """16 hex digits that stand for the content, the note aside."""
        return digest([dict(self.model), {k: v.to_dict() for k, v in self.tensors.items()}])

    def to_json(self) -> str:
        """Return the text of a file; equal specifications give equal bytes."""
        body = {
            "kind": "qspec",
            "schema": _SCHEMA,
            "arithmetic": ARITHMETIC,
            "model": dict(self.model),
            "tensors": {name: t.to_dict() for name, t in self.tensors.items()},
            "note": dict(self.note),
        }
        return json.dumps(body, sort_keys=True, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "QSpec":
        """Return the specification of `to_json`.

        Raises:
            ConfigError: not JSON, another kind, schema or arithmetic, an unknown or missing field, or a bad value;
                names the tensor.
        """
        try:
            body = json.loads(text)
        except ValueError as e:
            raise ConfigError(f"a QSpec that is not JSON: {e}") from e
        if not isinstance(body, dict) or body.get("kind") != "qspec":
            raise ConfigError("this JSON is no QSpec; its kind is not 'qspec'")
        for name, known in (("schema", _SCHEMA), ("arithmetic", ARITHMETIC)):
            if body.get(name) != known:
                raise ConfigError(f"a QSpec with {name} {body.get(name)!r}; this version reads {known!r}")
        found = {}
        for name, fields in _mapping(body, "tensors").items():
            try:
                found[name] = QTensor(**fields)
            except (TypeError, ConfigError) as e:
                raise ConfigError(f"tensor {name!r} of the QSpec: {e}") from e
        return cls(model=_mapping(body, "model"), tensors=found, note=_mapping(body, "note"))


def _mapping(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if not isinstance(value, dict):
        raise ConfigError(f"{name!r} of a QSpec is {type(value).__name__}; expected a mapping")
    return value
