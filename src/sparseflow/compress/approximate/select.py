"""Which of the finalists is kept: the most accurate within the allowed drop, judged on images held out for that."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sparseflow.errors import ConfigError, MeasurementError

__all__ = ["Finalist", "Selection", "select"]

# The test images are for the one number at the end; the others were trained or searched on.
_JUDGE = "val"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalist:
    """A configuration with its accuracy.

    Args:
        codes: int64 `[L, 5]`.
        accuracy: in percent.
        split: the images that it was measured on, as "val".

    Raises:
        MeasurementError: the accuracy is no percentage.
    """

    codes: Tensor
    accuracy: float
    split: str

    def __post_init__(self) -> None:
        """Check the accuracy."""
        _check_percent(self.accuracy, "accuracy of a finalist")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The finalist that was kept.

    Args:
        index: its place among the finalists.
        finalist: itself.
        acc_drop: points lost against the teacher.
        constrained: whether the drop is allowed.
        text: the seed's `selection`.
    """

    index: int
    finalist: Finalist
    acc_drop: float
    constrained: bool
    text: str


def select(finalists: Sequence[Finalist], *, acc_teacher: float, max_acc_drop: float = 2.0) -> Selection:
    """Keep the most accurate finalist among those whose drop is allowed, else the most accurate of all.

    drop = acc_teacher − accuracy, in points; allowed where drop <= `max_acc_drop`. Of equals the first is kept,
    so give them in the order of their reward.

    Args:
        finalists: configurations with accuracies on the split "val".
        acc_teacher: accuracy of the INT8 network on the same images, in percent.
        max_acc_drop: allowed drop in points.

    Returns:
        The winner; its text is "constrained-best (drop=1.5% <= 2.0%)" or "best-accuracy (drop=3.2% > 2.0%)",
        numbers to two decimals.

    Raises:
        ConfigError: no finalists, another split, as "test", or an allowed drop that is no number.
        MeasurementError: an accuracy that is no percentage.

    Source: the selection of the earlier project, which read the test images.
    """
    if not finalists:
        raise ConfigError("no finalists to select from; search first")
    if math.isnan(max_acc_drop):
        raise ConfigError("max_acc_drop is NaN; give points, as 2.0")
    _check_percent(acc_teacher, "accuracy of the teacher")
    splits = sorted({f.split for f in finalists})
    if len(splits) > 1:
        raise ConfigError(f"finalists were measured on {' and '.join(splits)}; measure all on one split")
    if splits[0] != _JUDGE:
        raise ConfigError(
            f"finalists were measured on split {splits[0]!r}; select on {_JUDGE!r} "
            "and keep the test images for the number that is reported"
        )
    index = max(range(len(finalists)), key=lambda i: (finalists[i].accuracy, -i))
    best = finalists[index]
    drop = round(acc_teacher - best.accuracy, 9)
    allowed = drop <= max_acc_drop
    sign = "<=" if allowed else ">"
    what = "constrained-best" if allowed else "best-accuracy"
    text = f"{what} (drop={_points(drop)}% {sign} {_points(max_acc_drop)}%)"
    return Selection(index=index, finalist=best, acc_drop=drop, constrained=allowed, text=text)


def _points(value: float) -> str:
    return repr(round(float(value), 2) + 0.0)


def _check_percent(value: float, what: str) -> None:
    if not 0 <= value <= 100:
        raise MeasurementError(f"{what} is {value}; expected a percentage, 0 to 100")
