"""Segment maps in plain Python, one code at a time, and the lookup of their tables in plain torch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparseflow.errors import DataError

__all__ = ["lookup", "refuse_codes", "segment", "tri_segment"]


def segment(code: int, thresholds: Sequence[int], values: Sequence[int], overflow: str = "pass") -> int:
    """Map one code: 0 to 0, a code up to `thresholds[i]` and above the one before to `values[i]`.

    Args:
        code: the code, 0 to 255.
        thresholds: last code of each segment, in order.
        values: what the codes of each segment become.
        overflow: "pass" leaves codes beyond the last threshold, "clip" gives them the last value, "saturate" that
            threshold itself.

    >>> [segment(q, (3, 9), (2, 6)) for q in (0, 1, 3, 4, 9, 10)]
    [0, 2, 2, 6, 6, 10]
    """
    if code <= 0:
        return code
    for threshold, value in zip(thresholds, values, strict=True):
        if code <= threshold:
            return value
    return {"pass": code, "clip": values[-1], "saturate": thresholds[-1]}[overflow]


def tri_segment(code: int, params: Sequence[int], mode: str = "pass") -> int:
    """Map one code by three segments; the table of `sparseflow.ops.triseg`, line by line.

    Args:
        code: the code, 0 to 255.
        params: t1, v1, t2, v2, tmax.
        mode: "pass", "clip" or "saturate".

    >>> [tri_segment(q, (7, 14, 21, 28, 35)) for q in (0, 7, 8, 21, 22, 35, 36)]
    [0, 0, 14, 14, 28, 28, 36]
    """
    t1, v1, t2, v2, tmax = params
    if code <= 0:
        return code
    if code <= t1:
        return 0
    if code <= t2:
        return v1
    if code <= tmax:
        return v2
    return {"pass": code, "clip": v2, "saturate": tmax}[mode]


def lookup(codes: Tensor, tables: Tensor, shared: bool) -> Tensor:
    """Return `[K*B, ...]` codes out of K tables `[K, 256]`; see `sparseflow.ops.triseg.apply_tables`.

    Raises:
        DataError: a code is no whole number of 0 to 255, on the CPU.
    """
    at = codes.to(torch.int64)
    if codes.device.type == "cpu":
        other = (at < 0) | (at > 255) | (at.to(codes.dtype) != codes)
        refuse_codes(int(other.sum()), codes.numel())
    at, k = at.clamp(0, 255), tables.shape[0]
    if k == 1:
        return tables[0][at].to(codes.dtype)
    if shared:
        return tables[:, at].flatten(0, 1).to(codes.dtype)
    first = 256 * torch.arange(k, device=codes.device).repeat_interleave(codes.shape[0] // k)
    return tables.flatten()[at + first.view(-1, *[1] * (codes.ndim - 1))].to(codes.dtype)


def refuse_codes(other: int, total: int) -> None:
    """Raise unless no element was something else than a code."""
    if other:
        raise DataError(
            f"apply_tables: {other} of {total} elements are no codes, whole numbers of 0 to 255; "
            "quantize first: round, then clamp"
        )
