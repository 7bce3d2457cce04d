"""Faults of the earlier `optimize`, and bad input: a clear word, and the caller's model whole."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sparseflow
from sparseflow.compress import Effort
from sparseflow.compress.sparsify.apply import fused_graph
from sparseflow.errors import CaptureError, DataError
from sparseflow.hardware import load_target
from sparseflow.ir import Report
from sparseflow.nn.functional import reset_net
from sparseflow.nn.fused_net import FusedNet
from sparseflow.nn.layers import Conv2d
from sparseflow.nn.neurons import IFNode, LIFNode
from sparseflow.nn.sparse_conv import SparseConv2d
from sparseflow.trace import capture
from tests.spiking_nets import Residual, alive, chain

CPU = load_target("cpu", describe=False)
QUICK = Effort(repeats=2, budget_s=0.05, model_budget_s=0.2)


def _optimize(model: nn.Module, sample: Any = None, **settings: Any) -> tuple[nn.Module, Report]:
    return sparseflow.optimize(model, sample, target=CPU, effort=QUICK, report=True, **settings)


class _Witness:
    """What a model was, to be compared afterwards."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = [(n, id(m), m.training) for n, m in model.named_modules()]
        self.state = copy.deepcopy(model.state_dict())
        self.volts = {n: copy.deepcopy(m.v) for n, m in model.named_modules() if hasattr(m, "v")}

    def check(self) -> None:
        assert [(n, id(m), m.training) for n, m in self.model.named_modules()] == self.modules
        now = self.model.state_dict()
        assert all(torch.equal(now[k], v) or v.isnan().any() for k, v in self.state.items())
        for name, v in self.volts.items():
            mine = self.model.get_submodule(name).v
            assert torch.equal(torch.as_tensor(mine), torch.as_tensor(v))
        for module in self.model.modules():
            assert not module._forward_pre_hooks
            assert not module._forward_hooks


class _Writes(nn.Module):
    """Scales its input in place, as an in-place activation in front would."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.mul_(0.5))
        return out


def test_it_used_to_halve_the_sample_at_every_run_of_a_model_that_writes_into_it() -> None:
    model, x = chain()
    before = x.clone()
    for settings in ({}, {"policy": "always"}):
        made, report = _optimize(_Writes(model), x, **settings)
        assert torch.equal(x, before)
        densities = [row.density for row in report.layers if row.density]
        assert densities
        with torch.no_grad():
            torch.testing.assert_close(made(x.clone()), model(x * 0.5), rtol=1e-4, atol=1e-4)
        reset_net(model)


def test_a_fused_network_is_optimized_anew_for_another_sample() -> None:
    model, x = chain()
    fused = FusedNet(model, fused_graph(model, capture(model, x), x, {}).graph_module)
    made, report = _optimize(fused, torch.cat([x, x]), policy="always")
    assert made is not fused
    assert report.model == "Chain"
    assert {row.shape[1] for row in report.layers if len(row.shape) == 5} == {2 * len(x)}


class _Resets(nn.Module):
    """Resets its neurons in its forward, as many training loops are written."""

    def __init__(self, inner: nn.Module, *, by_hand: bool) -> None:
        super().__init__()
        self.inner, self.by_hand = inner, by_hand

    def forward(self, x: Tensor) -> Tensor:
        if self.by_hand:
            self.inner.features[3].v = 0.0  # type: ignore[index, union-attr]
        else:
            reset_net(self.inner)
        out: Tensor = self.inner(x)
        return out


@pytest.mark.parametrize("by_hand", [False, True])
def test_it_used_to_forget_that_a_forward_resets_its_neurons(by_hand: bool) -> None:
    model, x = chain()
    model = _Resets(model, by_hand=by_hand)
    made, report = _optimize(model, x, policy="always")
    assert any("resets neurons" in r.reason for r in report.refusals)
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_lazy_layer_is_named() -> None:
    with pytest.raises(CaptureError, match=r"1\.weight has no shape yet; run the model once"):
        _optimize(nn.Sequential(IFNode(), nn.LazyLinear(3)), torch.rand(2, 4))


def test_an_empty_sequence_leaves_the_model_dense_and_says_why_in_one_line() -> None:
    model = nn.Sequential(LIFNode(step_mode="m"), Conv2d(4, 4, 3)).eval()
    made, report = _optimize(model, torch.rand(0, 2, 4, 8, 8))
    assert type(made) is nn.Sequential
    assert report.refusals
    assert not any("\n" in r.reason for r in report.refusals)


def test_a_model_made_in_inference_mode() -> None:
    with torch.inference_mode():
        model, x = chain()
    made, report = _optimize(model, x, policy="always")
    assert report.parity["mismatches"] == 0
    with torch.no_grad():
        torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-4)


def test_it_used_to_change_the_model_in_place() -> None:
    model, x = chain()
    with torch.no_grad():
        model(x)
    model.train()
    witness = _Witness(model)
    made, _ = _optimize(model, x, policy="always")
    witness.check()
    assert made is not model


def test_it_used_to_have_no_never_slower_guarantee() -> None:
    # 1x1 maps, two channels: nothing sparse can win over the calls alone.
    model = nn.Sequential(nn.Conv2d(2, 2, 1), IFNode(v_threshold=0.1), nn.Conv2d(2, 2, 1)).eval()
    _, report = _optimize(model, torch.rand(1, 2, 1, 1), fuse=False)
    assert all(row.kernel == "dense" or (row.speedup or 0) > 1.02 for row in report.layers)
    assert report.dense_s is not None
    assert report.optimized_s is not None
    assert report.optimized_s <= report.dense_s


@pytest.fixture
def only_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the fused form however fast the other one is."""
    monkeypatch.setattr("sparseflow.compress.sparsify.optimize._Job.drop_in", lambda _: None)


