"""Fine-tune approximated activations: gradients for the weights in front, and for values and thresholds themselves."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from sparseflow.compress.approximate.codes import RELATIVE, check_codes
from sparseflow.compress.quantize import quantizers
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import MODES

__all__ = ["SegmentedNet", "segment_codes"]


class _Segment(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, real: Tensor, whole: Tensor, clip: bool, window: int) -> Tensor:
        t1, v1, t2, v2, tmax = whole.to(q.dtype).unbind()
        ctx.save_for_backward(q, whole)
        ctx.clip, ctx.window = clip, window
        out = torch.where(q > t2, v2, v1) if clip else torch.where(q > t2, torch.where(q > tmax, q, v2), v1)
        return torch.where(q > t1, out, torch.clamp(q, max=0.0))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, whole = ctx.saved_tensors
        g = grads[0]
        t1, v1, t2, v2, tmax = whole.to(q.dtype).unbind()
        passed = torch.where(q <= tmax, g, 0.0) if ctx.clip else g
        if not ctx.needs_input_grad[1]:
            return passed, None, None, None, None

        def over(low: Tensor, high: Tensor) -> Tensor:
            total: Tensor = torch.where((q > low) & (q <= high), g, 0.0).sum(dtype=torch.float32)
            return total

        def density(t: Tensor) -> Tensor:
            low, high = (t - ctx.window).clamp(min=0), torch.minimum(t + ctx.window, tmax)
            mean: Tensor = over(low, high) / (high - low)
            return mean

        # Where the function jumps up by v1, moving the jump right takes v1 from the codes it passes.
        d_t1, d_t2 = -v1 * density(t1), -(v2 - v1) * density(t2)
        d_v2 = over(t2, torch.full_like(tmax, torch.inf)) if ctx.clip else over(t2, tmax)
        real = torch.stack([d_t1, over(t1, t2), d_t2, d_v2])
        return passed, real, None, None, None


def segment_codes(q: Tensor, real: Tensor, whole: Tensor, *, mode: str = "pass", window: int = 2) -> Tensor:
    """Return f(q) of a tri-segment, with a gradient for its input, values and thresholds.

    With g = ∂loss/∂f(q):

    * ∂/∂v1 = Σ_{t1 < q ≤ t2} g and ∂/∂v2 = Σ_{t2 < q} g (up to tmax where codes beyond pass): exact.
    * ∂/∂t1 = −v1 · mean density of g around t1: f jumps by v1 there. Over `window` codes to either side this is
      the central difference [loss(t1 + w) − loss(t1 − w)] / 2w, exact for a loss that is linear in f(q); it stops at
      0 and tmax. ∂/∂t2 likewise, with the jump v2 − v1.
    * ∂/∂q = g, straight through; 0 beyond tmax in mode "clip", where f is flat for good.

    Args:
        q: codes, whole numbers in floating point, any shape.
        real: `[4]` t1, v1, t2, v2 as they are trained; only their gradient matters here.
        whole: int64 `[5]` t1, v1, t2, v2, tmax, which are applied.
        mode: "pass" or "clip".
        window: half width in codes, at least 1.

    Returns:
        The shape and type of `q`.

    Source: straight-through estimator of Bengio et al., arXiv 1308.3432; ours for the thresholds.

    >>> t = torch.tensor([7.0, 14.0, 21.0, 28.0], requires_grad=True)
    >>> segment_codes(torch.tensor([0.0, 7.0, 8.0, 30.0, 36.0]), t, torch.tensor([7, 14, 21, 28, 35])).tolist()
    [0.0, 0.0, 14.0, 28.0, 36.0]
    """
    found: Tensor = _Segment.apply(q, real, whole, mode == "clip", window)  # type: ignore[no-untyped-call]
    return found


class SegmentedNet(nn.Module):
    """A network in training form whose activations take the codes of their segments.

    The codes that are applied are always whole numbers in order, t1 < v1 <= t2 < v2 <= tmax, so that the integer
    form with the tables of `codes` computes the same. tmax is not trained: it decides how many codes stay exact.

    Args:
        qat: from `prepare_qat`; its quantisers are edited until `release`.
        points: the quantiser of each site by the site's name, in the order of `codes`.
        codes: int64 `[L, 5]` to start from.
        mode: "pass" leaves codes beyond tmax, "clip" gives them v2: a quantiser of 2 bits.
        window: as of `segment_codes`.

    Attributes:
        real: parameter `[L, 4]`, t1, v1, t2, v2 between which the applied codes are rounded.
        whole: int64 `[L, 5]`, the codes that are applied.

    Raises:
        ConfigError: no such point or mode, codes out of order, or a quantiser whose zero has another code than 0.

    Shapes: as of `qat`.
    """

    whole: Tensor

    def __init__(
        self, qat: fx.GraphModule, points: Mapping[str, str], codes: Tensor, *, mode: str = "pass", window: int = 2
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ConfigError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
        if window < 1:
            raise ConfigError(f"window is {window}; expected at least 1 code")
        known = quantizers(qat)
        for name, point in points.items():
            if point not in known:
                raise ConfigError(f"site {name!r}: the network rounds nothing at {point!r}")
            if float(known[point].zero_point) != 0:
                raise ConfigError(
                    f"site {name!r}: its 0 has code {int(known[point].zero_point)}; only a ReLU has sites"
                )
        check_codes(codes, names=tuple(points))
        self.qat, self.mode, self.window, self.points = qat, mode, window, dict(points)
        device = next(qat.parameters()).device
        self.real = nn.Parameter(codes[:, :4].float().to(device))
        self.register_buffer("whole", codes.clone().to(device))
        for at, point in enumerate(self.points.values()):
            known[point].edit = partial(self._edit, at)

    def forward(self, x: Tensor) -> Any:
        """Return the outputs of the network with approximated activations."""
        return self.qat(x)

    def _edit(self, at: int, codes: Tensor) -> Tensor:
        return segment_codes(codes, self.real[at], self.whole[at], mode=self.mode, window=self.window)

    @torch.no_grad()
    def settle(self) -> None:
        """Move the trained numbers back into order after a step, and round them to the codes that are applied."""
        t1, v1, t2, v2 = self.real.unbind(1)
        tmax = self.whole[:, 4].to(t1.dtype)
        t1 = torch.minimum(t1.clamp(min=0), tmax - 2)
        t2 = torch.minimum(torch.maximum(t2, t1 + 1), tmax - 1)
        self.real.copy_(torch.stack([t1, _between(v1, t1 + 1, t2), t2, _between(v2, t2 + 1, tmax)], 1))
        t1, v1, t2, v2 = self.real.round().unbind(1)
        t2 = torch.maximum(t2, t1 + 1)
        v1, v2 = _between(v1, t1 + 1, t2), _between(v2, t2 + 1, tmax)
        self.whole.copy_(torch.stack([t1, v1, t2, v2, tmax], 1))

    @property
    def codes(self) -> Tensor:
        """Int64 `[L, 5]` on the CPU: the codes that are applied."""
        return check_codes(self.whole.cpu().clone(), names=tuple(self.points), masks=RELATIVE)

    def release(self) -> fx.GraphModule:
        """Return the network with its quantisers as they were before, and its trained weights."""
        known = quantizers(self.qat)
        for point in self.points.values():
            known[point].edit = None
        return self.qat


def _between(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.maximum(low, torch.minimum(x, high))
