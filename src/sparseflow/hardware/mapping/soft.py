"""The objective of a mapping in tensors: the formula of `evaluate`, with gradients, for chances instead of choices."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.hardware.mapping.objective import MappingProblem

__all__ = ["SoftCost", "expected_cost"]

_FIELDS = (
    "lat_ms",
    "power_w",
    "weight_mb",
    "activation_mb",
    "traffic_bytes",
    "hop_ms",
    "link_bytes_per_s",
    "link_mj_per_byte",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoftCost:
    """Figures of `MappingCost` as tensors without dimensions, and those of slots as `[S]`."""

    period_ms: Tensor
    total_latency_ms: Tensor
    comm_ms: Tensor
    energy_mj: Tensor
    objective: Tensor
    per_slot_ms: Tensor
    per_slot_mb: Tensor
    per_slot_mj: Tensor


def expected_cost(
    problem: MappingProblem,
    assign: Tensor | NDArray[np.integer],
    tensors: Mapping[str, Tensor] | None = None,
    *,
    sharpness: float | None = None,
) -> SoftCost:
    """Return what a mapping costs, as tensors that carry the gradients of whatever is a tensor.

    Segment k is on slot s with chance π[k, s], independently of the others, so that a transfer k → k+1 runs over link
    (s, t) with chance π[k, s]·π[k+1, t]; loads are expectations, and the period is the largest. With a chosen mapping
    (π of zeros and ones) every figure is that of `evaluate`, and the gradient of J with respect to the costs is that
    of min_m J at its minimiser (Danskin). Largest activations are taken over π[k, s]·activation[k].

    Args:
        problem: segments, slots, mode and weights.
        assign: π `[K, S]`, or slots `[K]`.
        tensors: what takes the place of the problem's fields of the same names and shapes.
        sharpness: None for the largest load; else β of log Σ exp(β·x / x̂) / β · x̂ with the largest load x̂, which
            passes gradients to all loads.

    Raises:
        ConfigError: an unknown field, or chances of another shape.
    """
    own = dict(tensors or {})
    unknown = sorted(set(own) - set(_FIELDS))
    if unknown:
        raise ConfigError(f"expected_cost replaces {', '.join(_FIELDS)}; got {', '.join(unknown)}")
    like = assign if isinstance(assign, Tensor) else next(iter(own.values()), torch.zeros((), dtype=torch.float64))
    dtype = like.dtype if like.is_floating_point() else torch.float64
    p = {
        # A copy, since arrays that were spread cannot be written, and torch warns of those.
        name: own[name] if name in own else torch.tensor(getattr(problem, name), dtype=dtype, device=like.device)
        for name in _FIELDS
    }
    pi = _chances(problem, assign, dtype, like.device)
    busy_k = pi * p["lat_ms"]
    mj_k = busy_k * p["power_w"]
    busy, mj = busy_k.sum(0), mj_k.sum(0)
    memory = (pi * p["weight_mb"][:, None]).sum(0) + (pi * p["activation_mb"][:, None]).amax(0)
    apart = 1.0 - torch.eye(problem.slots, dtype=dtype, device=like.device)
    pairs = pi[:-1, :, None] * pi[1:, None, :] * apart
    on_link = pairs * (p["traffic_bytes"][:, None, None] * (1e3 / p["link_bytes_per_s"]))
    comm = on_link.sum() + (pairs * p["hop_ms"]).sum()
    energy = mj.sum() + (pairs * p["traffic_bytes"][:, None, None] * p["link_mj_per_byte"]).sum()
    latency = busy.sum() + comm
    if problem.mode == "serial":
        period, objective = latency, latency
    else:
        period = _largest(torch.cat([busy, on_link.sum(0).flatten()]), sharpness)
        objective = period + problem.comm_weight * comm
    return SoftCost(
        period_ms=period,
        total_latency_ms=latency,
        comm_ms=comm,
        energy_mj=energy,
        objective=objective + problem.energy_weight * energy,
        per_slot_ms=busy,
        per_slot_mb=memory,
        per_slot_mj=mj,
    )


def _chances(
    problem: MappingProblem, assign: Tensor | NDArray[np.integer], dtype: torch.dtype, device: torch.device
) -> Tensor:
    if isinstance(assign, Tensor) and assign.is_floating_point():
        if tuple(assign.shape) != (problem.segments, problem.slots):
            raise ConfigError(f"chances have shape {list(assign.shape)}; expected {[problem.segments, problem.slots]}")
        return assign
    slots = torch.as_tensor(assign, device=device).long()
    if tuple(slots.shape) != (problem.segments,):
        raise ConfigError(f"a mapping names the slot of each of {problem.segments} segments; got {list(slots.shape)}")
    return torch.nn.functional.one_hot(slots, problem.slots).to(dtype)


def _largest(loads: Tensor, sharpness: float | None) -> Tensor:
    if sharpness is None:
        return loads.amax()
    top = loads.amax().clamp(min=torch.finfo(loads.dtype).tiny)
    return torch.logsumexp(sharpness * loads / top, 0) / sharpness * top
