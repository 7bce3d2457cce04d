"""Convolutions of codes of many geometries, with factors that meet halves, and their result in whole numbers."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Case:
    images: int
    channels: int
    size: tuple[int, int]
    outputs: int
    window: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    bounds: tuple[int, int, int] | None = (0, 127, 0)

    def operands(self, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        g = torch.Generator().manual_seed(seed)
        codes = torch.randint(0, 128, (self.images, self.channels, *self.size), generator=g, dtype=torch.uint8)
        codes[:, : self.channels // 2] = 127
        weight = torch.randint(-127, 128, (self.outputs, self.channels, *self.window), generator=g, dtype=torch.int8)
        weight[: self.outputs // 3] = 127
        bias = torch.randint(-300, 300, (self.outputs,), generator=g).float()
        # A power of two keeps many products exactly between two codes.
        multiplier = torch.full((self.outputs,), 2.0**-9)
        multiplier[::2] = 0.0123
        return codes, weight, bias, multiplier

    @property
    def geometry(self) -> dict[str, Any]:
        return {
            "stride": self.stride, "padding": self.padding, "dilation": self.dilation, "bounds": self.bounds,
        }  # fmt: skip


CASES = (
    Case(2, 32, (5, 4), 20),
    Case(1, 48, (6, 6), 16, (5, 5), (2, 2), (2, 2)),
    Case(3, 7, (4, 7), 5, (1, 1), (1, 1), (0, 0)),
    Case(1, 5, (9, 8), 3, (3, 2), (2, 1), (0, 1), (2, 3)),
    Case(2, 40, (3, 3), 33, bounds=(3, 90, 3)),
    Case(1, 8, (4, 4), 6, bounds=None),
    Case(0, 8, (4, 4), 6),
)


def whole_numbers(case: Case, codes: Tensor, weight: Tensor, bias: Tensor, multiplier: Tensor) -> Tensor:
    """Return the result by unfolded windows and sums of int64, in Python's order of rounding."""
    n = len(codes)
    columns = F.unfold(codes.float(), case.window, case.dilation, case.padding, case.stride).to(torch.int64)
    sums = torch.einsum("mk,nkp->nmp", weight.flatten(1).to(torch.int64), columns) if n else columns[:, :0]
    h, w = (
        (s + 2 * p - d * (k - 1) - 1) // t + 1
        for s, p, d, k, t in zip(case.size, case.padding, case.dilation, case.window, case.stride, strict=True)
    )
    value = (sums.view(n, -1, h, w).float() + bias.view(-1, 1, 1)) * multiplier.view(-1, 1, 1)
    if case.bounds is None:
        return value
    low, high, zero = case.bounds
    return torch.round(value).add(zero).clamp(low, high).to(torch.uint8)
