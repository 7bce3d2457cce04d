import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.nn.prune import naive
from sparseflow.nn.prune.regions import Regions, block_regions, build_voronoi_regions


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


@pytest.mark.parametrize("grid", [(14, 14), (5, 3), (1, 7)])
@pytest.mark.parametrize("level", [1, 2, 4])
def test_blocks_are_windows_of_rows_and_columns(grid, level):
    ids, count = block_regions(grid, level)
    want, number = [None] * (grid[0] * grid[1]), 0
    for rows in naive.windows(grid[0], level):
        for columns in naive.windows(grid[1], level):
            for i in rows:
                for j in columns:
                    want[i * grid[1] + j] = number
            number += 1
    assert count == number
    assert ids.tolist() == want


def test_members_make_the_same_means():
    ids, count = build_voronoi_regions(15, (3, 5), 4)
    regions = Regions(ids, count)
    x = torch.randn(2, 15)
    torch.testing.assert_close(x @ regions.members().T, regions.means(x, 1))
    assert not Regions(torch.zeros(3).long(), 2).members()[1].any()
