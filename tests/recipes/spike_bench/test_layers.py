import math
from contextlib import suppress

import pytest
import torch
from torch import nn

from sparseflow.cost import Timing
from sparseflow.errors import UnsupportedError
from sparseflow.nn.spikes import Spikes, unpack
from sparseflow.recipes.spike_bench import layers
from sparseflow.recipes.spike_bench.layers import (
    FORMS,
    IID_CASES,
    LayerCase,
    geomean,
    iid_spikes,
    settle,
    time_block,
    time_layer,
)

SMALL = LayerCase(name="small", channels=32, out_channels=32, kernel=3, size=6, batch=2)


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
    layer = SMALL.build(0)[0] if kind == "conv" else nn.Linear(64, 32).eval()
    x = iid_spikes((8, 32, 6, 6) if kind == "conv" else (8, 64), 0.05, seed=0)
    (row,) = time_layer(layer, {"small": x}, spikes="i.i.d.", repeats=3, compile=False)
    assert row.dense.startswith("eager")
    assert row.kernel in ("event", "amx")
    assert row.candidates_s.keys() >= {row.dense, row.kernel}
    assert row.ratio > 0
    assert row.dense_s > 0
    assert row.density == pytest.approx(float(x.mean()))
    assert row.read_bytes == x.nbytes
    assert row.written_bytes == 8 * 32 * (36 if kind == "conv" else 1) * 4


def test_a_block_is_timed_from_floats_and_from_packed_spikes():
    conv, bn, neuron = SMALL.build(0)
    xs = {f"density {d}": SMALL.spikes(d, seed=0) for d in (0.2, 0.0)}
    settle(conv, bn, xs["density 0.2"])
    rows = time_block(conv, bn, neuron, xs, spikes="i.i.d.", repeats=3, compile=False)
    assert [(row.layer, row.form) for row in rows] == [(x, form) for x in xs for form in ("block", "packed")]
    assert {row.form for row in rows} < set(FORMS)
    assert rows[2].density == 0.0
    floats = xs["density 0.2"].nbytes
    assert [(row.read_bytes, row.written_bytes) for row in rows[:2]] == [(floats, floats), (0, 0)]


def test_the_block_gives_the_spikes_of_the_dense_side(monkeypatch):
    conv, bn, neuron = SMALL.build(0)
    x = SMALL.spikes(0.2, seed=0)
    settle(conv, bn, x)
    outputs = {}

    def keep(fns, **_):
        for name, fn in fns.items():
            with suppress(UnsupportedError):  # tiles, where the machine has none
                outputs[name] = fn()
        return {name: Timing.of([1.0]) for name in fns if name in outputs}

    monkeypatch.setattr(layers, "measure", keep)
    time_block(conv, bn, neuron, {"x": x}, spikes="i.i.d.", repeats=1, compile=False)
    dense = outputs["eager nchw"]
    ours = outputs["event"]
    ours = unpack(ours) if isinstance(ours, Spikes) else ours
    assert 0.0 < float(dense.mean()) < 0.5
    torch.testing.assert_close(ours, dense, rtol=0, atol=0)


def test_a_settled_normalisation_lets_the_neuron_fire():
    conv, bn, neuron = SMALL.build(0)
    x = SMALL.spikes(0.2, seed=0)
    settle(conv, bn, x)
    with torch.no_grad():
        y = bn(conv(x))
        assert float(y.mean()) == pytest.approx(0.0, abs=0.01)
        assert float(neuron(y).mean()) > 0.01
