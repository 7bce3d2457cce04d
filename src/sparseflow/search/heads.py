"""How the parameters of a space lie on the outputs of a policy: a layer each, a head each."""

from collections.abc import Sequence
from dataclasses import dataclass

from sparseflow.errors import ConfigError
from sparseflow.search.encoding import index_of
from sparseflow.search.parameter import Integer, Parameter, Value
from sparseflow.search.space import Params, Space

__all__ = ["Choice", "Heads"]


@dataclass(frozen=True, slots=True)
class Choice:
    """One parameter as an output of a head.

    Args:
        parameter: the parameter.
        values: its widest range.
        layer: number of its layer.
        head: number of its head.
        shift: which output stands for the first value.
    """

    parameter: Parameter
    values: Sequence[Value]
    layer: int
    head: int
    shift: int

    def output(self, value: Value) -> int:
        """Return the output that stands for a value."""
        return self.shift + index_of(self.values, value)

    def legal(self, before: Params) -> tuple[int, int] | None:
        """Return the first and last legal output where earlier choices are known; None where there is no choice."""
        if self.parameter.when is not None and not self.parameter.when(before):
            return None
        left = self.parameter.given(before).values() or ()
        return self.output(left[0]), self.output(left[-1])


class Heads:
    """Layers, heads and outputs for a space.

    A parameter named `layer.code` belongs to the head of its code in its
    layer; parameters without a dot share one layer. Where all parameters of a
    head are whole numbers by 1, an output stands for the same number in every
    layer; else it stands for a place in the list of values.

    Args:
        space: finite.
        codes: outputs of each head; None for as many as the widest needs.

    Raises:
        ConfigError: the space is empty or continuous, or `codes` are too few.
    """

    def __init__(self, space: Space, codes: int | None = None) -> None:
        if not space.parameters:
            raise ConfigError("the space has no parameters; a policy has nothing to learn")
        if not space.is_finite:
            raise ConfigError("a policy draws from lists, and the space is continuous; use CMAES or TPE")
        split = [p.name.rpartition(".") for p in space.parameters]
        self.layers = tuple(dict.fromkeys(layer for layer, _, _ in split))
        self.names = tuple(dict.fromkeys(head for _, _, head in split))
        members = {h: [p for p, s in zip(space.parameters, split, strict=True) if s[2] == h] for h in self.names}
        base = {head: _first_number(of, codes) for head, of in members.items()}
        self.choices = tuple(
            Choice(p, p.values() or (), self.layers.index(layer), self.names.index(head), _shift(p, base[head]))
            for p, (layer, _, head) in zip(space.parameters, split, strict=True)
        )
        widest = max(c.shift + len(c.values) for c in self.choices)
        if codes is not None and codes < widest:
            raise ConfigError(f"heads have {codes} outputs, but the widest range of the space needs {widest}")
        self.codes = codes or widest


def _first_number(members: Sequence[Parameter], codes: int | None) -> int | None:
    low = [p.low for p in members if isinstance(p, Integer) and p.step == 1]
    if len(low) < len(members):
        return None
    return 0 if codes is not None and min(low) >= 0 else min(low)


def _shift(p: Parameter, base: int | None) -> int:
    return p.low - base if isinstance(p, Integer) and base is not None else 0
