"""Codes of a configuration: which may be chosen, first guesses, and random draws.

A configuration of L sites is an int64 tensor `[L, 5]` with the columns t1, v1, t2, v2, tmax; K of them are
`[K, L, 5]`. tmax is chosen first, from the histogram; the others follow in the order t1, t2, v1, v2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import CODES, NAMES

__all__ = [
    "CODE_MAX",
    "MASKS",
    "RELATIVE",
    "SEED",
    "Masks",
    "check_codes",
    "clamp_codes",
    "initial_codes",
    "masks_named",
    "sample_codes",
]

# The range of fbgemm's default observers; the histograms and tables run to 255.
CODE_MAX = 127
_RULES = ("document", "code")
_Pick = Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """The range of each code, given those chosen before it.

    | code | low | high |
    |---|---|---|
    | t1 | `t1_low` | min(`t1_high`, max(low, tmax − 2·`gap`)) |
    | t2 | t1 + `gap` | max(low, tmax − `gap`) |
    | v1 | t1 + 1 | max(low, t2 − `inset`) |
    | v2 | t2 + 1 | tmax |

    Every range holds at least one code from tmax = `least_tmax` on.

    Args:
        name: what settings and errors call them.
        t1_low: least t1.
        t1_high: greatest t1 at any tmax.
        gap: least distance from t1 to t2 and from t2 to tmax.
        inset: least distance from v1 to t2; below `gap`.

    Raises:
        ConfigError: numbers that leave a range empty.
    """

    name: str
    t1_low: int
    t1_high: int
    gap: int
    inset: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0 <= self.t1_low <= self.t1_high < CODES and 0 <= self.inset < self.gap):
            raise ConfigError(
                f"masks {self.name!r} leave nothing to choose; expected 0 <= t1_low <= t1_high <= 255 "
                "and 0 <= inset < gap"
            )

    @property
    def least_tmax(self) -> int:
        """The least tmax that leaves a code for each of the others."""
        return self.t1_low + self.gap + 1

    def walk(self, tmax: Tensor, pick: _Pick) -> Tensor:
        """Choose t1, t2, v1, v2 one after the other and return them with tmax.

        Args:
            tmax: int64 `[...]`.
            pick: called with the least and the greatest code and the column; returns the chosen codes `[...]`.

        Returns:
            int64 `[..., 5]`.

        Raises:
            ConfigError: a tmax outside `least_tmax` to 255.
        """
        if tmax.numel() and not self.least_tmax <= int(tmax.min()) <= int(tmax.max()) < CODES:
            raise ConfigError(
                f"tmax runs from {int(tmax.min())} to {int(tmax.max())}; "
                f"masks {self.name!r} need {self.least_tmax} to {CODES - 1}"
            )
        low = torch.full_like(tmax, self.t1_low)
        t1 = pick(low, (tmax - 2 * self.gap).clamp(self.t1_low, self.t1_high), 0)
        low = t1 + self.gap
        t2 = pick(low, torch.maximum(low, tmax - self.gap), 2)
        low = t1 + 1
        v1 = pick(low, torch.maximum(low, t2 - self.inset), 1)
        v2 = pick(t2 + 1, tmax, 3)
        return torch.stack((t1, v1, t2, v2, tmax), -1)

    def holds(self, codes: Tensor) -> Tensor:
        """Tell which sites obey the masks.

        Args:
            codes: int64 `[..., 5]`.

        Returns:
            bool `[...]`.
        """
        tmax = codes[..., 4]
        good = (tmax >= self.least_tmax) & (tmax < CODES)

        def given(low: Tensor, high: Tensor, column: int) -> Tensor:
            nonlocal good
            code = codes[..., column]
            good = good & (code >= low) & (code <= high)
            return code

        self.walk(torch.where(good, tmax, self.least_tmax), given)
        return good


# What the squared error allows: t1 < v1 <= t2 < v2 <= tmax, at any scale.
RELATIVE = Masks(name="relative", t1_low=0, t1_high=CODES - 1, gap=1, inset=0)
# What the seed's policy could choose.
SEED = Masks(name="seed", t1_low=2, t1_high=10, gap=4, inset=1)
MASKS = {masks.name: masks for masks in (RELATIVE, SEED)}


def masks_named(name: str) -> Masks:
    """Return the masks of a name, "relative" or "seed".

    Raises:
        ConfigError: no such name.
    """
    if name not in MASKS:
        raise ConfigError(f"masks are {name!r}; expected one of {', '.join(MASKS)}")
    return MASKS[name]


def check_codes(codes: Tensor, *, masks: Masks = RELATIVE, names: Sequence[str] | None = None) -> Tensor:
    """Return `codes`, or say which code of which site is wrong.

    Args:
        codes: int64 `[L, 5]` or `[K, L, 5]`.
        masks: what is allowed.
        names: names of the L sites, for the error.

    Raises:
        ConfigError: another type or shape, or a code outside its range.

    >>> check_codes(torch.tensor([[12, 18, 24, 29, 35]]), masks=SEED, names=["conv1"])
    Traceback (most recent call last):
    ...
    sparseflow.errors.ConfigError: site conv1: t1 is 12; masks 'seed' allow 2 to 10 there
    """
    if codes.dtype != torch.int64 or codes.ndim < 2 or codes.shape[-1] != len(NAMES):
        shape = tuple(codes.shape)
        raise ConfigError(f"codes are {codes.dtype} {shape}; expected int64 [..., L, 5]: {', '.join(NAMES)}")
    if names is not None and len(names) != codes.shape[-2]:
        raise ConfigError(f"codes are for {codes.shape[-2]} sites; there are {len(names)}: {', '.join(names)}")
    wrong = torch.nonzero(~masks.holds(codes))
    if len(wrong):
        *outer, at = wrong[0].tolist()
        where = f"configuration {', '.join(map(str, outer))}, " if outer else ""
        site = names[at] if names is not None else at
        raise ConfigError(f"{where}site {site}: {_why(codes[(*outer, at)], masks)}")
    return codes


def _why(codes: Tensor, masks: Masks) -> str:
    tmax = int(codes[4])
    if not masks.least_tmax <= tmax < CODES:
        return f"tmax is {tmax}; masks {masks.name!r} allow {masks.least_tmax} to {CODES - 1} there"
    said: list[str] = []

    def given(low: Tensor, high: Tensor, column: int) -> Tensor:
        if not low <= codes[column] <= high:
            said.append(
                f"{NAMES[column]} is {int(codes[column])}; masks {masks.name!r} allow {int(low)} to {int(high)} there"
            )
        return codes[column]

    masks.walk(codes[4], given)
    return said[0]


def clamp_codes(codes: Tensor, *, masks: Masks = RELATIVE) -> Tensor:
    """Move each code into its range, in the order of choice; valid codes stay.

    Args:
        codes: int64 `[..., 5]`; tmax is kept.
        masks: what is allowed.

    Raises:
        ConfigError: a tmax that leaves nothing to choose.

    >>> clamp_codes(torch.tensor([12, 18, 24, 29, 35]), masks=SEED).tolist()
    [10, 18, 24, 29, 35]
    """
    return masks.walk(codes[..., 4], lambda low, high, at: torch.maximum(low, torch.minimum(codes[..., at], high)))


def initial_codes(tmax: Tensor | Sequence[int], *, rule: str = "document", masks: Masks | None = RELATIVE) -> Tensor:
    """Return the codes before any search.

    * "document": t1, v1, t2, v2 = ⌊.2·tmax⌋, ⌊.4·tmax⌋, ⌊.6·tmax⌋, ⌊.8·tmax⌋.
    * "code": t1 = ⌊.35·tmax⌋ clamped to 2 … tmax − 8; t2 = ⌊.7·tmax⌋ clamped to t1 + 4 … tmax − 4;
      v1 = ⌊(t1 + t2)/2⌋; v2 = ⌊(t2 + tmax)/2⌋.

    Args:
        tmax: `[...]` whole numbers.
        rule: "document" or "code".
        masks: the result is clamped into them; None leaves it as the rule says.

    Returns:
        int64 `[..., 5]`.

    Raises:
        ConfigError: no such rule, or a tmax that leaves nothing to choose.

    Source: the usage notes ("document") and the program ("code") of the earlier project.

    >>> initial_codes([35]).tolist(), initial_codes([35], rule="code").tolist()
    ([[7, 14, 21, 28, 35]], [[12, 18, 24, 29, 35]])
    """
    if rule not in _RULES:
        raise ConfigError(f"rule of the initial codes is {rule!r}; expected one of {', '.join(_RULES)}")
    top = torch.as_tensor(tmax, dtype=torch.int64)
    if rule == "document":
        codes = torch.stack([k * top // 5 for k in (1, 2, 3, 4)] + [top], -1)
    else:
        t1 = torch.minimum((35 * top // 100).clamp(min=2), top - 8)
        t2 = torch.minimum(torch.maximum(7 * top // 10, t1 + 4), top - 4)
        codes = torch.stack((t1, (t1 + t2) // 2, t2, (t2 + top) // 2, top), -1)
    return codes if masks is None else clamp_codes(codes, masks=masks)


def sample_codes(tmax: Tensor | Sequence[int], count: int, *, seed: int, masks: Masks = RELATIVE) -> Tensor:
    """Draw configurations code by code, each evenly from the range that the codes before it leave.

    Args:
        tmax: `[L]` whole numbers.
        count: K, how many.
        seed: seed of the draws.
        masks: what is allowed.

    Returns:
        int64 `[K, L, 5]`.

    Raises:
        ConfigError: a tmax that leaves nothing to choose.
    """
    top = torch.as_tensor(tmax, dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(count, *top.shape, 4, generator=generator, dtype=torch.float64)

    def pick(low: Tensor, high: Tensor, column: int) -> Tensor:
        step = (drawn[..., column] * (high - low + 1)).floor().to(torch.int64)
        return low + torch.minimum(step, high - low)

    return masks.walk(top.expand(drawn.shape[:-1]), pick)
