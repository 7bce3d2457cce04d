"""The teacher passes through what was measured, tells noise, and falls silent about features that mean nothing."""

import pytest
import torch

from sparseflow.recipes.codesign._teacher import Teacher, Teachers


def _points(count, seed=0):
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[:, 3] = 7.0
    return x, torch.sin(2 * x[:, 0]) + 0.5 * x[:, 1] + 3.0


def test_a_smooth_figure_is_found_between_points():
    x, y = _points(150)
    teacher = Teacher(x, y)
    other, wanted = _points(100, seed=1)
    assert (teacher(other) - wanted).abs().median() < 0.03
    assert (teacher(x) - y).abs().max() < 0.05
    assert teacher.noise < 0.05


def test_noise_is_told_from_the_figure():
    x, y = _points(200)
    noisy = y + 0.3 * torch.randn(200, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    teacher = Teacher(x, noisy)
    assert teacher.noise == pytest.approx(0.3, rel=0.35)
    assert (teacher(x) - y).abs().mean() < (noisy - y).abs().mean()


def test_the_same_seed_teaches_the_same():
    x, y = _points(60)
    assert torch.equal(Teacher(x, y, steps=20, seed=1)(x), Teacher(x, y, steps=20, seed=1)(x))


def test_what_is_left_out_is_what_a_process_without_the_point_would_miss():
    x, y = _points(40)
    whole = Teacher(x, y, steps=5)
    others = torch.arange(40) != 7
    rest = object.__new__(Teacher)
    rest.__dict__.update(whole.__dict__)
    rest._points = whole._points[others]
    standard = (y[others] - whole._level) / whole._height
    rest._weights = torch.cholesky_solve(standard[:, None], rest._factor(rest._points))[:, 0]
    assert whole.left_out[7].item() == pytest.approx((y[7] - rest(x[7:8])[0]).item(), rel=1e-6)


def test_a_kind_that_differs_has_a_process_of_its_own():
    x, y = _points(120)
    kinds = ["a", "b"] * 60
    own = torch.where(torch.tensor([k == "b" for k in kinds]), torch.cos(5 * x[:, 2]), y)
    teachers = Teachers(x, own, kinds)
    assert "b" in teachers.own
    assert (teachers(x, kinds) - own).abs().mean() < 0.1
    assert teachers(x[:1], ["never seen"]).isfinite().all()
