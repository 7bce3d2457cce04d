"""Fine-tune approximated activations: gradients for the weights in front, and for values and thresholds themselves."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from sparseflow.compress.approximate.codes import CODE_MAX, RELATIVE, check_codes
from sparseflow.compress.approximate.dp import optimal_codes
from sparseflow.compress.quantize import quantizers
from sparseflow.compress.quantize.fake_quant import FakeQuantize, codes_of
from sparseflow.errors import ConfigError
from sparseflow.ops.round_segment import round_segment
from sparseflow.ops.triseg import MODES

__all__ = ["SegmentedNet", "roomy"]


class SegmentedNet(nn.Module):
    """A network in training form whose activations take the codes of their segments.

    The codes that are applied are always whole numbers in order, t1 < v1 <= t2 < v2 <= tmax, so that the integer
    form with the tables of `codes` computes the same. There are two ways to let them follow the weights: `real` has
    gradients, all but that of tmax, and `settle` is called after each step; or `refit` now and then takes the optimum
    of a histogram.

    Args:
        qat: from `prepare_qat`; its quantisers are replaced until `release`.
        points: the quantiser of each site by the site's name, in the order of `codes`.
        codes: int64 `[L, 5]` to start from.
        mode: "pass" leaves codes beyond tmax, "clip" gives them v2, "saturate" tmax: a quantiser of 2 bits.
        window: half width in codes over which the gradient of a threshold is taken, as of `round_segment`.

    Attributes:
        real: parameter `[L, 4]`, t1, v1, t2, v2 between which the applied codes are rounded.
        whole: int64 `[L, 5]`, the codes that are applied.
        fits: int64 `[]`, how often they were fitted to a histogram.

    Raises:
        ConfigError: no such point or mode, codes out of order, or a quantiser whose zero has another code than 0.

    Shapes: as of `qat`.
    """

    whole: Tensor
    fits: Tensor

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
        self._rows: tuple[Tensor, ...] = ()
        self.register_buffer("whole", codes.clone().to(device))
        self.register_buffer("fits", torch.zeros((), dtype=torch.int64, device=device))
        for at, point in enumerate(self.points.values()):
            known[point].replace = partial(self._round, at, known[point])

    def forward(self, x: Tensor) -> Any:
        """Return the outputs of the network with approximated activations."""
        # As one operation, so that their gradients come back as one too.
        self._rows = self.real.unbind(0)
        try:
            return self.qat(x)
        finally:
            self._rows = ()

    def _round(self, at: int, quantiser: FakeQuantize, x: Tensor) -> Tensor:
        scale = quantiser.scale
        if quantiser.edit is not None:
            # Whoever looks at the codes sees those in front of the segments, with the gradient of what comes behind.
            exact = quantiser.edit(codes_of(x, scale, quantiser.zero_point, 0, quantiser.qmax)) * scale
            return exact + (self._segment(at, quantiser, exact.detach()) - exact).detach()
        return self._segment(at, quantiser, x)

    def _segment(self, at: int, quantiser: FakeQuantize, x: Tensor) -> Tensor:
        return round_segment(
            x, (self._rows or self.real)[at], self.whole[at], quantiser.scale,
            mode=self.mode, qmax=quantiser.qmax, window=self.window,
        )  # fmt: skip

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

    @torch.no_grad()
    def refit(self, histogram: Tensor) -> None:
        """Apply the codes that change a histogram least; in mode "pass" tmax stays, else it is chosen too.

        Args:
            histogram: `[L, 256]` counts or weights of the codes in front of the segments, as `code_histograms` finds
                them in `qat`.

        Source: a quantiser fitted to its inputs in turns with the weights, as in Zhang et al. (LQ-Nets), ECCV 2018;
            here exactly, by `optimal_codes`.
        """
        tmax = self.whole[:, 4].cpu() if self.mode == "pass" else None
        best = optimal_codes(histogram, tmax=tmax, mode=self.mode, tmax_range=(RELATIVE.least_tmax, CODE_MAX)).codes
        if self.mode == "clip":
            best = roomy(best)
        self.whole.copy_(best)
        self.real.copy_(self.whole[:, :4])
        self.fits.add_(1)

    @property
    def codes(self) -> Tensor:
        """Int64 `[L, 5]` on the CPU: the codes that are applied."""
        return check_codes(self.whole.cpu().clone(), names=tuple(self.points), masks=RELATIVE)

    def release(self) -> fx.GraphModule:
        """Return the network with its quantisers as they were before, and its trained weights."""
        known = quantizers(self.qat)
        for point in self.points.values():
            known[point].replace = None
        return self.qat


def roomy(codes: Tensor) -> Tensor:
    """Return codes of mode "clip" with tmax half a step above v2.

    Their least tmax is v2 itself; above it v2 has room to rise, and inputs there have a gradient.

    Args:
        codes: int64 `[..., 5]`.
    """
    v1, v2 = codes[..., 1], codes[..., 3]
    return torch.cat((codes[..., :4], (v2 + (v2 - v1 + 1) // 2).clamp(max=CODE_MAX)[..., None]), -1)


def _between(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.maximum(low, torch.minimum(x, high))
