"""Settings of a recipe from a YAML file: its fields by name, and nothing else."""

import os
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sparseflow.errors import ConfigError

__all__ = ["read_settings"]

T = TypeVar("T")


def read_settings(kind: type[T], path: str | os.PathLike[str] | None, **given: Any) -> T:
    """Return the settings of a file, with those that are given on top.

    Args:
        kind: a dataclass with keyword arguments.
        path: YAML lines as `epochs: 100`; None for the defaults.
        given: fields that override the file; those that are None are left out.

    Raises:
        ConfigError: unreadable, not a mapping, or an unknown or ill-typed setting; names file and setting.

    >>> from sparseflow.recipes.checks import Check
    >>> read_settings(Check, None, show="1", name="a", value=1.0, unit="x", rule=">=", bound=0.5).ok
    True
    """
    body = {} if path is None else _load(Path(path))
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := [str(key) for key in body if key not in known]:
        raise ConfigError(f"{path} has unknown settings {', '.join(unknown)}; known: {', '.join(known)}")
    for name, value in body.items():
        default = known[name].default
        if isinstance(value, list) and isinstance(default, tuple):
            body[name] = tuple(value)
        elif default is not MISSING and not _fits(value, default):
            raise ConfigError(f"{path}: {name} is {value!r}; expected {_kind(default)}, as {default!r}")
    try:
        return kind(**{**body, **{name: value for name, value in given.items() if value is not None}})
    except TypeError as e:
        raise ConfigError(f"{path or kind.__name__}: {e}") from e
    except ConfigError as e:
        raise ConfigError(f"{path}: {e}" if path is not None else str(e)) from e


def _load(path: Path) -> dict[str, Any]:
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise ConfigError(f"cannot read {path}: {e}") from e
    if not isinstance(body, dict):
        raise ConfigError(f"{path} holds no settings; expected lines as 'epochs: 100'")
    return body


def _fits(value: Any, default: Any) -> bool:
    if default is None or value is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))


def _kind(default: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return names.get(type(default), type(default).__name__)
