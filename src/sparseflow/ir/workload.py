"""Workload: what a model computes, layer by layer, free of any framework."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from sparseflow.errors import ConfigError, DataError
from sparseflow.ir._json import digest
from sparseflow.ir.precision import FLOAT32, Precision

__all__ = ["Layer", "Operand", "Workload", "density_bucket"]

SCHEMA = 1
_EDGES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


def density_bucket(density: float) -> float:
    """Round a density up to the next edge of a fixed ladder, so that keys recur.

    Args:
        density: fraction of elements that are not zero, 0 to 1.

    Raises:
        ConfigError: outside 0..1 or NaN.

    >>> density_bucket(0.0), density_bucket(0.06), density_bucket(1.0)
    (0.0, 0.07, 1.0)
    """
    if not 0.0 <= density <= 1.0:
        raise ConfigError(f"density is {density}; expected 0 to 1")
    if density == 0.0:
        return 0.0
    return next(edge for edge in _EDGES if density <= edge)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """One tensor of a layer.

    Args:
        role: "input", "weight", "bias", "residual", "state" or "output".
        shape: elements per dimension, as the framework sees them.
        precision: stored arithmetic.
        density: measured fraction of non-zero elements, or None if unknown.
        structure: "dense", "spikes" ({0, 1}), "counts" (small non-negative
            integers) or "sparse" (any values, many zero).
    """

    role: str
    shape: tuple[int, ...]
    precision: Precision = FLOAT32
    density: float | None = None
    structure: str = "dense"

    def __post_init__(self) -> None:
        """Check the fields."""
        if any(n < 0 for n in self.shape):
            raise ConfigError(f"operand {self.role!r} has shape {self.shape}; sizes must not be negative")
        if self.density is not None and not 0.0 <= self.density <= 1.0:
            raise ConfigError(f"operand {self.role!r} has density {self.density}; expected 0 to 1")

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> float:
        """Bytes stored densely in its precision."""
        return self.numel * self.precision.bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One operator call of a model.

    Args:
        name: dotted module name, or the graph node's name for a function.
        op: operator stem, as "conv2d", "linear", "lif", "attention", "add".
        operands: inputs first, then parameters, then outputs.
        attrs: operator attributes by name, as `("stride", (1, 1))`, sorted.
        uses: names of the layers whose outputs this one reads.
        repeat: how often the same call runs in one forward (time steps).
        flops: floating-point operations of one dense call (a multiply-add is 2).
    """

    name: str
    op: str
    operands: tuple[Operand, ...]
    attrs: tuple[tuple[str, Any], ...] = ()
    uses: tuple[str, ...] = ()
    repeat: int = 1
    flops: float = 0.0

    def operand(self, role: str) -> Operand | None:
        """Return the first operand with this role, or None."""
        return next((o for o in self.operands if o.role == role), None)

    def attr(self, name: str, default: Any = None) -> Any:
        """Return one attribute, or `default`."""
        return dict(self.attrs).get(name, default)

    @property
    def bytes(self) -> float:
        """Bytes moved by one call if every operand is touched once."""
        return sum(o.bytes for o in self.operands)

    @property
    def density(self) -> float | None:
        """Density of the first input."""
        first = self.operand("input")
        return None if first is None else first.density

    @property
    def key(self) -> str:
        """Hash of everything but the name and the edges; density is bucketed."""
        body = asdict(self)
        for name in ("name", "uses"):
            body.pop(name)
        for o in body["operands"]:
            if o["density"] is not None:
                o["density"] = density_bucket(o["density"])
        return digest(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The layers of one model on one sample, in a valid execution order.

    Args:
        name: the model's class or zoo name.
        layers: the layers; names are unique.
        captured_by: "fx", "record" or "export": how the edges were obtained.

    Raises:
        ConfigError: a name occurs twice.
    """

    name: str
    layers: tuple[Layer, ...]
    captured_by: str = ""
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check that names are unique."""
        seen: set[str] = set()
        for layer in self.layers:
            if layer.name in seen:
                raise ConfigError(f"workload {self.name!r} holds layer {layer.name!r} twice")
            seen.add(layer.name)

    def __iter__(self) -> Iterator[Layer]:
        """Iterate over the layers."""
        return iter(self.layers)

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.layers)

    def layer(self, name: str) -> Layer:
        """Return the layer with this name.

        Raises:
            ConfigError: there is none.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ConfigError(f"workload {self.name!r} has no layer {name!r}")

    @property
    def flops(self) -> float:
        """Dense floating-point operations of one forward."""
        return sum(layer.flops * layer.repeat for layer in self.layers)

    @property
    def hash(self) -> str:
        """Hash of the layers, their names and edges."""
        return digest([[layer.name, layer.key, list(layer.uses)] for layer in self.layers])

    def to_json(self) -> str:
        """Return the workload as indented JSON."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Workload":
        """Read what `to_json` wrote.

        Raises:
            DataError: not JSON, another schema, or a field is missing.
        """
        try:
            body = json.loads(text)
            if body.pop("schema") != SCHEMA:
                raise DataError(f"workload JSON has another schema than {SCHEMA}; trace the model again")
            layers = tuple(_layer(x) for x in body.pop("layers"))
            body["notes"] = tuple(body["notes"])
            return cls(layers=layers, **body)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as e:
            raise DataError(f"not a workload JSON: {e}; write it with Workload.to_json") from e


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _layer(body: dict[str, Any]) -> Layer:
    operands = tuple(
        Operand(**{**o, "shape": tuple(o["shape"]), "precision": Precision(**o["precision"])})
        for o in body.pop("operands")
    )
    return Layer(operands=operands, **{k: _tuples(v) for k, v in body.items()})
