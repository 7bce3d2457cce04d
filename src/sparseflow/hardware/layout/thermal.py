"""Heat of dies on a thin plate with a cooled face, in closed form and with gradients."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparseflow.errors import ConfigError

__all__ = ["Plate"]

_NODES, _REACH = 24, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plate:
    """A round plate that spreads the heat of dies and gives it to a coolant.

    −k·t·∇²T + h·T = q on a disc, no flow through its edge; T is the rise over
    the coolant. The defaults are 3 mm of copper on a liquid cold plate.

    Args:
        conductivity_w_per_m_k: k.
        thickness_mm: t.
        cooling_w_per_m2_k: h, power given to the coolant.
        ambient_c: temperature of the coolant.
        radius_mm: radius of the disc.

    Raises:
        ConfigError: a number that is not positive (but for the ambient).
    """

    conductivity_w_per_m_k: float = 400.0
    thickness_mm: float = 3.0
    cooling_w_per_m2_k: float = 1e4
    ambient_c: float = 25.0
    radius_mm: float = 150.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        for key in ("conductivity_w_per_m_k", "thickness_mm", "cooling_w_per_m2_k", "radius_mm"):
            if not 0 < getattr(self, key) < math.inf:
                raise ConfigError(f"plate: {key} is {getattr(self, key)}; give a positive number")
        if not math.isfinite(self.ambient_c):
            raise ConfigError(f"plate: ambient_c is {self.ambient_c}; give a temperature")

    @property
    def length_mm(self) -> float:
        """How far heat spreads, λ = √(k·t/h)."""
        return 1e3 * math.sqrt(self.conductivity_w_per_m_k * self.thickness_mm * 1e-3 / self.cooling_w_per_m2_k)

    def rise_k(
        self,
        points_mm: Tensor,
        pos_mm: Tensor,
        widths_mm: Tensor,
        heights_mm: Tensor,
        power_w: Tensor,
        *,
        edge: bool = True,
    ) -> Tensor:
        """Return the rise of temperature at points, with gradients to all operands.

        A point source spreads as K0(r/λ)/(2πkt). Written as
        ∫ exp(−τ/λ² − r²/4τ)/(4πkt·τ) dτ, its mean over a rectangle separates
        into error functions, E(x, w) = ½[erf((x+w/2)/2√τ) − erf((x−w/2)/2√τ)]:
        T(p) = Σ_j P_j/(w_j·h_j·h) ∫₀^∞ 2u·exp(−u²)·E(dx, w_j)·E(dy, h_j) du,
        √τ = λu. The edge mirrors each point at its nearest spot of the rim.

        Args:
            points_mm: `[..., P, 2]`.
            pos_mm: `[..., S, 2]`, centres of dies.
            widths_mm: `[S]`; a die without area gives no heat.
            heights_mm: `[S]`.
            power_w: `[S]`, spread evenly over each die.
            edge: False for a plate without end.

        Returns:
            `[..., P]` kelvin.
        """
        if edge:
            # A point in the middle has no nearest spot of the rim; any will do.
            middle = points_mm.abs().amax(-1, keepdim=True) < 1e-6
            aside = torch.where(middle, points_mm + 1e-6, points_mm)
            norm = torch.linalg.vector_norm(aside, dim=-1, keepdim=True)
            both = torch.stack([points_mm, aside * (2 * self.radius_mm / norm - 1)])
            return self.rise_k(both, pos_mm, widths_mm, heights_mm, power_w, edge=False).sum(0)
        area = widths_mm * heights_mm
        flux_w_per_m2 = 1e6 * power_w / torch.where(area > 0, area, 1) * (area > 0)
        offset = points_mm.unsqueeze(-2) - pos_mm.unsqueeze(-3)
        nodes, weights = _quadrature(pos_mm)
        spread = 2 * self.length_mm * nodes
        across = _covered(offset[..., 0, None], widths_mm[:, None], spread)
        along = _covered(offset[..., 1, None], heights_mm[:, None], spread)
        return (((across * along) @ weights) @ flux_w_per_m2) / self.cooling_w_per_m2_k

    def probes_mm(self, pos_mm: Tensor, widths_mm: Tensor, heights_mm: Tensor, *, side: int = 3) -> Tensor:
        """Return side² points spread over each die, `[..., S·side², 2]`; one is its centre where side is odd."""
        steps = torch.linspace(-0.5, 0.5, side + 2, dtype=pos_mm.dtype, device=pos_mm.device)[1:-1]
        grid = torch.cartesian_prod(steps, steps)
        offset = grid * torch.stack([widths_mm, heights_mm], -1).unsqueeze(-2)
        return (pos_mm.unsqueeze(-2) + offset).flatten(-3, -2)

    def t_max_c(
        self, pos_mm: Tensor, widths_mm: Tensor, heights_mm: Tensor, power_w: Tensor, *, side: int = 3
    ) -> Tensor:
        """Return the highest temperature of all dies, `[...]` °C, by `side`² probes on each."""
        probes = self.probes_mm(pos_mm, widths_mm, heights_mm, side=side)
        rise = self.rise_k(probes, pos_mm, widths_mm, heights_mm, power_w)
        return self.ambient_c + rise.amax(-1)


def _quadrature(like: Tensor) -> tuple[Tensor, Tensor]:
    x, w = np.polynomial.legendre.leggauss(_NODES)
    # u = reach·v² sets nodes close together near zero, where a small die's heat still is.
    v = (x + 1) / 2
    u = _REACH * v**2
    weights = w * _REACH * v * 2 * u * np.exp(-(u**2))
    return torch.as_tensor(u).to(like), torch.as_tensor(weights).to(like)


def _covered(offset: Tensor, width: Tensor, spread: Tensor) -> Tensor:
    return (torch.erf((offset + width / 2) / spread) - torch.erf((offset - width / 2) / spread)) / 2
