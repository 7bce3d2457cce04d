import numpy as np
import pytest

from sparseflow.errors import ConfigError
from sparseflow.hardware.layout import DescendConfig
from sparseflow.hardware.layout.descend import descend
from sparseflow.hardware.layout.grid import grid_mm
from sparseflow.hardware.layout.legal import is_legal
from sparseflow.recipes.codesign.layout_instances import random_dies

QUICK = DescendConfig(steps=60, restarts=6, polish_steps=200)


def grid_of(problem):
    return grid_mm(problem.widths_mm, problem.heights_mm, radius_mm=problem.radius_mm, gap_mm=problem.gap_mm)


@pytest.mark.parametrize("dies", [1, 2, 3, 12])
@pytest.mark.parametrize("flux", [0.4, 1.2])
def test_it_ends_legal_and_no_worse_than_it_began(dies, flux):
    problem = random_dies(dies, dies=dies, largest_mm2=400.0, flux_w_per_mm2=flux)
    begin = grid_of(problem)
    shares = []
    found = descend(problem, begin, QUICK, progress=shares.append)
    assert is_legal(found, problem.widths_mm, problem.heights_mm, radius_mm=problem.radius_mm, gap_mm=problem.gap_mm)
    assert problem.cost(found) <= problem.cost(begin)
    if dies == 12:
        assert problem.cost(found) < 0.8 * problem.cost(begin)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_same_seed_gives_the_same_layout():
    problem = random_dies(4, dies=6, largest_mm2=400.0)
    runs = [descend(problem, grid_of(problem), DescendConfig(steps=20, restarts=3, polish_steps=20)) for _ in range(2)]
    np.testing.assert_array_equal(runs[0], runs[1])


def test_a_full_disc_keeps_its_legal_start():
    # Nothing that is drawn fits this disc; where the dies are does.
    problem = random_dies(1, dies=4, largest_mm2=400.0)
    begin = grid_of(problem)
    far = np.hypot(*(np.abs(begin) + np.stack([problem.widths_mm, problem.heights_mm], -1) / 2).T).max()
    tight = random_dies(1, dies=4, largest_mm2=400.0, radius_mm=float(far))
    found = descend(tight, begin, QUICK)
    assert is_legal(found, tight.widths_mm, tight.heights_mm, radius_mm=tight.radius_mm, gap_mm=tight.gap_mm)


@pytest.mark.parametrize("bad", [{"steps": -1}, {"restarts": 0}, {"polish_steps": -1}, {"lr_mm": 0.0}])
def test_faults_are_named(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        DescendConfig(**bad)
