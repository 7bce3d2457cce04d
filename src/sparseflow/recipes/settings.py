"""Settings of a recipe from a YAML file: its fields by name, and nothing else."""

import os
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
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
        path: YAML lines as `epochs: 100`, and mappings for settings that are dataclasses; `base: other.yaml` takes all
            that is not said from another file beside it. None for the defaults.
        given: fields that override the file; those that are None are left out.

    Raises:
        ConfigError: unreadable, not a mapping, or an unknown or ill-typed setting; names file and setting.

    >>> from sparseflow.recipes.checks import Check
    >>> read_settings(Check, None, show="1", name="a", value=1.0, unit="x", rule=">=", bound=0.5).ok
    True
    """
    body = {} if path is None else _load(Path(path))
    override = {name: value for name, value in given.items() if value is not None}
    return _made(kind, body, "" if path is None else f"{path}: ", override)


def _made(kind: type[T], body: dict[str, Any], where: str, override: Mapping[str, Any]) -> T:
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := [str(key) for key in body if key not in known]:
        raise ConfigError(f"{where}unknown settings {', '.join(unknown)}; known: {', '.join(known)}")
    chosen = {name: _value(name, value, known[name], where) for name, value in body.items()}
    try:
        return kind(**{**chosen, **override})
    except TypeError as e:
        raise ConfigError(f"{where}{e}") from e
    except ConfigError as e:
        raise ConfigError(f"{where}{e}") from e


def _value(name: str, value: Any, f: Field[Any], where: str) -> Any:
    default = f.default if f.default_factory is MISSING else f.default_factory()
    if is_dataclass(default) and isinstance(value, dict):
        return _made(type(default), value, f"{where}{name}: ", {})
    if isinstance(value, list) and (default is None or isinstance(default, tuple)):
        return tuple(value)
    if default is not MISSING and not _fits(value, default):
        raise ConfigError(f"{where}{name} is {value!r}; expected {_kind(default)}, as {default!r}")
    return value


def _load(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path in above:
        raise ConfigError(f"{path} is its own base; take one of the lines 'base:' out")
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise ConfigError(f"cannot read {path}: {e}") from e
    if not isinstance(body, dict):
        raise ConfigError(f"{path} holds no settings; expected lines as 'epochs: 100'")
    base = body.pop("base", None)
    return body if base is None else _over(_load(path.parent / str(base), (*above, path)), body)


def _over(base: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Return a mapping with another one on top; mappings within are joined likewise."""
    both = {k for k in base if k in body and isinstance(base[k], dict) and isinstance(body[k], dict)}
    return {**base, **body, **{k: _over(base[k], body[k]) for k in both}}


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
