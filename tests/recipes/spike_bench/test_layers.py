import math

import pytest
import torch
from torch import nn

from sparseflow.recipes.spike_bench.layers import IID_CASES, LayerCase, geomean, iid_spikes, time_layer


def test_geomean():
    assert geomean([2.0, 8.0]) == pytest.approx(4.0)
    assert math.isnan(geomean([]))


def test_spikes_are_bits_of_the_wanted_density_and_repeat():
    x = iid_spikes((8, 32, 16, 16), 0.05, seed=1)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert float(x.mean()) == pytest.approx(0.05, rel=0.1)
    torch.testing.assert_close(x, iid_spikes((8, 32, 16, 16), 0.05, seed=1))


def test_cases_are_distinct():
    assert len({case.name for case in IID_CASES}) == len(IID_CASES)


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_a_row_quotes_the_faster_dense_variant_and_a_kernel_that_ran(kind):
    case = LayerCase(name="small", channels=32, out_channels=32, kernel=3, size=6, batch=2)
    layer = case.build(0) if kind == "conv" else nn.Linear(64, 32).eval()
    x = iid_spikes((8, 32, 6, 6) if kind == "conv" else (8, 64), 0.05, seed=0)
    row = time_layer(layer, x, name="small", spikes="i.i.d.", repeats=3, compile=False)
    assert row.dense.startswith("eager")
    assert row.kernel in ("event", "amx")
    assert row.candidates_s.keys() >= {row.dense, row.kernel}
    assert row.ratio > 0
    assert row.dense_s > 0
    assert row.density == pytest.approx(float(x.mean()))
