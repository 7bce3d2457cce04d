"""The list of the best: each configuration once, the mean of its scores, the greatest first."""

import math

import pytest
import torch
from torch import Tensor

from sparseflow.compress.approximate.codes import sample_codes
from sparseflow.compress.approximate.top import Top
from sparseflow.errors import ConfigError, MeasurementError

CODES = sample_codes([35, 127, 255], 8, seed=0)


def rewards(*values: float) -> Tensor:
    return torch.tensor(values)


def test_the_greatest_rewards_are_those_of_least_magnitude() -> None:
    top = Top(3)
    values = rewards(-5, -1, -8, -3, -2, -7, -4, -6)
    top.add(CODES, values)
    assert [e.reward for e in top.best()] == [-1, -2, -3]
    assert torch.equal(top.codes(), CODES[values.abs().argsort()[:3]])
    assert len(top) == 3


def test_a_configuration_is_listed_once_with_its_mean() -> None:
    top = Top()
    top.add(CODES[[0, 1, 0]], rewards(-1, -2.5, -5))
    top.add(CODES[:1], rewards(-3))
    best = top.best()
    assert [(e.reward, e.seen) for e in best] == [(-2.5, 1), (-3.0, 3)]
    assert torch.equal(top.codes(), CODES[[1, 0]])


def test_what_left_the_list_may_come_back() -> None:
    top = Top(1)
    top.add(CODES[:2], rewards(-1, -2))
    top.add(CODES[:1], rewards(-9))
    assert torch.equal(top.codes(), CODES[1:2])
    top.add(CODES[1:2], rewards(-30))
    assert torch.equal(top.codes(), CODES[:1])


def test_of_equals_the_first() -> None:
    top = Top(2)
    top.add(CODES[[3, 1, 2]], rewards(-1, -1, -1))
    assert torch.equal(top.codes(), CODES[[3, 1]])


def test_every_score_an_entry_as_the_earlier_project_had_it() -> None:
    top = Top(3, distinct=False)
    top.add(CODES[[0, 1, 0, 0]], rewards(-2, -9, -1, -3))
    assert [e.reward for e in top.best()] == [-1, -2, -3]
    assert torch.equal(top.codes(), CODES[[0, 0, 0]])


def test_the_list_keeps_its_own_copy() -> None:
    top, codes = Top(), CODES[:1].clone()
    top.add(codes, rewards(-1))
    codes[:] = 0
    assert torch.equal(top.codes(), CODES[:1])


def test_nothing_yet() -> None:
    top = Top()
    top.add(CODES[:0], rewards())
    assert top.best() == []
    assert len(top) == 0
    with pytest.raises(ConfigError, match="nothing was scored yet"):
        top.codes()


def test_what_does_not_fit_is_refused() -> None:
    top = Top()
    for bad in (math.nan, -math.inf):
        with pytest.raises(MeasurementError, match="a reward is not finite"):
            top.add(CODES[:2], rewards(-1, bad))
    with pytest.raises(ConfigError, match=r"shapes \(\(2, 3, 5\), \(1,\)\); expected"):
        top.add(CODES[:2], rewards(-1))
    with pytest.raises(ConfigError, match="configuration 0, site 0: t1 is 99"):
        top.add(CODES[:1].index_fill(2, torch.tensor([0]), 99), rewards(-1))
    with pytest.raises(ConfigError, match="size 0"):
        Top(0)
    assert len(top) == 0
