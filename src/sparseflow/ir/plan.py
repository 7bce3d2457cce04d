"""Plan: the decision taken for every layer of a workload."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sparseflow.errors import DataError, PlanError
from sparseflow.ir._json import digest
from sparseflow.ir.precision import Precision
from sparseflow.ir.workload import Workload

__all__ = ["Decision", "Plan"]

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do with one layer; every field is optional.

    Args:
        kernel: kernel name, as "dense" or "event".
        schedule: kernel parameters by name, sorted, as `(("block", 8),)`.
        precision: arithmetic of the lowered layer.
        approx: approximation parameters by name, sorted.
        keep: fraction of tokens, heads or channels kept, by kind, sorted.
        place: name of the device, chiplet or slot that runs it.
        fuse: name of the fused region that the layer joins.
    """

    kernel: str | None = None
    schedule: tuple[tuple[str, Any], ...] = ()
    precision: Precision | None = None
    approx: tuple[tuple[str, Any], ...] = ()
    keep: tuple[tuple[str, float], ...] = ()
    place: str | None = None
    fuse: str | None = None

    @property
    def set_fields(self) -> frozenset[str]:
        """Names of the fields that hold something."""
        return frozenset(f.name for f in fields(self) if getattr(self, f.name) not in (None, ()))

    @property
    def key(self) -> str:
        """Hash of the decision."""
        return digest(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Decisions by layer name, bound to one workload by its hash.

    Args:
        decisions: layer name to decision; a layer left out stays as it is.
        workload_hash: `Workload.hash` of the workload it was made for.
    """

    workload_hash: str
    decisions: Mapping[str, Decision] = field(default_factory=dict)

    def check(self, workload: Workload, reads: frozenset[str]) -> None:
        """Refuse a plan that is for another workload or that sets an unread field.

        Args:
            workload: the workload that the plan is to be applied to.
            reads: the decision fields that the transforms at hand consume.

        Raises:
            PlanError: other workload, unknown layer, or a field nobody reads.
        """
        if self.workload_hash != workload.hash:
            raise PlanError(
                f"plan is for workload {self.workload_hash}, the model traces to {workload.hash}; plan it again"
            )
        names = {layer.name for layer in workload.layers}
        for name, decision in self.decisions.items():
            if name not in names:
                raise PlanError(f"plan names layer {name!r}, which the workload does not have")
            unread = decision.set_fields - reads
            if unread:
                raise PlanError(f"plan sets {sorted(unread)} on layer {name!r}, but no transform at hand reads it")

    def to_json(self) -> str:
        """Return the plan as indented JSON."""
        body = {name: asdict(d) for name, d in self.decisions.items()}
        return json.dumps(
            {"schema": SCHEMA, "workload_hash": self.workload_hash, "decisions": body}, indent=2, allow_nan=False
        )

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Read what `to_json` wrote.

        Raises:
            DataError: not JSON, another schema, or an unknown field.
        """
        try:
            body = json.loads(text)
            if body["schema"] != SCHEMA:
                raise DataError(f"plan JSON has another schema than {SCHEMA}; plan the model again")
            decisions = {name: _decision(d) for name, d in body["decisions"].items()}
            return cls(workload_hash=body["workload_hash"], decisions=decisions)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as e:
            raise DataError(f"not a plan JSON: {e}; write it with Plan.to_json") from e


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _decision(body: dict[str, Any]) -> Decision:
    precision = body.pop("precision")
    return Decision(
        precision=None if precision is None else Precision(**precision), **{k: _tuples(v) for k, v in body.items()}
    )
