"""The objective of a mapping as the three kinds of terms that solvers work with."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from sparseflow.hardware.mapping.objective import Floats, MappingProblem

__all__ = ["Terms"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terms:
    """J(m) = max(load of the fullest slot, of the fullest link) + Σ_k own[k, m_k] + Σ_k pair[k, m_k, m_k+1].

    A slot's load is Σ_{k on s} load[k, s], a link's Σ_{k: s→t} wire[k, s, t]; serial problems have neither. Slots that
    are not usable are left out, so columns are positions in `slots`.

    Args:
        slots: `[U]` usable slots.
        load: `[K, U]` ms, of which the fullest slot counts; 0 in serial problems.
        own: `[K, U]` ms, of which all count.
        pair: `[K - 1, U, U]` ms, of which all count, with a zero diagonal.
        wire: `[K - 1, U, U]` ms, of which the fullest link counts, likewise.
        weight_mb: `[K]`.
        activation_mb: `[K]`.
        limit_mb: `[U]`.
    """

    slots: np.ndarray[tuple[int], np.dtype[np.int64]]
    load: Floats
    own: Floats
    pair: Floats
    wire: Floats
    weight_mb: Floats
    activation_mb: Floats
    limit_mb: Floats

    @classmethod
    def of(cls, problem: MappingProblem) -> Self:
        """Return the terms of a problem."""
        p = problem
        slots = np.flatnonzero(p.usable)
        grid = np.ix_(slots, slots)
        apart = 1.0 - np.eye(len(slots))
        wire = p.traffic_bytes[:, None, None] * (1e3 / p.link_bytes_per_s[grid]) * apart
        comm = wire + p.hop_ms[grid] * apart
        sent = p.traffic_bytes[:, None, None] * p.link_mj_per_byte[grid] * apart
        lat = p.lat_ms[:, slots]
        own = p.energy_weight * lat * p.power_w[:, slots]
        if p.mode == "serial":
            load, wire, own, weight = np.zeros_like(lat), np.zeros_like(wire), own + lat, 1.0
        else:
            load, weight = lat, p.comm_weight
        return cls(
            slots=slots,
            load=np.ascontiguousarray(load),
            own=np.ascontiguousarray(own),
            pair=np.ascontiguousarray(weight * comm + p.energy_weight * sent),
            wire=np.ascontiguousarray(wire),
            weight_mb=p.weight_mb,
            activation_mb=p.activation_mb,
            limit_mb=p.limit_mb[slots],
        )

    def fits(self) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """Return `[K, U]`: whether a segment alone fits into a slot."""
        need = (self.weight_mb + self.activation_mb)[:, None]
        return np.asarray(need <= self.limit_mb * (1 + 1e-9))
