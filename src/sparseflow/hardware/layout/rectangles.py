"""Rectangles on a disc: how far they overlap, and how far they reach outside."""

import torch
from torch import Tensor

__all__ = ["comm_byte_mm", "corner_excess_mm", "outside_mm2", "overlap_mm2"]


def overlap_mm2(pos_mm: Tensor, widths_mm: Tensor, heights_mm: Tensor, *, gap_mm: float = 0.0) -> Tensor:
    """Return the area by which dies overlap, summed over pairs.

    Σ_{i<j} relu((w_i+w_j)/2 + gap − |dx|)·relu((h_i+h_j)/2 + gap − |dy|), zero
    where every two dies are `gap_mm` apart. A die without area takes no part.

    Args:
        pos_mm: `[..., S, 2]`, centres.
        widths_mm: `[S]`.
        heights_mm: `[S]`.
        gap_mm: least distance of two dies.

    Returns:
        `[...]`.
    """
    apart = (pos_mm.unsqueeze(-2) - pos_mm.unsqueeze(-3)).abs()
    ox = torch.relu((widths_mm[:, None] + widths_mm) / 2 + gap_mm - apart[..., 0])
    oy = torch.relu((heights_mm[:, None] + heights_mm) / 2 + gap_mm - apart[..., 1])
    there = (widths_mm > 0) & (heights_mm > 0)
    pairs = torch.triu(there[:, None] & there, diagonal=1)
    return (ox * oy * pairs).sum((-2, -1))


def corner_excess_mm(pos_mm: Tensor, widths_mm: Tensor, heights_mm: Tensor, radius_mm: float) -> Tensor:
    """Return how far the farthest corner of each die lies beyond a radius, `[..., S]`; negative inside.

    A die without area counts by its centre.
    """
    far = pos_mm.abs() + torch.stack([widths_mm, heights_mm], -1) / 2
    distance: Tensor = torch.linalg.vector_norm(far, dim=-1)
    return distance - radius_mm


def outside_mm2(
    pos_mm: Tensor, widths_mm: Tensor, heights_mm: Tensor, radius_mm: float, *, margin_mm: float = 0.0
) -> Tensor:
    """Return Σ over the four corners of each die of relu(‖corner‖ + margin − R)², `[...]`."""
    half = torch.stack([widths_mm, heights_mm], -1) / 2
    signs = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=pos_mm.dtype, device=pos_mm.device)
    corners = pos_mm.unsqueeze(-2) + half.unsqueeze(-2) * signs
    excess = torch.relu(torch.linalg.vector_norm(corners, dim=-1) + margin_mm - radius_mm)
    return excess.square().sum((-2, -1))


def comm_byte_mm(pos_mm: Tensor, traffic_bytes: Tensor) -> Tensor:
    """Return Σ_{i,j} traffic_ij·‖p_i − p_j‖ between centres, `[...]`.

    Args:
        pos_mm: `[..., S, 2]`.
        traffic_bytes: `[S, S]`, from row to column.
    """
    apart = pos_mm.unsqueeze(-2) - pos_mm.unsqueeze(-3)
    # The root has no slope at zero, where a die meets itself.
    distance = (apart.square().sum(-1) + 1e-12).sqrt()
    return (distance * traffic_bytes).sum((-2, -1))
