"""Packages that only some searchers need."""

import importlib
from types import ModuleType

from sparseflow.errors import UnsupportedError

__all__ = ["extra"]


def extra(package: str, wanted: str) -> ModuleType:
    """Import a package of the extra `search`.

    Args:
        package: its name.
        wanted: what needs it, for the message.

    Raises:
        UnsupportedError: it is not installed; says how to get it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as e:
        if e.name != package:
            raise
        raise UnsupportedError(f"{wanted} needs package {package}: pip install 'sparseflow[search]'") from e
