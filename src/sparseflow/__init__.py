"""sparseflow takes a PyTorch model and makes it measurably cheaper on real hardware, with proof."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparseflow.api import codesign, optimize, trace

__all__ = ["__version__", "codesign", "optimize", "trace"]


def __getattr__(name: str) -> Any:
    """Load a door or a room on its first use, so that the command line starts without torch."""
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("sparseflow")
    if name in ("codesign", "optimize"):
        return getattr(importlib.import_module("sparseflow.api"), name)
    try:
        return importlib.import_module(f"sparseflow.{name}")
    except ModuleNotFoundError as e:
        if e.name != f"sparseflow.{name}":
            raise
        raise AttributeError(f"module 'sparseflow' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
