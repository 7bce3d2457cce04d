"""The kinds of parameters a search space is made of."""

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sparseflow.errors import ConfigError

__all__ = ["Categorical", "Integer", "LogFloat", "Ordered", "Parameter", "Value", "When"]

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """Condition under which a parameter exists.

    Args:
        name: parameter that stands before.
        values: its values for which the condition holds.
    """

    name: str
    values: tuple[Value, ...]

    def __call__(self, params: Mapping[str, Value]) -> bool:
        """Tell whether the condition holds.

        >>> When(name="kernel", values=("event",))({"kernel": "event"})
        True
        """
        return self.name in params and params[self.name] in self.values


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter(ABC):
    """One thing a search decides; see `Categorical`, `Ordered`, `Integer`, `LogFloat`."""

    name: str
    when: When | None = None

    @property
    @abstractmethod
    def domain(self) -> str:
        """The values in words."""

    @abstractmethod
    def values(self) -> Sequence[Value] | None:
        """Return every value in order, or None if they are continuous."""

    @abstractmethod
    def sample(self, rng: random.Random) -> Value:
        """Draw a value."""

    @abstractmethod
    def neighbours(self, value: Value) -> Sequence[Value]:
        """Return the values one step away."""

    @abstractmethod
    def holds(self, value: Value) -> bool:
        """Tell whether a value lies in the domain."""

    @abstractmethod
    def first(self) -> Value:
        """Return the value taken when nothing is known."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the parameters that must stand before this one."""
        return () if self.when is None else (self.when.name,)

    def given(self, params: Mapping[str, Value]) -> "Parameter":
        """Return the parameter as it is where those before it are known; see `Between`."""
        return self

    def nearest(self, value: Value) -> Value:
        """Return the value of the domain that is nearest to one of the same kind."""
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return the kind and the fields as plain data."""
        body: dict[str, Any] = {"kind": type(self).__name__}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, When):
                value = {"name": value.name, "values": list(value.values)}
            body[f.name] = list(value) if isinstance(value, tuple) else value
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed(Parameter):
    choices: tuple[Value, ...]

    def __post_init__(self) -> None:
        """Check the choices."""
        if not self.choices:
            raise ConfigError(f"parameter {self.name!r} has no choices; name at least one")
        if len({(type(c), c) for c in self.choices}) < len(self.choices):
            raise ConfigError(f"parameter {self.name!r} lists a choice twice: {self.choices}")

    @property
    def domain(self) -> str:
        """The values in words."""
        return f"one of {', '.join(map(repr, self.choices))}"

    def values(self) -> Sequence[Value]:
        """Return the choices."""
        return self.choices

    def sample(self, rng: random.Random) -> Value:
        """Draw a choice evenly."""
        return rng.choice(self.choices)

    def holds(self, value: Value) -> bool:
        """Tell whether it is one of the choices; `True` is not 1."""
        return any(value == c and isinstance(value, bool) == isinstance(c, bool) for c in self.choices)

    def first(self) -> Value:
        """Return the first choice."""
        return self.choices[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Categorical(_Listed):
    """A choice without order; every other choice is one step away.

    Args:
        name: name of the parameter.
        choices: the values; the first is taken when nothing is known.
        when: condition under which it exists.
    """

    def neighbours(self, value: Value) -> Sequence[Value]:
        """Return all other choices."""
        return [c for c in self.choices if c != value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered(_Listed):
    """A choice among values in order, as tile sizes; only the next ones are one step away.

    Args:
        name: name of the parameter.
        choices: the values in order.
        when: condition under which it exists.
    """

    def neighbours(self, value: Value) -> Sequence[Value]:
        """Return the choices before and after."""
        at = self.choices.index(value)
        return [*self.choices[max(at - 1, 0) : at], *self.choices[at + 1 : at + 2]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Integer(Parameter):
    """A whole number from `low` to `high`, both included.

    Args:
        name: name of the parameter.
        low: smallest value.
        high: largest value.
        step: distance between values.
        when: condition under which it exists.

    Raises:
        ConfigError: the range is empty or the step is not positive.
    """

    low: int
    high: int
    step: int = 1

    def __post_init__(self) -> None:
        """Check the range."""
        if self.step < 1 or self.low > self.high:
            raise ConfigError(f"parameter {self.name!r} has range {self.low}..{self.high} by {self.step}; it is empty")

    @property
    def domain(self) -> str:
        """The values in words."""
        return f"a whole number {self.low} to {self.high}" + (f" in steps of {self.step}" if self.step > 1 else "")

    def values(self) -> Sequence[int]:
        """Return the numbers."""
        return range(self.low, self.high + 1, self.step)

    def sample(self, rng: random.Random) -> Value:
        """Draw a number evenly."""
        return rng.choice(self.values())

    def neighbours(self, value: Value) -> Sequence[Value]:
        """Return the numbers one step below and above."""
        if not isinstance(value, int):
            return []
        return [v for v in (value - self.step, value + self.step) if self.holds(v)]

    def holds(self, value: Value) -> bool:
        """Tell whether it is a whole number of the range."""
        return isinstance(value, int) and not isinstance(value, bool) and value in self.values()

    def first(self) -> Value:
        """Return the smallest number."""
        return self.low

    def nearest(self, value: Value) -> Value:
        """Return a number moved into the range and down to a step."""
        if not isinstance(value, int):
            return value
        inside = min(max(value, self.low), self.high)
        return inside - (inside - self.low) % self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFloat(Parameter):
    """A positive real number whose order of magnitude matters.

    Args:
        name: name of the parameter.
        low: smallest value.
        high: largest value.
        when: condition under which it exists.

    Raises:
        ConfigError: not 0 < low < high < infinity.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 < self.low < self.high < math.inf:
            raise ConfigError(f"parameter {self.name!r} has range {self.low}..{self.high}; expected 0 < low < high")

    @property
    def domain(self) -> str:
        """The values in words."""
        return f"a number {self.low:g} to {self.high:g}"

    def values(self) -> None:
        """Return None: the values are continuous."""
        return

    def sample(self, rng: random.Random) -> Value:
        """Draw evenly in the logarithm."""
        return self._within(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))

    def neighbours(self, value: Value) -> Sequence[Value]:
        """Return the values a tenth of the range away in the logarithm."""
        if not isinstance(value, int | float):
            return []
        factor = (self.high / self.low) ** 0.1
        return [v for v in (self._within(value / factor), self._within(value * factor)) if v != value]

    def holds(self, value: Value) -> bool:
        """Tell whether it is a number of the range."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def first(self) -> Value:
        """Return the middle of the range in the logarithm."""
        return self._within(math.sqrt(self.low) * math.sqrt(self.high))

    def _within(self, value: float) -> float:
        return min(max(value, self.low), self.high)
