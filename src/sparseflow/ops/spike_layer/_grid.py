"""Weights as int8 with one scale for each output channel: exactly, where they lie on such a grid."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["LEVELS", "Grid", "grid_exact", "quantise"]

LEVELS = 127
ROUNDINGS = 2.0**-21  # of float32: of a grid's weights, of the fold of a BatchNorm, and some slack
WHOLE = 2**24  # float32 holds every whole number below
SAMPLE = 64


class Grid(NamedTuple):
    """Weights as whole numbers times a scale.

    Args:
        whole: int8 of the shape of each weight.
        scale: `[Cout]` float64; weight = scale * whole.
        exact: `[Cout]` whether that is the weight, up to the roundings of float32.
        largest: the largest sum, in absolute value, that any input can make of a channel's whole numbers.
    """

    whole: list[Tensor]
    scale: Tensor
    exact: Tensor
    largest: int

    def weights(self) -> list[Tensor]:
        """Return the weights that the whole numbers stand for, in float32."""
        return [(w.double() * self.scale[:, None, None, None]).float() for w in self.whole]


def quantise(weights: Sequence[Tensor], planes: Sequence[int]) -> Grid:
    """Return the weights of all sources of a layer as int8, with a scale for each output channel.

    A channel whose weights are `k * scale` with whole `|k| <= 127` keeps them: with the
    largest such power of two if there is one, else with the largest scale there is. Any
    other channel is rounded, half to even, on the grid `max|w| / 127`.

    Args:
        weights: `[Cout, C, kh, kw]` of each source.
        planes: bits of a count of each source.

    Source: ours.

    >>> grid = quantise([torch.tensor([0.75, -0.5]).reshape(1, 2, 1, 1)], [1])
    >>> grid.whole[0].flatten().tolist(), grid.scale.tolist(), grid.exact.tolist(), grid.largest
    ([3, -2], [0.25], [True], 5)
    """
    rows = torch.cat([w.detach().double().flatten(1) for w in weights], dim=1)
    top = rows.abs().amax(dim=1) if rows.shape[1] else rows.new_zeros(rows.shape[0])
    scale = torch.where(top > 0, top / LEVELS, 1.0)
    binary = _binary(rows)
    exact = (top == 0) | (top <= LEVELS * binary)
    scale = torch.where(exact & (top > 0), binary, scale)
    _fit(rows, top, scale, exact)
    whole = (rows / scale[:, None]).round()
    sizes = [math.prod(w.shape[1:]) for w in weights]
    parts = torch.split(whole, sizes, dim=1)
    reach = sum((p.abs().sum(dim=1) * (2**bits - 1) for p, bits in zip(parts, planes, strict=True)), torch.zeros(()))
    return Grid(
        whole=[p.reshape(w.shape).to(torch.int8) for p, w in zip(parts, weights, strict=True)],
        scale=scale,
        exact=exact,
        largest=int(reach.max()) if reach.numel() else 0,
    )


def grid_exact(weights: Sequence[Tensor], planes: Sequence[int] | None = None) -> bool:
    """Tell whether `pack_layer(..., precision="int8")` loses nothing of these weights.

    That is: every output channel's weights, of all sources, are whole numbers up to
    127 times one scale, up to the roundings of float32, and all sums of them are exact.

    Args:
        weights: `[Cout, C, kh, kw]` float of each source.
        planes: bits of a count of each source; 1 if not given.

    >>> grid_exact([torch.tensor([0.75, -0.5]).reshape(1, 2, 1, 1)])
    True
    >>> grid_exact([torch.tensor([0.75, -0.5, 0.7071068]).reshape(1, 3, 1, 1)])
    False
    """
    bits = tuple(planes) if planes is not None else (1,) * len(weights)
    if not all(bool(torch.isfinite(w).all()) for w in weights):
        return False
    grid = quantise(weights, bits)
    return bool(grid.exact.all()) and grid.largest < WHOLE and max(bits) <= 8


def _binary(rows: Tensor) -> Tensor:
    """Return for each row the largest power of two of which all its numbers are multiples; 1 for zeros."""
    mantissa, exponent = torch.frexp(rows)
    digits = (mantissa * 2.0**53).to(torch.int64)
    lowest = torch.frexp((digits & -digits).double())[1] + exponent.to(torch.int64) - 54
    lowest = torch.where(rows == 0, torch.iinfo(torch.int64).max, lowest)
    least = lowest.amin(dim=1) if rows.shape[1] else lowest.new_full((rows.shape[0],), 0)
    return torch.ldexp(torch.ones_like(least, dtype=torch.float64), torch.where(least > 2000, 0, least))


def _fit(rows: Tensor, top: Tensor, scale: Tensor, exact: Tensor) -> None:
    """Set `scale` and `exact` of the rows that lie on a grid whose step is no power of two."""
    open_rows = (~exact).nonzero().flatten()
    if not len(open_rows):
        return
    probe = rows[open_rows][:, :: max(1, rows.shape[1] // SAMPLE)] / top[open_rows, None]
    for steps in range(1, LEVELS + 1):
        hopeful = open_rows[_near(probe * steps).all(dim=1) & ~exact[open_rows]]
        if not len(hopeful):
            continue
        ratio = rows[hopeful] / top[hopeful, None] * steps
        fits = _near(ratio).all(dim=1)
        found, whole = hopeful[fits], ratio[fits].round()
        # The step that fits all weights best, not the largest weight alone.
        scale[found] = (rows[found] * whole).sum(dim=1) / whole.square().sum(dim=1)
        exact[found] = True


def _near(ratio: Tensor) -> Tensor:
    return (ratio - ratio.round()).abs() <= ROUNDINGS * ratio.abs()
