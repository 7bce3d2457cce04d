import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.nn.prune.regions import Regions, build_voronoi_regions
from tests.nn.prune import naive


@pytest.mark.parametrize("grid", [(14, 14), (7, 5), (3, 8), (1, 9)])
@pytest.mark.parametrize("count", [1, 2, 4, 5, 8])
def test_regions_are_the_naive_loop(grid, count):
    ids, found = build_voronoi_regions(grid[0] * grid[1], grid, count)
    assert found == count
    assert ids.tolist() == naive.regions(grid, count)


def test_default_is_four_quarters():
    ids, count = build_voronoi_regions(16, (4, 4))
    assert count == 4
    assert ids.view(4, 4).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_means_and_spread():
    regions = Regions(torch.tensor([2, 0, 2, 0, 0]), 4)
    x = torch.randn(2, 5, 3)
    means = regions.means(x, 1)
    assert means.shape == (2, 4, 3)
    torch.testing.assert_close(means[:, 0], x[:, [1, 3, 4]].mean(1))
    torch.testing.assert_close(means[:, 2], x[:, [0, 2]].mean(1))
    assert not means[:, 1].any()
    torch.testing.assert_close(regions.spread(means, 1)[:, 4], means[:, 0])


@pytest.mark.parametrize(("patches", "grid", "count"), [(5, (2, 2), 4), (4, (2, 2), 5), (4, (2, 2), 0)])
def test_what_does_not_fit_is_refused(patches, grid, count):
    with pytest.raises(ConfigError):
        build_voronoi_regions(patches, grid, count)
