from functools import partial

import pytest
import torch
from torch import nn

from sparseflow.cost import dense as dense_module
from sparseflow.cost.dense import dense_variants
from sparseflow.cost.measure import Timing
from sparseflow.errors import ConfigError, MeasurementError


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.state = 0.0

    def forward(self, x):
        self.state = self.state + self.conv(x)
        return self.state


def reset(net):
    net.state = 0.0


@pytest.mark.parametrize("shape", [(2, 3, 6, 5), (2, 2, 3, 6, 5)])
def test_every_variant_computes_the_same(shape):
    torch.manual_seed(0)

    class Net(nn.Conv2d):
        def forward(self, x):
            return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2]) if x.dim() == 5 else super().forward(x)

    net, x = Net(3, 4, 3).eval(), torch.randn(shape)
    variants = dense_variants(net, x, compile=False)
    assert set(variants.fns) == {"eager nchw", "eager channels_last"}
    for fn in variants.fns.values():
        torch.testing.assert_close(fn(), net(x).detach())


def test_state_is_cleared_on_every_call_and_the_model_is_not_touched():
    net, x = Counter().eval(), torch.randn(1, 3, 5, 5)
    fn = dense_variants(net, x, reset=reset, compile=False).fns["eager nchw"]
    torch.testing.assert_close(fn(), fn())
    assert net.state == 0.0


def test_a_model_that_cannot_run_is_named():
    with pytest.raises(MeasurementError, match="runs in no way"):
        dense_variants(nn.Conv2d(3, 4, 3), torch.randn(1, 5, 4, 4), compile=False)


def test_failures_carry_the_reason():
    class Picky(nn.Module):
        def forward(self, x):
            if not x.is_contiguous():
                raise ValueError("contiguous only")
            return x

    variants = dense_variants(Picky(), torch.randn(1, 3, 5, 5), compile=False)
    assert "contiguous only" in variants.failures["eager channels_last"]


def test_compiler_is_looked_up_on_the_path(monkeypatch):
    monkeypatch.setattr(dense_module.shutil, "which", lambda name: None)
    assert not dense_module.compiler_available()


def test_feeding_other_values_changes_every_variant_but_not_the_caller_s_tensor():
    net, x = nn.Conv2d(3, 4, 3).eval(), torch.randn(2, 3, 6, 5)
    kept = x.clone()
    variants = dense_variants(net, x, compile=False)
    y = torch.randn_like(x)
    variants.feed(y)
    for fn in variants.fns.values():
        torch.testing.assert_close(fn(), net(y).detach())
    torch.testing.assert_close(x, kept, rtol=0, atol=0)


def test_contiguous_tensors_are_compiled_only_if_eager_does_not_speak_against_them(monkeypatch):
    times = {"eager nchw": Timing.of([1.2]), "eager channels_last": Timing.of([1.0])}
    monkeypatch.setattr(dense_module, "measure", lambda *_, **__: times)
    monkeypatch.setattr(torch, "compile", lambda net, **_: net)
    net, x = nn.Conv2d(3, 4, 3).eval(), torch.randn(2, 3, 6, 5)
    variants = dense_variants(net, x, prune=1.1)
    assert set(variants.left_out) == {"compile nchw", "compile-frozen nchw"}
    assert set(variants.fns) == {*times, "compile channels_last", "compile-frozen channels_last"}
    assert "eager nchw took 1.20 times as long as eager channels_last" in variants.left_out["compile nchw"]
    assert not dense_variants(net, x, prune=1.3).left_out
    assert len(dense_variants(net, x).fns) == 6
    times["eager channels_last"] = Timing.of([9.0])
    assert len(dense_variants(net, x, prune=1.0).fns) == 6


def test_each_compiled_form_is_compiled_for_itself():
    torch._dynamo.reset()
    counted = []

    def count(graph, inputs, **options):
        counted.append(options)
        return graph.forward

    real = torch.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda net, options: real(net, backend=partial(count, **options)))
        dense_variants(nn.Conv2d(3, 4, 3).eval(), torch.randn(2, 3, 6, 5), compile_layouts=("nchw",))
    assert counted == [{"freezing": False}, {"freezing": True}]


def test_a_bound_that_would_leave_out_the_fastest_is_refused():
    with pytest.raises(ConfigError, match=r"prune is 0.9"):
        dense_variants(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 5, 5), prune=0.9)
