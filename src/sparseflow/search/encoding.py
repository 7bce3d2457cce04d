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
    out of their range to its end. In a relative encoding it is the range that
    the numbers before leave, so that every point of the cube counts and those
    after move along.

    Args:
        space: what is encoded.
        relative: whether axes follow the ranges that are left.

    Raises:
        UnsupportedError: a continuous parameter of a kind unknown here.

    >>> from sparseflow.search import Integer, Space
    >>> line = Encoding(Space(parameters=(Integer(name="a", low=0, high=4),)))
    >>> line.encode({"a": 2}), line.decode([0.99])
    ([0.5], {'a': 4})
    """

    def __init__(self, space: Space, *, relative: bool = False) -> None:
        self.space, self.relative = space, relative
        for p in space.parameters:
            if p.values() is None and not isinstance(p, LogFloat):
                raise UnsupportedError(f"parameter {p.name!r} is a {type(p).__name__}; no axis is known for that kind")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each axis at its widest; 0 where it is continuous."""
        return tuple(0 if (v := p.values()) is None else len(v) for p in self.space.parameters)

    def encode(self, params: Params) -> list[float]:
        """Return the point of parameters; those without meaning stand at .5.

        Raises:
            ConfigError: they are not in the space.
        """
        self.space.check(params)
        return [
            self._to_axis(self._axis(p, params), params[p.name]) if p.name in params else 0.5
            for p in self.space.parameters
        ]

    def decode(self, point: Sequence[float]) -> dict[str, Value]:
        """Return the parameters of a point; beyond an end the end counts. Constraints are not looked at."""
        out: dict[str, Value] = {}
        for p, at in zip(self.space.parameters, point, strict=True):
            if p.when is None or p.when(out):
                out[p.name] = p.given(out).nearest(self._from_axis(self._axis(p, out), at))
        return out

    def _axis(self, p: Parameter, params: Params) -> Parameter:
        return p.given(params) if self.relative else p

    @staticmethod
    def _to_axis(p: Parameter, value: Value) -> float:
        if (values := p.values()) is not None:
            return (index_of(values, value) + 0.5) / len(values)
        assert isinstance(p, LogFloat)
        assert isinstance(value, int | float)
        return math.log(value / p.low) / math.log(p.high / p.low)

    @staticmethod
    def _from_axis(p: Parameter, at: float) -> Value:
        if (values := p.values()) is not None:
            return values[min(max(math.floor(at * len(values)), 0), len(values) - 1)]
        assert isinstance(p, LogFloat)
        value: float = p.low * (p.high / p.low) ** min(max(at, 0.0), 1.0)
        return min(max(value, p.low), p.high)
