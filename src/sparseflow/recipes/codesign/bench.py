"""All suites of checks of co-design, one after the other."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.recipes.commit import commit
from sparseflow.report import describe

__all__ = ["SUITES", "bench"]

SUITES = {
    "proxy": "proxy_bench",
    "mapping": "mapping_bench",
    "chiplets": "chiplet_bench",
    "layout": "layout_bench",
    "joint": "joint_bench",
    "pipeline": "pipeline_bench",
}
"""Modules of this package by suite; each has a function `bench`."""


def bench(suites: Sequence[str], *, quick: bool = False, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Run suites, and return all their checks in one body, what each measured under its name.

    Args:
        suites: some of `SUITES`.
        quick: few instances each, for a look; some checks may not hold then.
        say: told what begins.

    Raises:
        ConfigError: an unknown suite, or none.
    """
    if not suites:
        raise ConfigError("a bench without a check proves nothing; name at least one suite")
    if unknown := [name for name in suites if name not in SUITES]:
        raise ConfigError(f"unknown suites {', '.join(unknown)}; there are {', '.join(SUITES)}")
    checks: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    for name in dict.fromkeys(suites):
        say(f"suite {name}")
        body = import_module(f"sparseflow.recipes.codesign.{SUITES[name]}").bench(quick=quick, say=say)
        checks += body.pop("checks")
        body.pop("ok")
        found[name] = body
    about = {"environment": describe(), "commit": commit()}
    return {"checks": checks, "ok": all(c["ok"] for c in checks), **about, "suites": found}
