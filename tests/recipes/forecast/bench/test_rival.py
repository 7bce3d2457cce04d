"""What the bench measures against computes the same as what it measures."""

import sys
import types
from importlib import metadata

import pytest
import torch

from sparseflow.errors import UnsupportedError
from sparseflow.nn.models.cmamba import CMamba, ModelArgs
from sparseflow.ops.selective_scan import reference
from sparseflow.recipes.forecast.bench import rival
from tests.ops.selective_scan.scan_cases import CASES, operands
from tests.tolerances import assert_near


def parallel_prefix(a, u):
    """A parallel scan as mambapy's: in log2 K rounds, each state takes in that of 2^i steps before."""
    step = 1
    while step < a.shape[1]:
        u = torch.cat([u[:, :step], u[:, step:] + a[:, step:] * u[:, :-step]], 1)
        a = torch.cat([a[:, :step], a[:, step:] * a[:, :-step]], 1)
        step *= 2
    return u


@pytest.mark.parametrize("recur", [rival.one_after_the_other, parallel_prefix])
@pytest.mark.parametrize("case", ["cmamba", "channel", "bare"])
@pytest.mark.parametrize("steps", [1, 2, 13])
def test_scan(case, steps, recur):
    given = operands(2, steps, 5, 3, **CASES[case])
    assert_near(rival.gated_scan(given, recur), reference.selective_scan(given)[0], "selective_scan")


@pytest.mark.parametrize("variates", [1, 2, 7])
def test_forecast(variates):
    torch.manual_seed(variates)
    args = ModelArgs.paper(variates, 5, n_layer=2, d_model=12, d_state=3, dt_rank=4, reduction_ratio=1)
    model = CMamba(args).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    weights = dict(model.named_parameters()) | dict(model.named_buffers())
    x = torch.randn(3, variates, args.seq_len)
    got = rival.forecast(args, weights, x, rival.one_after_the_other)
    torch.testing.assert_close(got, model(x), rtol=1e-5, atol=1e-5)


def test_a_rival_that_is_missing_or_another_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "mambapy.pscan", None)
    with pytest.raises(UnsupportedError, match=r"pip install mambapy==1\.2\.0"):
        rival.parallel()
    module = types.ModuleType("mambapy.pscan")
    module.pscan = parallel_prefix
    monkeypatch.setitem(sys.modules, "mambapy", types.ModuleType("mambapy"))
    monkeypatch.setitem(sys.modules, "mambapy.pscan", module)
    monkeypatch.setattr(metadata, "version", lambda name: "1.1.0")
    with pytest.raises(UnsupportedError, match=r"is 1\.1\.0"):
        rival.parallel()
    monkeypatch.setattr(metadata, "version", lambda name: "1.2.0")
    assert rival.parallel() is parallel_prefix
