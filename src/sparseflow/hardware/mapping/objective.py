"""The one objective of a mapping: what it costs to run these segments on those slots."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import ConfigError

__all__ = ["MODES", "Floats", "MappingCost", "MappingProblem", "evaluate", "evaluate_many", "slot_traffic"]

MODES = ("serial", "balanced")
Floats = NDArray[np.float64]
_MAY_BE_ENDLESS = ("limit_mb", "link_bytes_per_s")


def _zero() -> Floats:
    return np.zeros(())


def _endless() -> Floats:
    return np.array(np.inf)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MappingProblem:
    """Segments k = 0..K-1, slots s = 0..S-1, and what each pair costs.

    Arrays, or whatever numpy takes for one, are spread to the shapes below and kept as float64 (`usable` as bool).

    Args:
        lat_ms: `[K, S]` time of a segment on a slot.
        power_w: `[K, S]` power meanwhile; default 0.
        weight_mb: `[K]` parameters; default 0.
        activation_mb: `[K]` largest activations; default 0.
        limit_mb: `[S]` memory of a slot; default no limit.
        usable: `[S]` whether a slot holds a die; default all.
        traffic_bytes: `[K - 1]` from each segment to the next; default 0.
        hop_ms: `[S, S]` delay before a transfer between two slots; default 0. The diagonal is never read.
        link_bytes_per_s: `[S, S]` bandwidth between two slots; default infinite.
        link_mj_per_byte: `[S, S]` energy of a transfer (pJ/bit · 8e-9); default 0.
        mode: "serial", one sample at a time, or "balanced", a pipeline that is kept full.
        comm_weight: w_C of the objective, for transfers that hide behind the period ("balanced").
        energy_weight: w_E of the objective, ms per mJ.

    Raises:
        ConfigError: shapes that do not fit, numbers that are negative or not finite where they must be, no usable
            slot, or an unknown mode.
    """

    lat_ms: Floats
    power_w: Floats = field(default_factory=_zero)
    weight_mb: Floats = field(default_factory=_zero)
    activation_mb: Floats = field(default_factory=_zero)
    limit_mb: Floats = field(default_factory=_endless)
    usable: NDArray[np.bool_] = field(default_factory=lambda: np.array(True))
    traffic_bytes: Floats = field(default_factory=_zero)
    hop_ms: Floats = field(default_factory=_zero)
    link_bytes_per_s: Floats = field(default_factory=_endless)
    link_mj_per_byte: Floats = field(default_factory=_zero)
    mode: str = "balanced"
    comm_weight: float = 1e-3
    energy_weight: float = 0.0

    def __post_init__(self) -> None:
        """Take all as arrays of their shapes, and check them."""
        if self.mode not in MODES:
            raise ConfigError(f"mode is {self.mode!r}; expected one of {', '.join(MODES)}")
        lat = np.asarray(self.lat_ms, dtype=np.float64)
        if lat.ndim != 2 or 0 in lat.shape:
            raise ConfigError(f"lat_ms has shape {lat.shape}; expected [segments, slots], at least one of each")
        k, s = lat.shape
        shapes = {
            "lat_ms": (k, s),
            "power_w": (k, s),
            "weight_mb": (k,),
            "activation_mb": (k,),
            "limit_mb": (s,),
            "traffic_bytes": (k - 1,),
            "hop_ms": (s, s),
            "link_bytes_per_s": (s, s),
            "link_mj_per_byte": (s, s),
        }
        for name, shape in shapes.items():
            object.__setattr__(self, name, _array(name, getattr(self, name), shape))
        object.__setattr__(self, "usable", np.broadcast_to(np.asarray(self.usable, dtype=bool), (s,)))
        if not self.usable.any():
            raise ConfigError("no slot is usable; a mapping needs at least one die")
        if min(self.comm_weight, self.energy_weight) < 0:
            raise ConfigError("comm_weight and energy_weight must be 0 or more")

    @property
    def segments(self) -> int:
        """K."""
        return int(self.lat_ms.shape[0])

    @property
    def slots(self) -> int:
        """S."""
        return int(self.lat_ms.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MappingCost:
    """What a mapping costs.

    With b_s = Σ_{k on s} lat[k, s], a transfer k → k+1 between slots s ≠ t takes
    c_k = hop_ms[s, t] + traffic_k / link[s, t], and keeps its link busy for the second part of it alone.

    Args:
        period_ms: time between samples: `total_latency_ms` ("serial"), or the busiest slot or link ("balanced").
        total_latency_ms: Σ_k lat[k, m_k] + Σ c_k, of one sample.
        comm_ms: Σ c_k.
        energy_mj: Σ_k lat·power + Σ_k traffic_k · link_mj_per_byte, of one sample.
        objective: J, ms: period + w_C·comm ("balanced") or latency ("serial"), + w_E·energy.
        per_slot_ms: `[S]` b_s.
        per_slot_mb: `[S]` Σ weights + largest activations.
        per_slot_mj: `[S]` Σ lat·power.
        violations: segments on slots that are not usable, and usable slots beyond their memory.
    """

    period_ms: float
    total_latency_ms: float
    comm_ms: float
    energy_mj: float
    objective: float
    per_slot_ms: Floats
    per_slot_mb: Floats
    per_slot_mj: Floats
    violations: int


def evaluate(problem: MappingProblem, mapping: Sequence[int] | NDArray[np.integer]) -> MappingCost:
    """Return what a mapping costs.

    Args:
        problem: segments and slots.
        mapping: `[K]` slot of each segment.

    Returns:
        All figures. A mapping with violations has figures too; whoever chooses must look at them.

    Raises:
        ConfigError: the mapping has another length, or names a slot that does not exist.

    >>> lat = np.array([[1.0, 2.0], [3.0, 1.5]])
    >>> p = MappingProblem(lat_ms=lat, traffic_bytes=np.array(1e6), link_bytes_per_s=np.array(1e9))
    >>> cost = evaluate(p, [0, 1])
    >>> cost.period_ms, cost.total_latency_ms, cost.comm_ms
    (1.5, 3.5, 1.0)
    """
    m = np.asarray(mapping)
    if m.shape != (problem.segments,) or not np.issubdtype(m.dtype, np.integer):
        raise ConfigError(f"a mapping names the slot of each of {problem.segments} segments; got {mapping!r}")
    if m.min() < 0 or m.max() >= problem.slots:
        raise ConfigError(f"a mapping names slots 0 to {problem.slots - 1}; got {mapping!r}")
    many = evaluate_many(problem, m[None])
    return MappingCost(
        period_ms=float(many.period_ms[0]),
        total_latency_ms=float(many.total_latency_ms[0]),
        comm_ms=float(many.comm_ms[0]),
        energy_mj=float(many.energy_mj[0]),
        objective=float(many.objective[0]),
        per_slot_ms=many.per_slot_ms[0],
        per_slot_mb=many.per_slot_mb[0],
        per_slot_mj=many.per_slot_mj[0],
        violations=int(many.violations[0]),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ManyCosts:
    """`MappingCost` of P mappings: every figure has a first dimension P; `excess_mb` is memory beyond the limits."""

    period_ms: Floats
    total_latency_ms: Floats
    comm_ms: Floats
    energy_mj: Floats
    objective: Floats
    per_slot_ms: Floats
    per_slot_mb: Floats
    per_slot_mj: Floats
    excess_mb: Floats
    violations: NDArray[np.int64]


def evaluate_many(problem: MappingProblem, mappings: NDArray[np.integer]) -> ManyCosts:
    """Return what each of P mappings `[P, K]` costs; `evaluate` for many, without its checks."""
    p = problem
    count, (k, s) = len(mappings), p.lat_ms.shape
    rows = np.arange(k)
    lat = p.lat_ms[rows, mappings]
    mj = lat * p.power_w[rows, mappings]
    slot = np.arange(count)[:, None] * s + mappings

    def per_slot(values: Floats) -> Floats:
        spread = np.broadcast_to(values, slot.shape).ravel()
        return np.bincount(slot.ravel(), weights=spread, minlength=count * s).astype(np.float64).reshape(count, s)

    busy, weights = per_slot(lat), per_slot(p.weight_mb)
    on = mappings[:, :, None] == np.arange(s)
    memory = weights + np.where(on, p.activation_mb[:, None], 0.0).max(1)
    a, b = mappings[:, :-1], mappings[:, 1:]
    moved = a != b
    on_link = np.where(moved, p.traffic_bytes / p.link_bytes_per_s[a, b] * 1e3, 0.0)
    comm = (on_link + np.where(moved, p.hop_ms[a, b], 0.0)).sum(1)
    sent_mj = np.where(moved, p.traffic_bytes * p.link_mj_per_byte[a, b], 0.0).sum(1)
    latency = lat.sum(1) + comm
    energy = mj.sum(1) + sent_mj
    if p.mode == "serial":
        period = latency
        objective = latency + p.energy_weight * energy
    else:
        link = (np.arange(count)[:, None] * s + a) * s + b
        loads = np.bincount(link.ravel(), on_link.ravel(), count * s * s).reshape(count, s * s)
        period = np.maximum(busy.max(1), loads.max(1))
        objective = period + p.comm_weight * comm + p.energy_weight * energy
    excess = np.maximum(memory - p.limit_mb, 0.0)
    # A slot filled to the brim may exceed it by rounding.
    over = excess > 1e-9 * memory
    return ManyCosts(
        period_ms=period,
        total_latency_ms=latency,
        comm_ms=comm,
        energy_mj=energy,
        objective=objective,
        per_slot_ms=busy,
        per_slot_mb=memory,
        per_slot_mj=per_slot(mj),
        excess_mb=np.where(over, excess, 0.0),
        violations=(~p.usable[mappings]).sum(1) + (over & p.usable).sum(1),
    )


def slot_traffic(problem: MappingProblem, mapping: Sequence[int] | NDArray[np.integer]) -> Floats:
    """Return the bytes of one sample from slot to slot, `[S, S]` with a zero diagonal."""
    p = problem
    m = np.asarray(mapping)
    out = np.zeros((problem.slots, problem.slots))
    np.add.at(out, (m[:-1], m[1:]), p.traffic_bytes)
    np.fill_diagonal(out, 0.0)
    return out


def _array(name: str, value: Floats, shape: tuple[int, ...]) -> Floats:
    array = np.asarray(value, dtype=np.float64)
    try:
        array = np.broadcast_to(array, shape)
    except ValueError as e:
        raise ConfigError(f"{name} has shape {array.shape}; expected {list(shape)}") from e
    if np.isnan(array).any() or (array < 0).any():
        raise ConfigError(f"{name} has a number that is negative or not a number")
    if name not in _MAY_BE_ENDLESS and not np.isfinite(array).all():
        raise ConfigError(f"{name} has a number that is not finite")
    if name == "link_bytes_per_s" and (array == 0).any():
        raise ConfigError("link_bytes_per_s has a link of no bandwidth; leave its slots out, or give it one")
    return array