@pytest.mark.usefixtures("only_fused")
def test_norm_between_convolution_and_neuron_used_to_be_lost_in_fusion() -> None:
    model, x = chain()
    made, report = _optimize(model, x, policy="always")
    assert isinstance(made, FusedNet)
    assert report.parity["mismatches"] == 0
    with torch.no_grad():
        torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("only_fused")
def test_decay_input_used_to_be_ignored() -> None:
    model, x = chain(lambda: LIFNode(tau=2.0, decay_input=False, step_mode="m"))
    made, _ = _optimize(model, x, policy="always")
    assert isinstance(made, FusedNet)
    with torch.no_grad():
        torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-4)


def test_layers_silent_on_the_sample_used_to_be_frozen() -> None:
    model, x = chain()
    made, _ = _optimize(model, torch.zeros_like(x) - 9.0, policy="always")
    with torch.no_grad():
        torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-4)


def test_norm_behind_a_spike_used_to_count_as_transparent() -> None:
    model = nn.Sequential(IFNode(), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3)).eval()
    _, report = _optimize(model, torch.rand(1, 3, 8, 8))
    assert any(r.layer == "2" and "does not come from spikes" in r.reason for r in report.refusals)


def test_sums_of_spikes_used_to_be_taken_for_bits() -> None:
    x = torch.randn(2, 3, 8, 8)
    model = alive(Residual(sew=True), x)
    made, report = _optimize(model, x, policy="always")
    assert report.parity["mismatches"] == 0
    with torch.no_grad():
        torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-4)


def test_state_persists_until_reset() -> None:
    model, x = chain()
    made, _ = _optimize(model, x, policy="always")
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-4)
        reset_net(model)
        reset_net(made)
        torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-4)


def test_no_spiking_neuron() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU()).eval()
    made, report = _optimize(model, torch.zeros(1, 3, 8, 8))
    assert type(made) is nn.Sequential
    assert report.refusals[0].layer == ""
    assert "no spiking neuron" in report.refusals[0].reason


def test_wrong_sample_shape() -> None:
    model, _ = chain()
    witness = _Witness(model)
    with pytest.raises(CaptureError, match=r"sample of shape \(2, 5, 8, 8\).*3 channels"):
        _optimize(model, torch.zeros(2, 5, 8, 8))
    witness.check()


def test_nan_weights() -> None:
    model, x = chain()
    with torch.no_grad():
        model.get_submodule("features.4").weight[0, 0, 0, 0] = float("nan")
    witness = _Witness(model)
    for sample in (x, None):
        with pytest.raises(DataError, match=r"features\.4\.weight"):
            _optimize(model, sample)
    witness.check()


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.conv = IFNode(), IFNode(v_threshold=0.5), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.a(x)) + self.conv(self.b(x))


def test_a_module_used_twice() -> None:
    model, x = _Twice().eval(), torch.rand(2, 3, 8, 8)
    made, report = _optimize(model, x, policy="always")
    assert not isinstance(made.get_submodule("conv"), SparseConv2d)
    assert any(r.layer == "conv" and "several places" in r.reason for r in report.refusals)
    with torch.no_grad():
        torch.testing.assert_close(made(x), model(x))


def test_a_scripted_module() -> None:
    with pytest.warns(DeprecationWarning, match="jit"):
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()))
    for sample in (torch.zeros(1, 1, 4, 4), None):
        with pytest.raises(CaptureError, match="scripted"):
            _optimize(scripted, sample)


class _Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sn, self.fc = IFNode(), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.sn(x)) if x.sum() > 0 else x


def test_no_graph_without_a_sample() -> None:
    with pytest.raises(CaptureError, match=r"sparseflow\.optimize\(model, sample\)"):
        _optimize(_Branches().eval())
    _, report = _optimize(_Branches().eval(), torch.rand(2, 4))
    assert report.captured_by == "record"


def test_ctrl_c_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    model, x = chain()
    witness = _Witness(model)
    for place in ("tune.measure", "optimize.compare_blocks", "optimize.measure"):
        with monkeypatch.context() as patch:
            patch.setattr(f"sparseflow.compress.sparsify.{place}", interrupt)
            with pytest.raises(KeyboardInterrupt):
                _optimize(model, x)
        witness.check()
