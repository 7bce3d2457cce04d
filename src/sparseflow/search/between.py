"""Whole numbers whose range depends on numbers chosen before, as thresholds in ascending order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.search.parameter import Integer, Value

__all__ = ["Between", "Bound"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A bound that lies a fixed distance from another parameter.

    Args:
        name: parameter that stands before.
        offset: what is added to its value.
    """

    name: str
    offset: int = 0

    def __call__(self, params: Mapping[str, Value]) -> int | None:
        """Return the bound, or None where the parameter is not known.

        >>> Bound(name="t1", offset=4)({"t1": 7})
        11
        """
        value = params.get(self.name)
        return value + self.offset if isinstance(value, int) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Between(Integer):
    """A whole number from `low` to `high` that also keeps its distance from parameters before it.

    The range is max(low, above) to min(high, below), both included. Where
    that is empty, its lower end alone is left; nothing leaves `low` to `high`.

    Args:
        name: name of the parameter.
        low: smallest value at all.
        high: largest value at all.
        above: further lower bound.
        below: further upper bound.
        when: condition under which it exists.

    Raises:
        ConfigError: the range is empty, or the step is not 1.

    >>> from sparseflow.search import Space
    >>> space = Space(parameters=(
    ...     Integer(name="t1", low=2, high=3),
    ...     Between(name="t2", low=6, high=7, above=Bound(name="t1", offset=4)),
    ... ))
    >>> list(space.enumerate())
    [{'t1': 2, 't2': 6}, {'t1': 2, 't2': 7}, {'t1': 3, 't2': 7}]
    """

    above: Bound | None = None
    below: Bound | None = None

    def __post_init__(self) -> None:
        """Check the range."""
        Integer.__post_init__(self)
        if self.step != 1:
            raise ConfigError(f"parameter {self.name!r} has step {self.step}; between other parameters it must be 1")

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the parameters that must stand before this one."""
        bounds = tuple(b.name for b in (self.above, self.below) if b is not None)
        return bounds if self.when is None else (self.when.name, *bounds)

    def given(self, params: Mapping[str, Value]) -> Integer:
        """Return the numbers left where the parameters before are known."""
        above = self.above(params) if self.above is not None else None
        below = self.below(params) if self.below is not None else None
        low = self.low if above is None else min(max(self.low, above), self.high)
        high = self.high if below is None else min(self.high, below)
        return Integer(name=self.name, low=low, high=max(low, high), when=self.when)

    def to_dict(self) -> dict[str, Any]:
        """Return the kind and the fields as plain data."""
        body = Integer.to_dict(self)
        for key in ("above", "below"):
            bound: Bound | None = getattr(self, key)
            body[key] = None if bound is None else {"name": bound.name, "offset": bound.offset}
        return body
