"""Configurations as members of a search space, so that every searcher can look for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseflow.compress.approximate.codes import CODE_MAX, RELATIVE, Masks, check_codes
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import NAMES
from sparseflow.search.between import Between, Bound
from sparseflow.search.parameter import Integer, Parameter
from sparseflow.search.space import Params, Space

__all__ = ["CodeSpace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSpace:
    """The configurations that masks allow, as parameters "conv1.t1", "conv1.t2", "conv1.v1", "conv1.v2" a site.

    The range of each depends on those before it, as the masks say; with a `reach` "conv1.tmax" comes first.

    Args:
        names: names of the L sites.
        tmax: tmax of each.
        masks: what is allowed.
        reach: how far tmax may be moved either way; 0 leaves it fixed.

    Raises:
        ConfigError: another number of sites, a name twice, a tmax that leaves nothing to choose, a negative reach.

    >>> conv1 = CodeSpace(names=("conv1",), tmax=(35,))
    >>> codes = torch.tensor([[7, 14, 21, 28, 35]])
    >>> conv1.params(codes)
    {'conv1.t1': 7, 'conv1.t2': 21, 'conv1.v1': 14, 'conv1.v2': 28}
    >>> conv1.codes([conv1.params(codes)]).tolist()
    [[[7, 14, 21, 28, 35]]]
    """

    names: tuple[str, ...]
    tmax: tuple[int, ...]
    masks: Masks = RELATIVE
    reach: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.names or len(set(self.names)) < len(self.names) or len(self.names) != len(self.tmax):
            raise ConfigError(f"{len(self.tmax)} values of tmax for the sites {', '.join(self.names)}; give one a site")
        if self.reach < 0:
            raise ConfigError(f"reach of tmax is {self.reach}; expected 0 or more")
        for name, tmax in zip(self.names, self.tmax, strict=True):
            if not self.masks.least_tmax <= tmax <= 255:
                raise ConfigError(
                    f"site {name!r}: tmax is {tmax}; masks {self.masks.name!r} need {self.masks.least_tmax} to 255"
                )

    @property
    def space(self) -> Space:
        """What a searcher is given."""
        sites = zip(self.names, self.tmax, strict=True)
        return Space(parameters=tuple(p for name, tmax in sites for p in self._site(name, tmax)))

    def codes(self, params: Sequence[Params]) -> Tensor:
        """Return configurations as int64 `[K, L, 5]`.

        Args:
            params: K members of the space.

        Raises:
            ConfigError: a code that the masks do not allow; says whose.
        """
        rows = [
            [[p.get(f"{name}.{code}", tmax if code == "tmax" else -1) for code in NAMES] for name, tmax in self._sites]
            for p in params
        ]
        codes = torch.tensor(rows, dtype=torch.int64).view(-1, len(self.names), len(NAMES))
        return check_codes(codes, masks=self.masks, names=self.names)

    def params(self, codes: Tensor) -> dict[str, int]:
        """Return one configuration, int64 `[L, 5]`, as a member of the space.

        Raises:
            ConfigError: codes that the masks do not allow, or another tmax.
        """
        check_codes(codes, masks=self.masks, names=self.names)
        out: dict[str, int] = {}
        for (name, tmax), row in zip(self._sites, codes.tolist(), strict=True):
            low, high = self._tops(tmax)
            if not low <= row[4] <= high:
                raise ConfigError(f"site {name!r}: tmax is {row[4]}; the space has {low} to {high}")
            order = ("t1", "t2", "v1", "v2") if self.reach == 0 else ("tmax", "t1", "t2", "v1", "v2")
            out |= {f"{name}.{code}": row[NAMES.index(code)] for code in order}
        return out

    @property
    def _sites(self) -> list[tuple[str, int]]:
        return list(zip(self.names, self.tmax, strict=True))

    def _tops(self, tmax: int) -> tuple[int, int]:
        return max(self.masks.least_tmax, tmax - self.reach), max(tmax, min(tmax + self.reach, CODE_MAX))

    def _site(self, name: str, tmax: int) -> list[Parameter]:
        m = self.masks
        low, high = self._tops(tmax)
        free = self.reach > 0
        t2 = m.t1_low + m.gap

        def below_tmax(by: int) -> Bound | None:
            return Bound(name=f"{name}.tmax", offset=-by) if free else None

        after_t1 = Bound(name=f"{name}.t1", offset=1)
        out: list[Parameter] = [Integer(name=f"{name}.tmax", low=low, high=high)] if free else []
        return [
            *out,
            Between(
                name=f"{name}.t1",
                low=m.t1_low,
                high=min(m.t1_high, max(m.t1_low, high - 2 * m.gap)),
                below=below_tmax(2 * m.gap),
            ),
            Between(
                name=f"{name}.t2",
                low=t2,
                high=max(t2, high - m.gap),
                above=Bound(name=f"{name}.t1", offset=m.gap),
                below=below_tmax(m.gap),
            ),
            Between(
                name=f"{name}.v1",
                low=m.t1_low + 1,
                high=max(t2, high - m.gap) - m.inset,
                above=after_t1,
                below=Bound(name=f"{name}.t2", offset=-m.inset),
            ),
            Between(
                name=f"{name}.v2",
                low=t2 + 1,
                high=high,
                above=Bound(name=f"{name}.t2", offset=1),
                below=below_tmax(0),
            ),
        ]
