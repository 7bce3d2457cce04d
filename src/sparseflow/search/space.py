"""Search spaces: typed parameters, conditions between them, and validity with reasons."""

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.search.parameter import Parameter, Value

__all__ = ["Constraint", "Params", "Space", "canonical"]

Params = Mapping[str, Value]
_TRIES = 200
_LISTABLE = 100_000


def canonical(params: Params) -> str:
    """Return parameters as one JSON text, the same for every order of names.

    >>> canonical({"b": 1, "a": "x"})
    '{"a":"x","b":1}'
    """
    return json.dumps(dict(params), sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A rule over several parameters, with the reason that a user reads.

    Args:
        holds: tells whether complete parameters obey the rule.
        reason: what is wrong if they do not, as "the tile exceeds the image".
    """

    holds: Callable[[Params], bool]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Everything that a search may try.

    A parameter with a condition exists only where its `when` holds; it may
    look at parameters that stand before it.

    Args:
        parameters: in the order in which conditions refer to them.
        constraints: rules that valid parameters obey.

    Raises:
        ConfigError: a name occurs twice, or a condition looks at a parameter
            that does not stand before it.

    >>> from sparseflow.search import Categorical, Integer, When
    >>> space = Space(parameters=(
    ...     Categorical(name="kernel", choices=("dense", "event")),
    ...     Integer(name="tile", low=1, high=3, when=When(name="kernel", values=("event",))),
    ... ))
    >>> len(list(space.enumerate()))
    4
    >>> space.reasons({"kernel": "dense", "tile": 2})
    ["parameter 'tile' has no meaning here; leave it out"]
    """

    parameters: tuple[Parameter, ...]
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        """Check names and conditions."""
        seen: set[str] = set()
        for p in self.parameters:
            if p.name in seen:
                raise ConfigError(f"space holds parameter {p.name!r} twice; give each its own name")
            if unknown := [n for n in p.needs if n not in seen]:
                raise ConfigError(
                    f"parameter {p.name!r} depends on {unknown[0]!r}, which does not stand before it in the space"
                )
            seen.add(p.name)

    @property
    def is_finite(self) -> bool:
        """Whether `enumerate` ends."""
        return all(p.values() is not None for p in self.parameters)

    @property
    def is_listable(self) -> bool:
        """Whether it is finite and small enough to hold every member in memory."""
        sizes = [p.values() for p in self.parameters]
        return math.prod(0 if v is None else len(v) for v in sizes) <= _LISTABLE and self.is_finite

    def reasons(self, params: Params) -> list[str]:
        """Return why parameters are not valid; an empty list means they are."""
        out = [f"unknown parameter {n!r}; there are {self._names()}" for n in params if n not in self._names()]
        seen: dict[str, Value] = {}
        for p in self.parameters:
            alive, q = p.when is None or p.when(seen), p.given(seen)
            if p.name not in params:
                if alive:
                    out.append(f"parameter {p.name!r} is missing")
            elif not alive:
                out.append(f"parameter {p.name!r} has no meaning here; leave it out")
            elif not q.holds(params[p.name]):
                out.append(f"parameter {p.name!r} is {params[p.name]!r}; expected {q.domain}")
            else:
                seen[p.name] = params[p.name]
        return out or [c.reason for c in self.constraints if not c.holds(params)]

    def check(self, params: Params) -> None:
        """Refuse parameters that are not valid.

        Raises:
            ConfigError: names every reason.
        """
        reasons = self.reasons(params)
        if reasons:
            raise ConfigError(f"{canonical(params)} is not in the space: {'; '.join(reasons)}")

    def sample(self, rng: random.Random) -> dict[str, Value]:
        """Draw valid parameters, each parameter independently and evenly.

        Raises:
            ConfigError: no valid parameters exist or none was found.
        """
        for _ in range(_TRIES):
            drawn = self._complete({}, lambda p: p.sample(rng))
            if self._obeys(drawn):
                return drawn
        valid = list(self.enumerate()) if self.is_listable else []
        if not valid:
            broken = "; ".join(c.reason for c in self.constraints)
            raise ConfigError(f"found no valid parameters in {_TRIES} draws; loosen the constraints: {broken}")
        return rng.choice(valid)

    def enumerate(self) -> Iterator[dict[str, Value]]:
        """Yield all valid parameters in a fixed order, the last parameter turning fastest.

        Raises:
            ConfigError: a parameter is continuous.
        """
        for p in self.parameters:
            if p.values() is None:
                raise ConfigError(f"parameter {p.name!r} is continuous; the space cannot be enumerated")
        for params in self._walk({}, 0):
            if self._obeys(params):
                yield params

    def neighbours(self, params: Params) -> Iterator[dict[str, Value]]:
        """Yield valid parameters that differ in one choice or one step.

        Where the change gives a parameter meaning, it takes its first value;
        where the change removes its meaning, it is left out; where a range moves
        away from a value, the value follows.

        Raises:
            ConfigError: `params` are not valid themselves.
        """
        self.check(params)
        for p in self.parameters:
            if p.name not in params:
                continue
            for value in p.given(params).neighbours(params[p.name]):
                changed = {**params, p.name: value}
                moved = self._complete(changed, lambda q: q.first())
                if self._obeys(moved):
                    yield moved

    def fitted(self, params: Params) -> dict[str, Value]:
        """Return complete parameters near the given ones, one after the other in the order of the space.

        A number outside its range moves to the end of the range, a missing
        parameter takes its first value, one without meaning is left out.
        Constraints are not looked at.
        """
        return self._complete(params, lambda p: p.first())

    def to_json(self) -> str:
        """Return the description of the space as canonical JSON, for hashes and reports."""
        body: dict[str, Any] = {
            "parameters": [p.to_dict() for p in self.parameters],
            "constraints": [c.reason for c in self.constraints],
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def _names(self) -> list[str]:
        return [p.name for p in self.parameters]

    def _obeys(self, params: Params) -> bool:
        return all(c.holds(params) for c in self.constraints)

    def _complete(self, given: Params, choose: Callable[[Parameter], Value]) -> dict[str, Value]:
        out: dict[str, Value] = {}
        for p in self.parameters:
            if p.when is None or p.when(out):
                q = p.given(out)
                out[p.name] = q.nearest(given[p.name]) if p.name in given else choose(q)
        return out

    def _walk(self, head: dict[str, Value], at: int) -> Iterator[dict[str, Value]]:
        if at == len(self.parameters):
            yield head
            return
        p = self.parameters[at]
        if p.when is not None and not p.when(head):
            yield from self._walk(head, at + 1)
            return
        for value in p.given(head).values() or ():
            yield from self._walk({**head, p.name: value}, at + 1)
