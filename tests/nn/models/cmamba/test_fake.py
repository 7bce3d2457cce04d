from typing import Any

import numpy as np
import pytest
import torch

from sparseflow.compress.quantize.forecaster import ForecastBits
from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.nn.models.cmamba import CMamba, IntRef, ModelArgs, build_model
from sparseflow.nn.models.cmamba.fake import bind_scales
from tests.nn.models.cmamba.small import SMALL, arrays, network, readings, spec


def fake(dtype: torch.dtype, record: Any = None, bits: ForecastBits | None = None) -> CMamba:
    model = build_model(SMALL, "fakeq").to(dtype).eval()
    model.load_state_dict({k: v.to(dtype) for k, v in network().state_dict().items()})
    bind_scales(model, spec(bits), record)
    return model


@pytest.mark.parametrize("bits", [ForecastBits(), ForecastBits(weights=4), ForecastBits(weights=6, activations=6)])
def test_every_tensor_is_that_of_the_integers(bits: ForecastBits) -> None:
    """A5: at most 1 step apart at every tap; in float64 it is none."""
    seen: dict[str, Any] = {}
    x = readings(24, seed=3)
    with torch.no_grad():
        y = fake(torch.float64, seen.__setitem__, bits)(x)
    taps = IntRef(SMALL, arrays(bits), batch=24).taps(x)
    assert set(taps) - set(seen) == {"input", "standardize.mean", "standardize.std"}
    for name, codes in seen.items():
        assert codes.shape == taps[name].shape
        assert float(np.abs(codes.numpy() - taps[name]).max()) <= 1, name
    assert (y.numpy() * 2**16 == taps["restore"]).all()


def test_float32_is_near_the_integers() -> None:
    x = readings(24, seed=3)
    with torch.no_grad():
        got = fake(torch.float32)(x).numpy()
    want = IntRef(SMALL, arrays())(x)
    assert np.abs(got - want).max() < 0.02 * want.std()


def test_training_skips_the_scans_own_roundings_alone() -> None:
    model, x = fake(torch.float32), readings(24, seed=3)
    with torch.no_grad():
        evaluated = model(x)
        trained = model.train()(x)
    assert float((evaluated - trained).abs().max()) < 0.03 * float(evaluated.std())


def test_gradients_reach_weights_and_scales() -> None:
    model, x = fake(torch.float32).train(), readings(8)
    (model(x) - x[..., :8]).abs().mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert bool(torch.isfinite(p.grad).all()), name
    moved = [n for n, p in model.named_parameters() if p.grad is not None and bool((p.grad != 0).any())]
    scales = [n for n in moved if n.startswith("scales.")]
    assert len(scales) > 40
    for part in ("in_proj.weight", "dt_proj.bias", "A_log", "norm.weight", "fc_sc.0.weight", "value_embedding.weight"):
        assert any(n.endswith(part) for n in moved), part


@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_weights_are_near_those_of_the_float_network(training: bool) -> None:
    x = readings(16)
    grads = []
    for model in (fake(torch.float64).train(training), network()):
        model.zero_grad()
        x_ = x.double() if model.quant_mode == "fakeq" else x
        (model(x_) - x_[..., :8]).square().mean().backward()
        grads.append({n: p.grad.double().flatten() for n, p in model.named_parameters() if p.grad is not None})
    model.zero_grad()
    for name, want in grads[1].items():
        assert float(torch.nn.functional.cosine_similarity(grads[0][name], want, dim=0)) > 0.99, name
        assert 0.9 < float(grads[0][name].norm() / want.norm()) < 1.1, name


def test_training_lowers_the_loss_at_few_bits() -> None:
    x = readings(64, seed=9)
    with torch.no_grad():
        want = network()(x)
    model = fake(torch.float32, bits=ForecastBits(weights=3)).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = (model(x) - want).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_inference_without_gradients_stays_on_codes() -> None:
    """Plain float inference may be compiled; this is not plain."""
    model = build_model(SMALL, "fakeq").eval()
    with torch.no_grad(), pytest.raises(ConfigError, match="bind_scales"):
        model(readings(1))


def test_a_specification_of_another_network_is_refused() -> None:
    other = build_model(ModelArgs.paper(7), "fakeq")
    with pytest.raises(ConfigError, match="other sizes"):
        bind_scales(other, spec())
    with pytest.raises(UnsupportedError):
        build_model(ModelArgs(variant="seed"), "fakeq")


def test_scales_are_learnt_where_they_are_free() -> None:
    model = fake(torch.float32)
    learnt = {n.removeprefix("scales.learnt.").replace("|", ".") for n, _ in model.named_parameters() if "learnt" in n}
    assert "encoder.layers.0.norm" in learnt
    assert "head.linear.weight" in learnt
    assert not any(n.endswith(("residual", "out_proj", "gate", "scan.h", "restore", ".bias")) for n in learnt)
