from sparseflow.recipes.video.agree import agreement
from sparseflow.recipes.video.slice import SAME


def test_every_equality_holds_and_compares_something():
    found = agreement()
    assert len(found) == 4
    assert all(0 <= value <= SAME for value in found.values())
    assert agreement(seed=1) != found
