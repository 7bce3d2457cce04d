"""Checks: figures held against their targets, as JSON and as an exit status."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from sparseflow.errors import ConfigError

__all__ = ["Check", "checks_body"]

_RULES = {
    ">=": lambda value, bound: value >= bound,
    "<=": lambda value, bound: value <= bound,
    "==": lambda value, bound: value == bound,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One measured figure and the bound that it must keep.

    Args:
        show: number of the claim that the figure belongs to.
        name: what was measured.
        value: the figure; NaN never holds.
        unit: its unit, "x" for a ratio.
        rule: ">=", "<=" or "==".
        bound: the bound.

    Raises:
        ConfigError: unknown rule.

    >>> Check(show="2", name="speed-up", value=3.4, unit="x", rule=">=", bound=3.0).ok
    True
    """

    show: str
    name: str
    value: float
    unit: str
    rule: str
    bound: float

    def __post_init__(self) -> None:
        """Check the rule."""
        if self.rule not in _RULES:
            raise ConfigError(f"check {self.name!r} has rule {self.rule!r}; expected one of {', '.join(_RULES)}")

    @property
    def ok(self) -> bool:
        """Whether the figure keeps its bound."""
        return math.isfinite(self.value) and bool(_RULES[self.rule](self.value, self.bound))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with the keys show, name, value, unit, target and ok."""
        body = asdict(self)
        body.pop("rule"), body.pop("bound")
        value = self.value if math.isfinite(self.value) else None
        return {**body, "value": value, "target": f"{self.rule} {self.bound:g}", "ok": self.ok}


def checks_body(checks: list[Check], **more: Any) -> dict[str, Any]:
    """Return the JSON body of a bench: all checks, whether all hold, and what was measured.

    Raises:
        ConfigError: there is no check, since an empty list would prove nothing.
    """
    if not checks:
        raise ConfigError("a bench without a check proves nothing; name at least one suite")
    return {"checks": [c.to_dict() for c in checks], "ok": all(c.ok for c in checks), **more}
