import numpy as np
import pytest
import torch

from sparseflow.compress.quantize.ranges import Range, observe
from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.models.cmamba import CMamba, ModelArgs, build_model
from sparseflow.ops.selective_scan.reference import Operands, selective_scan
from tests.nn.models.cmamba.small import SMALL, network, readings


def test_a_range_grows_and_keeps_samples() -> None:
    seen = Range()
    assert seen.largest == 0
    seen.see(torch.tensor([1.0, -3.0]))
    seen.see(torch.tensor([2.0]))
    seen.see(torch.zeros(0))
    assert (seen.low, seen.high, seen.largest) == (-3.0, 2.0, 3.0)
    assert seen.values().tolist() == [1.0, -3.0, 2.0]
    with pytest.raises(DataError):
        seen.see(torch.tensor([float("inf")]))


def test_samples_are_few() -> None:
    seen = Range()
    seen.see(torch.arange(1_000_000.0))
    assert 5_000 < len(seen.values()) <= 20_000


def test_ranges_are_those_of_the_modules() -> None:
    net, x = network(), readings(5)
    found = observe(net, [x[:2], x[2:]])
    real = {}
    hooks = [m.register_forward_hook(lambda _, a, o, n=n: real.__setitem__(n, (a, o))) for n, m in net.named_modules()]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    block = "encoder.layers.1."
    assert found[f"{block}norm"].high == pytest.approx(float(real[f"{block}norm"][1].max()), rel=1e-5)
    z = real[f"{block}mixer.in_proj"][1][..., 16:]
    assert found[f"{block}mixer.in_proj.z"].low == pytest.approx(float(z.min()), rel=1e-5)
    stream = max(float(real[n][1].abs().max()) for n in real if n.endswith(("residual", "out_proj", "gate", "ding")))
    assert found["stream"].largest == pytest.approx(stream, rel=1e-5)
    x, dt, a_log, b, c, d, z = real[f"{block}mixer.scan"][0]
    y, h = selective_scan(Operands(x=x, dt=dt, A_log=a_log, B=b, C=c, D=d))
    assert found[f"{block}mixer.scan.y"].largest == pytest.approx(float(y.detach().abs().max()), rel=1e-5)
    assert found[f"{block}mixer.scan.h"].largest >= float(h.abs().max()) * (1 - 1e-5)
    pushed = torch.nn.functional.softplus(dt) * x
    assert found[f"{block}mixer.scan.w"].largest == pytest.approx(float(pushed.abs().max()), rel=1e-5)


def test_the_network_is_left_as_it_was() -> None:
    model = CMamba(SMALL).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    observe(model, [readings(2)])
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())
    assert all(bool((v == before[k]).all()) for k, v in model.state_dict().items())


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(ConfigError, match="no batch"):
        observe(network(), [])
    with pytest.raises(ConfigError, match="seed"):
        observe(CMamba(ModelArgs(variant="seed")), [])
    with pytest.raises(ConfigError, match="int8"):
        observe(build_model(SMALL, "int8"), [])
    with pytest.raises(DataError):
        observe(network(), [readings(1) * float("nan")])
    assert np.isfinite(observe(network(), [readings(1)])["stream"].largest)
