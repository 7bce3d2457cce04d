import pytest

from sparseflow.ir._json import canonical, digest


def test_the_order_of_keys_does_not_matter() -> None:
    assert canonical({"b": 1, "a": [1, 2.5, None]}) == canonical({"a": (1, 2.5, None), "b": 1})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": bad})


def test_a_digest_is_short_stable_and_tells_values_apart() -> None:
    assert digest({"kernel": "event"}) == "2868b7cd6aaa3263"
    assert len({digest(1), digest("1"), digest([1]), digest(None)}) == 4
