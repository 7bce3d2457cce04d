"""Facts in YAML: every number has a source, every fault names the file and the key."""

import math
from collections.abc import Mapping
from typing import Any

import yaml

from sparseflow.errors import ConfigError

__all__ = ["FactReader"]


class _UniqueLoader(yaml.SafeLoader):
    """Refuses a key that occurs twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key is not a plain word", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} occurs twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class FactReader:
    """Reads the facts of one thing; every error names the place and the key.

    Args:
        place: what errors name, as a path.

    Attributes:
        sources: where each number that was read comes from, by key.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.sources: dict[str, str] = {}

    def parse(self, content: str) -> Any:
        """Return what a YAML text holds.

        Raises:
            ConfigError: the text is not YAML, or has a key twice.
        """
        try:
            return yaml.load(content, _UniqueLoader)
        except yaml.MarkedYAMLError as e:
            line = "" if e.problem_mark is None else f", line {e.problem_mark.line + 1}"
            raise ConfigError(f"{self.place}{line}: not valid YAML: {e.problem}; mend that line") from e
        except yaml.YAMLError as e:
            raise ConfigError(f"{self.place}: not valid YAML: {e}; mend the file") from e

    def mapping(self, key: str, value: Any) -> Mapping[str, Any]:
        """Return a value that must be `key: value` lines."""
        if not isinstance(value, Mapping):
            raise self.fault(key, f"holds {value!r}", "write `key: value` lines")
        return value

    def keys(self, body: Mapping[str, Any], known: tuple[str, ...], needed: tuple[str, ...]) -> None:
        """Check that a mapping has no key but `known` and every one that is `needed`."""
        for key in body:
            if key not in known:
                raise self.fault(str(key), "is not known", f"use one of {', '.join(known)}")
        for key in needed:
            if key not in body:
                raise self.fault(key, "is missing", "add it")

    def table(self, key: str, value: Any) -> dict[str, float]:
        """Return a mapping from names to numbers."""
        return {str(n): self.number(f"{key}.{n}", entry) for n, entry in self.mapping(key, value).items()}

    def number(self, key: str, value: Any) -> float:
        """Return the number of `{value: NUMBER, source: TEXT}`, and keep its source."""
        entry = self.mapping(key, value) if isinstance(value, Mapping) else {}
        if set(entry) != {"value", "source"}:
            raise self.fault(key, f"is {value!r}", 'write {value: NUMBER, source: "where it comes from"}')
        given = entry["value"]
        try:
            # YAML 1.1 reads 989e12, without a point, as text.
            number = math.nan if isinstance(given, bool) else float(given)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number < math.inf:
            raise self.fault(key, f"has value {given!r}", "give a finite number that is not negative")
        self.sources[key] = self.word(f"{key}.source", entry["source"])
        return number

    def word(self, key: str, value: Any) -> str:
        """Return a value that must be a text with something in it."""
        if not isinstance(value, str) or not value.strip():
            raise self.fault(key, f"is {value!r}", "write a text")
        return value

    def words(self, key: str, value: Any) -> tuple[str, ...]:
        """Return a value that must be a list of texts."""
        if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
            raise self.fault(key, f"is {value!r}", "write a list of texts")
        return tuple(value)

    def fault(self, key: str, what: str, mend: str) -> ConfigError:
        """Return the error of a key."""
        return ConfigError(f"{self.place}: {key} {what}; {mend}")
