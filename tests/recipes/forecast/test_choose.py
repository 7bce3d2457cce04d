import math

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.forecast.choose import on_val


def run(task, seed, error):
    return {"task": task, "seed": seed, "val_mae": error}


def test_tasks_count_alike_and_seeds_in_pairs():
    ours = [run("a", 1, 1.0), run("a", 2, 3.0), run("a", 3, 99.0), run("b", 1, 0.2), run("c", 1, 5.0)]
    theirs = [run("a", 1, 2.0), run("a", 2, 2.0), run("b", 1, 0.1), run("d", 1, 5.0)]
    body = on_val(ours, theirs)
    assert body["tasks"] == [
        {"task": "a", "seeds": [1, 2], "val_mae": 2.0, "other_val_mae": 2.0},
        {"task": "b", "seeds": [1], "val_mae": 0.2, "other_val_mae": 0.1},
    ]
    assert body["ratio"] == pytest.approx(math.sqrt(2))
    assert body["pairs"] == 3


def test_the_sides_change_places():
    ours, theirs = [run("a", 1, 1.0), run("b", 1, 3.0)], [run("a", 1, 4.0), run("b", 1, 2.0)]
    assert on_val(ours, theirs)["ratio"] * on_val(theirs, ours)["ratio"] == pytest.approx(1)


@pytest.mark.parametrize("others", [[], [run("b", 1, 1.0)], [run("a", 2, 1.0)]])
def test_nothing_in_common_is_refused(others):
    with pytest.raises(ConfigError, match="same seed"):
        on_val([run("a", 1, 1.0)], others)
