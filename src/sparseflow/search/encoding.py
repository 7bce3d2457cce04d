"""Parameters as points of the unit cube, for methods that work on vectors."""

import math
from collections.abc import Sequence

from sparseflow.errors import UnsupportedError
from sparseflow.search.parameter import LogFloat, Parameter, Value
from sparseflow.search.space import Params, Space

__all__ = ["Encoding", "index_of"]


def index_of(values: Sequence[Value], value: Value) -> int:
    """Return where a value stands; `True` is not 1.

    Raises:
        ValueError: it is not among them.

    >>> index_of((1, True), True)
    1
    """
    if isinstance(values, range) and isinstance(value, int):
        return values.index(value)
    for i, v in enumerate(values):
        if v == value and isinstance(v, bool) == isinstance(value, bool):
            return i
    raise ValueError(f"{value!r} is not among {values}")


class Encoding:
    """One axis from 0 to 1 for each parameter of a space.

    The n values of a listed or whole parameter share its axis evenly: value i
    owns [i/n, (i+1)/n) and stands at its middle. A `LogFloat` lies along its
    logarithm. The axis of a `Between` is that of its widest range, so that
    moving one number leaves the others where they are; decoding moves those
    out of their range to its end.

    Args:
        space: what is encoded.

    Raises:
        UnsupportedError: a continuous parameter of a kind unknown here.

    >>> from sparseflow.search import Integer, Space
    >>> line = Encoding(Space(parameters=(Integer(name="a", low=0, high=4),)))
    >>> line.encode({"a": 2}), line.decode([0.99])
    ([0.5], {'a': 4})
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.values = tuple(p.values() for p in space.parameters)
        for p, values in zip(space.parameters, self.values, strict=True):
            if values is None and not isinstance(p, LogFloat):
                raise UnsupportedError(f"parameter {p.name!r} is a {type(p).__name__}; no axis is known for that kind")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each axis; 0 where it is continuous."""
        return tuple(0 if v is None else len(v) for v in self.values)

    def encode(self, params: Params) -> list[float]:
        """Return the point of parameters; those without meaning stand at .5.

        Raises:
            ConfigError: they are not in the space.
        """
        self.space.check(params)
        return [self._to_axis(i, params[p.name]) if p.name in params else 0.5 for i, p in enumerate(self._axes)]

    def decode(self, point: Sequence[float]) -> dict[str, Value]:
        """Return the parameters of a point; beyond an end the end counts. Constraints are not looked at."""
        return self.space.fitted({p.name: self._from_axis(i, point[i]) for i, p in enumerate(self._axes)})

    @property
    def _axes(self) -> tuple[Parameter, ...]:
        return self.space.parameters

    def _to_axis(self, i: int, value: Value) -> float:
        values, p = self.values[i], self._axes[i]
        if values is not None:
            return (index_of(values, value) + 0.5) / len(values)
        assert isinstance(p, LogFloat)
        assert isinstance(value, int | float)
        return math.log(value / p.low) / math.log(p.high / p.low)

    def _from_axis(self, i: int, at: float) -> Value:
        values, p = self.values[i], self._axes[i]
        if values is not None:
            return values[min(max(math.floor(at * len(values)), 0), len(values) - 1)]
        assert isinstance(p, LogFloat)
        inside = min(max(at, 0.0), 1.0)
        value: float = p.low * (p.high / p.low) ** inside
        return min(max(value, p.low), p.high)
