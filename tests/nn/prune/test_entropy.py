import math

import pytest
import torch

from sparseflow.nn.prune import entropy as fast
from sparseflow.nn.prune import naive
from sparseflow.nn.prune.regions import Regions, block_regions, build_voronoi_regions
from sparseflow.ops.window_entropy.reference import distributions, entropy, over_windows

# Times and grids that no level divides, one patch, one frame.
SHAPES = [(8, (4, 4)), (5, (3, 5)), (7, (5, 2)), (1, (3, 3)), (3, (1, 1))]


def clip(times, grid, channels=6):
    torch.manual_seed(times)
    return torch.randn(2, times, grid[0] * grid[1], channels, dtype=torch.float64)


def near(got, want):
    want = torch.tensor(want, dtype=torch.float64).reshape(got.shape)
    assert got.dtype == torch.float64
    assert float((got - want).abs().max()) <= 1e-6


def table(p, cuts):
    """Entropies over all windows of `cuts` and single times, by window."""
    wanted = {(t, t + 1) for t in range(p.shape[1])} | {w for cut in cuts for w in cut}
    wanted = sorted(wanted)
    return dict(zip(wanted, over_windows(p, wanted).unbind(1), strict=True))


@pytest.mark.parametrize(("times", "grid"), SHAPES)
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_levels_are_the_naive_loops(times, grid, overlap):
    x = clip(times, grid)
    p, rows = distributions(x), [naive.distributions(sample) for sample in x.tolist()]
    near(p, rows)
    cuts = [fast.windows(times, level, overlap) for level in (1, 2, 4)]
    h = table(p, cuts)
    near(fast.time_entropy(h, cuts), [naive.time_entropy(r, (1, 2, 4), overlap) for r in rows])
    near(fast.motion(h, cuts, times), [naive.motion(r, (1, 2, 4), overlap) for r in rows])
    blocks = [entropy(Regions(*block_regions(grid, level)).means(p, 2)) for level in (1, 2, 4)]
    near(fast.space_entropy(blocks), [naive.space_entropy(r, grid, (1, 2, 4)) for r in rows])


@pytest.mark.parametrize(("times", "grid"), SHAPES)
def test_sliding_windows_are_the_naive_loops(times, grid):
    x = clip(times, grid)
    p, rows = distributions(x), [naive.distributions(sample) for sample in x.tolist()]
    cuts = [fast.moving_windows(times, length) for length in (1, 2, 4, 8)]
    h = table(p, cuts)
    near(fast.sliding_time_entropy(h, cuts, times), [naive.sliding(r, (1, 2, 4, 8), False) for r in rows])
    near(fast.sliding_motion(h, cuts, times), [naive.sliding(r, (1, 2, 4, 8), True) for r in rows])
    counts = [min(c, grid[0] * grid[1]) for c in (4, 8)]
    partitions = [Regions(*build_voronoi_regions(grid[0] * grid[1], grid, c)) for c in counts]
    found = [entropy(r.means(p, 2)) for r in partitions]
    near(fast.region_entropy(found, partitions), [naive.region_entropy(r, grid, counts) for r in rows])


@pytest.mark.parametrize("tau", [0.5, 3.0])
def test_literal_distributions(tau):
    x = clip(2, (2, 2))
    near(
        distributions(x, tau=tau, standardize=False),
        [naive.distributions(sample, tau, False) for sample in x.tolist()],
    )


def test_half_precision_is_scored_in_float32():
    x = clip(4, (2, 2)).bfloat16()
    p = distributions(x)
    assert p.dtype == torch.float32
    want = distributions(x.double())
    assert float((entropy(p) - entropy(want)).abs().max()) <= 1e-6


def test_what_is_known():
    assert entropy(torch.full((4,), 0.25)).item() == pytest.approx(math.log(4), abs=1e-5)
    assert entropy(torch.tensor([1.0, 0.0])).item() == pytest.approx(0.0, abs=2e-6)
    assert fast.windows(3, 4) == [(0, 1), (1, 2), (2, 3)]
    assert fast.windows(1, 4, 0.5) == [(0, 1)]
    assert not fast.minmax(torch.full((2, 3, 4), 7.0)).any()


@pytest.mark.parametrize("sliding", [False, True])
def test_what_stands_still_has_no_motion(sliding):
    torch.manual_seed(0)
    x = torch.randn(1, 1, 6, 16).repeat(1, 8, 1, 1)
    x[:, :, 2] = torch.randn(1, 8, 16)
    measure, cut = (fast.sliding_motion, fast.moving_windows) if sliding else (fast.motion, fast.windows)
    cuts = [cut(8, level) for level in (2, 4)]
    found = measure(table(distributions(x), cuts), cuts, 8)
    still = [0, 1, 3, 4, 5]
    assert float(found[:, :, still].max()) < 1e-3
    assert float(found[:, :, 2].max()) > 0.9


def test_gradients_are_finite_at_equal_channels():
    x = torch.zeros(1, 2, 4, 3, requires_grad=True)
    cuts = [fast.windows(2, level) for level in (1, 2)]
    fast.time_entropy(table(distributions(x), cuts), cuts).sum().backward()
    assert bool(x.grad.isfinite().all())
