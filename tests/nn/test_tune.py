"""The quickest of a few functions, the first one on a draw."""

import time

import pytest

from sparseflow.errors import UnsupportedError
from sparseflow.nn._tune import fastest


def _refuse() -> None:
    raise UnsupportedError("not here")


def test_quickest_wins() -> None:
    assert fastest({"a": lambda: time.sleep(0.003), "b": lambda: time.sleep(0.0001)}) == "b"
    assert fastest({"a": lambda: time.sleep(0.002), "b": lambda: time.sleep(0.002)}, margin=0.5) == "a"


def test_refusals_are_left_out() -> None:
    assert fastest({"a": lambda: None, "b": _refuse}) == "a"
    with pytest.raises(UnsupportedError):
        fastest({"a": _refuse, "b": lambda: None})
