"""What calibration leaves of each site: how often each code occurred, and how much it mattered."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseflow.compress.approximate.codes import CODE_MAX
from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.triseg import CODES

__all__ = ["Histograms", "TmaxRule", "coverage", "layer_states", "percentile_codes"]

_MODES = ("share", "percentile", "fixed")
# What all masks leave room in.
_LEAST = 7


class Histograms:
    """Counts of the codes of every site, and the same weighed by squared gradients.

    counts[l, q] = #{i : q_i = q}; fisher[l, q] = Σ_{i : q_i = q} g_i², g_i = ∂loss/∂a_i. The second is the
    diagonal of the empirical Fisher information of the activations, summed by code: to second order a change of
    code q by d costs d²·fisher[l, q], up to a factor of the site.

    Args:
        names: names of the L sites, in their order.

    Attributes:
        names: as given.
        counts: int64 `[L, 256]`.

    Raises:
        ConfigError: no site, or a name twice.

    Source: the diagonal Fisher information of Theis et al., arXiv:1801.05787.
    """

    def __init__(self, names: Sequence[str]) -> None:
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"histograms need sites with names of their own; got {list(names)}")
        self.names = tuple(names)
        self.counts = torch.zeros(len(self.names), CODES, dtype=torch.int64)
        self._fisher = torch.zeros(len(self.names), CODES, dtype=torch.float64)
        self._unweighed: set[str] = set(names)

    @property
    def fisher(self) -> Tensor:
        """Float64 `[L, 256]`.

        Raises:
            DataError: a site got codes without gradients, or none at all.
        """
        if self._unweighed:
            raise DataError(
                f"no gradients of {', '.join(n for n in self.names if n in self._unweighed)}; "
                "give them with every batch of codes, or use the counts"
            )
        return self._fisher

    def add(self, name: str, codes: Tensor, gradient: Tensor | None = None) -> None:
        """Count a batch of one site.

        The sums are taken on the CPU, in the order of the elements, so that they repeat bit for bit.

        Args:
            name: the site.
            codes: whole numbers of 0 to 255 in any type and shape.
            gradient: gradient of the loss, summed over the images, with respect to the site; the same shape.

        Raises:
            ConfigError: no such site.
            DataError: codes or gradients that are none, or of different shapes.
        """
        if name not in self.names:
            raise ConfigError(f"no site {name!r}; there are {', '.join(self.names)}")
        at = self.names.index(name)
        flat = codes.detach().reshape(-1).cpu()
        _refuse_no_codes(name, flat)
        index = flat.to(torch.int64)
        if gradient is not None:
            if gradient.shape != codes.shape:
                raise DataError(
                    f"site {name!r}: codes {tuple(codes.shape)} but gradients {tuple(gradient.shape)}; "
                    "give one gradient a code"
                )
            weight = gradient.detach().reshape(-1).cpu().double().square()
            if not bool(weight.isfinite().all()):
                raise DataError(f"site {name!r}: a gradient is not finite; lower the scale of the loss")
            self._fisher[at] += torch.bincount(index, weights=weight, minlength=CODES)
            if not int(self.counts[at].sum()):
                self._unweighed.discard(name)
        else:
            self._unweighed.add(name)
        self.counts[at] += torch.bincount(index, minlength=CODES)


def _refuse_no_codes(name: str, flat: Tensor) -> None:
    wide = flat if flat.is_floating_point() else flat.to(torch.int64)
    wrong = ~((wide >= 0) & (wide < CODES))
    if wide.is_floating_point():
        wrong = wrong | (flat != flat.round())
    if bool(wrong.any()):
        raise DataError(
            f"site {name!r}: {flat[wrong][0].item()} is no code; expected whole numbers of 0 to {CODES - 1}, "
            "so quantize first"
        )


def percentile_codes(counts: Tensor, percent: float = 90.0, *, zeros: bool = False) -> Tensor:
    """Return a percentile of the codes of each site, by rank.

    Of n codes in order it is the one at rank round(percent/100·(n − 1)), counted from 0, halves to even.

    Args:
        counts: int64 `[L, 256]`.
        percent: 0 to 100.
        zeros: whether code 0 counts.

    Returns:
        int64 `[L]`; 0 for a site without such codes.

    Raises:
        ConfigError: a percentage beyond 0 to 100.

    >>> percentile_codes(torch.bincount(torch.arange(12), minlength=256)[None])
    tensor([10])
    """
    if not 0 <= percent <= 100:
        raise ConfigError(f"percentile is {percent}; expected 0 to 100")
    kept = counts.clone()
    if not zeros:
        kept[:, 0] = 0
    n = kept.sum(-1)
    rank = torch.round(percent / 100 * (n - 1).double())
    return torch.where(n > 0, (kept.cumsum(-1) <= rank[:, None]).sum(-1), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TmaxRule:
    """Chooses tmax, the last code that is replaced, for each site.

    "share": tmax = min(max(p, 7), `high`), p the percentile of all codes, so that at most 100 − percentile of a hundred
    pass: a bound on bits, whatever the scale of a site's codes. "percentile", the earlier project's rule:
    tmax = min(max(p + `offset`, `low`), `high`), p the percentile of the codes that are not zero. Either takes `fixed`
    for a site that only ever was zero. "fixed": tmax = `fixed` everywhere.

    Args:
        mode: "share", "percentile" or "fixed".
        percentile: of all codes, or of those that are not zero; None for 96 and 90.
        offset: codes above it in mode "percentile"; None for 10.
        fixed: tmax where no percentile is used.
        low: least tmax in mode "percentile".
        high: greatest tmax: 127, the greatest code there is; the earlier project took 255.

    Raises:
        ConfigError: an unknown mode, numbers out of order, or an offset in mode "share", which has none.
    """

    mode: str = "share"
    percentile: float | None = None
    offset: int | None = None
    fixed: int = 32
    low: int = 15
    high: int = CODE_MAX

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.mode not in _MODES:
            raise ConfigError(f"tmax mode is {self.mode!r}; expected one of {', '.join(_MODES)}")
        if not 0 <= self.percent <= 100:
            raise ConfigError(f"tmax percentile is {self.percentile}; expected 0 to 100")
        if self.mode == "share" and self.offset is not None:
            raise ConfigError(
                f"tmax offset is {self.offset}, but mode 'share' has none; leave it out, or take mode 'percentile'"
            )
        if not 0 < self.fixed < CODES:
            raise ConfigError(f"fixed tmax is {self.fixed}; expected a code of 1 to {CODES - 1}")
        if not 0 < self.low <= self.high < CODES:
            raise ConfigError(f"tmax runs from {self.low} to {self.high}; expected 1 to {CODES - 1}, in order")

    @property
    def percent(self) -> float:
        """The percentile that is used."""
        if self.percentile is not None:
            return self.percentile
        return 96.0 if self.mode == "share" else 90.0

    def __call__(self, counts: Tensor) -> Tensor:
        """Return tmax of each site.

        Args:
            counts: int64 `[L, 256]`.

        Returns:
            int64 `[L]`.

        >>> counts = torch.stack([torch.bincount(torch.full((9,), q), minlength=256) for q in (0, 2, 25)])
        >>> TmaxRule()(counts), TmaxRule(mode="percentile")(counts)
        (tensor([32,  7, 25]), tensor([32, 15, 35]))
        """
        fixed = torch.full((len(counts),), self.fixed)
        if self.mode == "fixed":
            return fixed
        if self.mode == "share":
            p = percentile_codes(counts, self.percent, zeros=True)
            return torch.where(counts[:, 1:].sum(-1) > 0, p.clamp(min(_LEAST, self.high), self.high), fixed)
        p = percentile_codes(counts, self.percent) + (10 if self.offset is None else self.offset)
        return torch.where(counts[:, 1:].sum(-1) > 0, p.clamp(self.low, self.high), fixed)


def layer_states(counts: Tensor) -> Tensor:
    """Return what the seed's policy sees of each site.

    [index/(L − 1), mean/255, std/128, p90/255] over all codes, zeros included; std divides by n.

    Args:
        counts: int64 `[L, 256]`.

    Returns:
        float32 `[L, 4]`; a single site has index 0, a site without codes zeros.
    """
    c, q = counts.double(), torch.arange(CODES, dtype=torch.float64)
    n = c.sum(-1).clamp(min=1)
    mean = (c * q).sum(-1) / n
    std = ((c * (q - mean[:, None]).square()).sum(-1) / n).sqrt()
    index = torch.arange(len(c)) / max(len(c) - 1, 1)
    p90 = percentile_codes(counts, zeros=True)
    return torch.stack((index.double(), mean / 255, std / 128, p90 / 255), -1).float()


def coverage(counts: Tensor, tmax: Tensor, *, ignore_zeros: bool = False) -> Tensor:
    """Return the share of the codes of each site that lie at or below its tmax.

    Args:
        counts: int64 `[L, 256]`.
        tmax: int64 `[L]`.
        ignore_zeros: leave code 0 out of both numbers.

    Returns:
        float64 `[L]`; 1 for a site without such codes.
    """
    kept = counts.clone()
    if ignore_zeros:
        kept[:, 0] = 0
    n = kept.sum(-1)
    inside = (kept * (torch.arange(CODES) <= tmax[:, None])).sum(-1)
    return torch.where(n > 0, inside.double() / n.clamp(min=1), 1.0)
