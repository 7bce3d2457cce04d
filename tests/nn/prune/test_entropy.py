import math

import pytest
import torch

from sparseflow.nn.prune import entropy as fast
from sparseflow.nn.prune.regions import Regions, build_voronoi_regions
from tests.nn.prune import naive

# Times and grids that no level divides, one patch, one frame.
SHAPES = [(8, (4, 4)), (5, (3, 5)), (7, (5, 2)), (1, (3, 3)), (3, (1, 1))]


def clip(times, grid, channels=6):
    torch.manual_seed(times)
    return torch.randn(2, times, grid[0] * grid[1], channels, dtype=torch.float64)


def near(got, want):
    want = torch.tensor(want, dtype=torch.float64).reshape(got.shape)
    assert got.dtype == torch.float64
    assert float((got - want).abs().max()) <= 1e-6


@pytest.mark.parametrize(("times", "grid"), SHAPES)
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_levels_are_the_naive_loops(times, grid, overlap):
    x = clip(times, grid)
    p, rows = fast.distributions(x), [naive.distributions(sample) for sample in x.tolist()]
    near(p, rows)
    near(fast.time_entropy(p, (1, 2, 4), overlap), [naive.time_entropy(r, (1, 2, 4), overlap) for r in rows])
    near(fast.space_entropy(p, grid, (1, 2, 4)), [naive.space_entropy(r, grid, (1, 2, 4)) for r in rows])
    near(fast.motion(p, (1, 2, 4), overlap), [naive.motion(r, (1, 2, 4), overlap) for r in rows])


@pytest.mark.parametrize(("times", "grid"), SHAPES)
def test_sliding_windows_are_the_naive_loops(times, grid):
    x = clip(times, grid)
    p, rows = fast.distributions(x), [naive.distributions(sample) for sample in x.tolist()]
    near(fast.sliding_time_entropy(p, (1, 2, 4, 8)), [naive.sliding(r, (1, 2, 4, 8), False) for r in rows])
    near(fast.sliding_motion(p, (1, 2, 4, 8)), [naive.sliding(r, (1, 2, 4, 8), True) for r in rows])
    counts = [min(c, grid[0] * grid[1]) for c in (4, 8)]
    partitions = [Regions(*build_voronoi_regions(grid[0] * grid[1], grid, c)) for c in counts]
    near(fast.sliding_region_entropy(p, partitions), [naive.region_entropy(r, grid, counts) for r in rows])


@pytest.mark.parametrize("tau", [0.5, 3.0])
def test_literal_distributions(tau):
    x = clip(2, (2, 2))
    near(
        fast.distributions(x, tau=tau, standardize=False),
        [naive.distributions(sample, tau, False) for sample in x.tolist()],
    )


def test_half_precision_is_scored_in_float32():
    x = clip(4, (2, 2)).bfloat16()
    p = fast.distributions(x)
    assert p.dtype == torch.float32
    want = fast.distributions(x.double())
    assert float((fast.entropy(p) - fast.entropy(want)).abs().max()) <= 1e-6


def test_what_is_known():
    assert fast.entropy(torch.full((4,), 0.25)).item() == pytest.approx(math.log(4), abs=1e-5)
    assert fast.entropy(torch.tensor([1.0, 0.0])).item() == pytest.approx(0.0, abs=2e-6)
    assert fast.windows(3, 4) == [(0, 1), (1, 2), (2, 3)]
    assert fast.windows(1, 4, 0.5) == [(0, 1)]
    assert not fast.minmax(torch.full((2, 3, 4), 7.0)).any()


@pytest.mark.parametrize("measure", [fast.motion, fast.sliding_motion])
def test_what_stands_still_has_no_motion(measure):
    torch.manual_seed(0)
    x = torch.randn(1, 1, 6, 16).repeat(1, 8, 1, 1)
    x[:, :, 2] = torch.randn(1, 8, 16)
    found = measure(fast.distributions(x), (2, 4))
    still = [0, 1, 3, 4, 5]
    assert float(found[:, :, still].max()) < 1e-3
    assert float(found[:, :, 2].max()) > 0.9


def test_gradients_are_finite_at_equal_channels():
    x = torch.zeros(1, 2, 4, 3, requires_grad=True)
    fast.time_entropy(fast.distributions(x), (1, 2)).sum().backward()
    assert bool(x.grad.isfinite().all())
