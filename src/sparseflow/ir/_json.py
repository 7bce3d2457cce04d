"""Canonical JSON: one text per value, so that hashes are stable."""

import hashlib
import json
from typing import Any

__all__ = ["canonical", "digest"]


def canonical(value: Any) -> str:
    """Return `value` as JSON with sorted keys, no spaces, and no NaN.

    Raises:
        ValueError: the value holds NaN or an infinity.

    >>> canonical({"b": 1, "a": (2, 3)})
    '{"a":[2,3],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of `canonical(value)`.

    >>> digest({"a": 1}) == digest({"a": 1})
    True
    """
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]
