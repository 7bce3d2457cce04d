"""Constrained-best, else best accuracy; the strings; and never the test images."""

import math

import pytest
import torch

from sparseflow.compress.approximate.select import Finalist, select
from sparseflow.errors import ConfigError, MeasurementError

CODES = torch.tensor([[7, 14, 21, 28, 35]])


def finalists(*accuracies: float, split: str = "val") -> list[Finalist]:
    return [Finalist(codes=CODES + i, accuracy=a, split=split) for i, a in enumerate(accuracies)]


def test_the_most_accurate_within_the_drop() -> None:
    chosen = select(finalists(90.0, 91.0, 90.5), acc_teacher=92.5)
    assert (chosen.index, chosen.acc_drop, chosen.constrained) == (1, 1.5, True)
    assert chosen.text == "constrained-best (drop=1.5% <= 2.0%)"
    assert torch.equal(chosen.finalist.codes, CODES + 1)


def test_else_the_most_accurate() -> None:
    chosen = select(finalists(80.0, 89.28), acc_teacher=92.5)
    assert (chosen.index, chosen.constrained) == (1, False)
    assert chosen.text == "best-accuracy (drop=3.22% > 2.0%)"


@pytest.mark.parametrize(
    ("accuracy", "most", "text"),
    [
        (90.5, 2.0, "constrained-best (drop=2.0% <= 2.0%)"),
        (90.5, 2, "constrained-best (drop=2.0% <= 2.0%)"),
        (92.6, 0.0, "constrained-best (drop=-0.1% <= 0.0%)"),
        (92.501, 0.0, "constrained-best (drop=0.0% <= 0.0%)"),
        (89.3, 3.0, "best-accuracy (drop=3.2% > 3.0%)"),
    ],
)
def test_what_is_said(accuracy: float, most: float, text: str) -> None:
    assert select(finalists(accuracy), acc_teacher=92.5, max_acc_drop=most).text == text


def test_of_equals_the_first() -> None:
    assert select(finalists(90.0, 91.0, 91.0), acc_teacher=92.5).index == 1


@pytest.mark.parametrize("split", ["test", "train", "calib"])
def test_other_images_than_those_held_out_are_refused(split: str) -> None:
    with pytest.raises(ConfigError, match=f"measured on split '{split}'; select on 'val'"):
        select(finalists(90.0, 91.0, split=split), acc_teacher=92.5)
    mixed = [*finalists(90.0), *finalists(91.0, split=split)]
    with pytest.raises(ConfigError, match="measure all on one split"):
        select(mixed, acc_teacher=92.5)


def test_what_is_no_accuracy_is_refused() -> None:
    for bad in (math.nan, -1.0, 101.0):
        with pytest.raises(MeasurementError, match="accuracy of a finalist is"):
            finalists(bad)
        with pytest.raises(MeasurementError, match="accuracy of the teacher is"):
            select(finalists(90.0), acc_teacher=bad)
    with pytest.raises(ConfigError, match="max_acc_drop is NaN"):
        select(finalists(90.0), acc_teacher=92.5, max_acc_drop=math.nan)
    with pytest.raises(ConfigError, match="no finalists"):
        select([], acc_teacher=92.5)
