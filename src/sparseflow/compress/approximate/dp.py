"""The codes that change the codes of a site least, found exactly by dynamic programming over its histogram."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseflow.compress.approximate.codes import CODE_MAX, RELATIVE, Masks, initial_codes
from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.triseg import CODES, MODES, tables

__all__ = ["Optimum", "optimal_codes", "segment_error"]

_NEVER = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """The best codes of each site.

    Args:
        codes: int64 `[L, 5]`.
        error: float64 `[L]`, what `segment_error` says of them.
    """

    codes: Tensor
    error: Tensor


def segment_error(histogram: Tensor, codes: Tensor, *, mode: str = "pass") -> Tensor:
    """Return how much the tri-segment f changes the codes of each site.

    E = Σ_q h[q]·(q − f(q))².

    Args:
        histogram: `[L, 256]` counts or weights, as Fisher-weighted counts.
        codes: int64 `[..., L, 5]`.
        mode: "pass" leaves codes beyond tmax, "clip" gives them v2, "saturate" tmax.

    Returns:
        float64 `[..., L]`, in squared codes times the unit of the histogram.

    Raises:
        ConfigError: codes out of order, or no such mode.
        DataError: a histogram of another shape, or not finite and non-negative.
    """
    h = _checked(histogram)
    moved = tables(codes.cpu(), mode).double() - torch.arange(CODES, dtype=torch.float64)
    return (h * moved.square()).sum(-1)


def optimal_codes(
    histogram: Tensor,
    *,
    tmax: Tensor | Sequence[int] | None = None,
    masks: Masks = RELATIVE,
    mode: str = "pass",
    escape_price: float = 0.0,
    tmax_range: tuple[int, int] = (15, CODE_MAX),
) -> Optimum:
    """Return the codes of least squared error for each site, among all that the masks allow.

    Minimises E = Σ_q h[q]·(q − f(q))² over t1, v1, t2, v2. With prefix sums of h, h·q and h·q² the error of a
    segment (a, b] is known at once, and its value is the mean, rounded and clamped into its range. Then

        A[b] = min_a  Σ_{q ≤ a} h·q² + segment(a, b),    B[c] = min_b  A[b] + segment(b, c),

    a = t1, b = t2, c = tmax: O(n²) a site for n codes. If tmax is chosen, what lies beyond it is added to B[c].
    Counts below 2⁵³/255² a site make it exact to the last bit. Where codes are equally good, the least tmax, then the
    least t2, then the least t1 is taken.

    Args:
        histogram: `[L, 256]` counts or weights, as Fisher-weighted counts.
        tmax: `[L]` codes; None chooses it too.
        masks: what is allowed.
        mode: "pass" leaves codes beyond tmax, "clip" gives them v2, "saturate" tmax.
        escape_price: what a code that passes unchanged costs if tmax is chosen, in squared codes: an error of
            √price. It must be positive in mode "pass", where else nothing would be replaced.
        tmax_range: least and greatest tmax to choose from.

    Returns:
        Codes and E without the price. A site that only ever was zero gets `initial_codes`, at tmax 32 or the
        nearest of the range.

    Raises:
        ConfigError: tmax, its range, the price or the mode are not valid.
        DataError: a histogram of another shape, or not finite and non-negative.

    Cost: about 20 operations on `[L, n, n]` float64; milliseconds a network.
    Source: ours; optimal scalar quantization by dynamic programming is Bruce, 1965.
    """
    h = _checked(histogram)
    if mode not in MODES:
        raise ConfigError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    top = None if tmax is None else _given(tmax, len(h), masks)
    low, high = tmax_range
    if top is None:
        if not masks.least_tmax <= low <= high < CODES:
            raise ConfigError(f"tmax_range is {tmax_range}; masks {masks.name!r} need {masks.least_tmax} to 255")
        if mode == "pass" and not 0 < escape_price < _NEVER:
            raise ConfigError(f"escape_price is {escape_price}; to choose tmax in mode 'pass' it must be positive")
    n = 1 + (high if top is None else int(top.max()) if len(h) else 0)

    prefix = torch.stack([h * torch.arange(CODES, dtype=torch.float64) ** k for k in (0, 1, 2)]).cumsum(-1)
    at = prefix[..., :n]
    code = torch.arange(n)
    a, b = code[:, None], code[None, :]
    inner = at[:, :, None, :] - at[:, :, :, None]
    v1, error = _level(inner, a + 1, torch.maximum(a + 1, b - masks.inset))
    allowed = (a >= masks.t1_low) & (a <= masks.t1_high) & (b >= a + masks.gap)
    first = torch.where(allowed, at[2, :, :, None] + error, _NEVER)
    t1 = first.argmin(1)
    best = first.gather(1, t1[:, None])[:, 0]

    outer = prefix[:, :, -1, None, None] - at[:, :, :, None] if mode == "clip" else inner
    v2, error = _level(outer, a + 1, b)
    allowed = (b > a) & (a <= (b - masks.gap).clamp(min=masks.t1_low + masks.gap))
    whole = torch.where(allowed, best[:, :, None] + error, _NEVER)
    t2 = whole.argmin(1)
    total = whole.gather(1, t2[:, None])[:, 0]

    if top is None:
        beyond = prefix[:, :, -1:] - at
        if mode == "pass":
            total = total + escape_price * beyond[0]
        elif mode == "saturate":
            total = total + beyond[2] - 2 * code * beyond[1] + code.square() * beyond[0]
        top = torch.where((code >= low) & (code <= high), total, _NEVER).argmin(1)
    site = torch.arange(len(h))
    second = t2[site, top]
    start = t1[site, second]
    codes = torch.stack((start, v1[site, start, second], second, v2[site, second, top], top), -1).to(torch.int64)
    silent = h[:, 1:].sum(-1) == 0
    if bool(silent.any()):
        last = top if tmax is not None else torch.full_like(top, min(max(32, low), high))
        codes = torch.where(silent[:, None], initial_codes(last, masks=masks), codes)
    return Optimum(codes=codes, error=segment_error(h, codes, mode=mode))


def _level(sums: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best whole value of segments, and their squared error.

    Args:
        sums: float64 `[3, L, n, n or 1]`, sums of h, h·q and h·q² over the segment.
        low: `[n, 1]` or `[n, n]`, least value.
        high: `[n, n]`, greatest value.

    Returns:
        Two float64 `[L, n, n]`; an empty segment gets the middle of its range.
    """
    count, total, square = sums.unbind(0)
    middle = torch.div(low + high, 2, rounding_mode="floor").double()
    value = torch.where(count > 0, (total / count.where(count > 0, 1.0) + 0.5).floor(), middle)
    value = torch.maximum(torch.minimum(value, high.double()), low.double())
    return value, square - 2 * value * total + value.square() * count


def _checked(histogram: Tensor) -> Tensor:
    if histogram.ndim != 2 or histogram.shape[1] != CODES:
        raise DataError(f"histogram has shape {tuple(histogram.shape)}; expected [L, {CODES}]")
    h = histogram.detach().cpu().double()
    if bool((~h.isfinite() | (h < 0)).any()):
        raise DataError("histogram holds a weight that is negative or not finite; count codes, or square gradients")
    return h


def _given(tmax: Tensor | Sequence[int], sites: int, masks: Masks) -> Tensor:
    top = torch.as_tensor(tmax, dtype=torch.int64).cpu()
    if top.shape != (sites,):
        raise ConfigError(f"tmax has shape {tuple(top.shape)}; the histogram has {sites} sites")
    if sites and not masks.least_tmax <= int(top.min()) <= int(top.max()) < CODES:
        raise ConfigError(f"tmax is {top.tolist()}; masks {masks.name!r} need {masks.least_tmax} to {CODES - 1}")
    return top
