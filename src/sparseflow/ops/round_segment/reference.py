"""The formula of `round_segment` and of its gradient, in plain torch."""

import torch
from torch import Tensor

__all__ = ["BELOW", "BEYOND", "backward", "forward", "slopes"]

BELOW, BEYOND = 254, 255


def forward(x: Tensor, whole: Tensor, scale: Tensor, mode: str, qmax: int) -> tuple[Tensor, Tensor]:
    """Return scale·f(clamp(round(x / scale), 0, qmax)), and the codes.

    Args:
        x: any shape.
        whole: int64 `[5]`: t1, v1, t2, v2, tmax.
        scale: float32 `[]`.
        mode: "pass" leaves codes beyond tmax, "clip" gives them v2, "saturate" tmax.
        qmax: greatest code, at most 253.

    Returns:
        Values as `x`, and uint8: the code in front of f, but `BELOW` or `BEYOND` where it was clamped.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    rounded = torch.round(x.to(wide) * scale.reciprocal())
    q = rounded.clamp(0, qmax)
    t1, v1, t2, v2, tmax = whole.to(wide).unbind()
    beyond = {"pass": q, "clip": v2, "saturate": tmax}[mode]
    f = torch.where(q > t2, torch.where(q > tmax, beyond, v2), torch.where(q > t1, v1, 0.0))
    marks = torch.where(rounded < 0, BELOW, torch.where(rounded > qmax, BEYOND, q))
    return (f * scale).to(x.dtype), marks.to(torch.uint8)


def backward(
    g: Tensor, kept: Tensor, whole: Tensor, scale: Tensor, mode: str, qmax: int, window: int
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the input, and the sums that those of values and thresholds are made of.

    With g in units of a code, the sums run over the codes in (t1 − w, t1 + w], (t1, t2], (t2 − w, t2 + w] and beyond
    t2 (up to tmax unless in "clip"); windows end at 0 and at tmax.

    Args:
        g: gradient of the values.
        kept: marks of `forward`.
        whole: int64 `[5]`.
        scale: float32 `[]`.
        mode: what codes beyond tmax become.
        qmax: greatest code.
        window: w.

    Returns:
        The gradient as `g`, and `[4]` in float32 or wider.
    """
    wide = torch.promote_types(g.dtype, torch.float32)
    marks = kept.to(wide)
    q = torch.where(marks == BELOW, 0.0, marks.clamp(max=qmax))
    t1, _, t2, _, tmax = whole.to(wide).unbind()
    through = (marks < BELOW) & ((q <= tmax) | (mode == "pass"))
    last = torch.full_like(tmax, torch.inf) if mode == "clip" else tmax
    near = [((t - window).clamp(min=0), torch.minimum(t + window, tmax)) for t in (t1, t2)]
    ranges = (near[0], (t1, t2), near[1], (t2, last))
    sums = torch.stack([torch.where((q > low) & (q <= high), g.to(wide), 0.0).sum() for low, high in ranges])
    return torch.where(through, g, 0.0), sums * scale


def slopes(sums: Tensor, whole: Tensor, window: int) -> Tensor:
    """Return the gradient of t1, v1, t2 and v2, `[4]`, from the sums of `backward`.

    Args:
        sums: `[4]`.
        whole: int64 `[5]`.
        window: half width in codes of the sums around thresholds.
    """
    t1, v1, t2, v2, tmax = whole.to(sums.dtype).unbind()
    near1, near2 = (torch.minimum(t + window, tmax) - (t - window).clamp(min=0) for t in (t1, t2))
    return torch.stack([-v1 * sums[0] / near1, sums[1], -(v2 - v1) * sums[2] / near2, sums[3]])
