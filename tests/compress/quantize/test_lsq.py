from typing import Any

import pytest
import torch
from torch import nn

from sparseflow.compress.quantize.lsq import LsqConfig, LsqLayer, lsq_layers, prepare_lsq
from sparseflow.errors import ConfigError, UnsupportedError


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


BATCH = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def test_the_model_is_copied_and_near() -> None:
    model = net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    made = prepare_lsq(model, [BATCH])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert list(lsq_layers(made)) == ["0", "3"]
    want, got = model(BATCH), made(BATCH)
    assert float((want - got).abs().max()) < 0.3 * float(want.abs().max())
    assert lsq_layers(made)["0"].input.qmin == -127  # type: ignore[union-attr]
    assert lsq_layers(made)["3"].input.qmin == 0  # type: ignore[union-attr]


def test_training_learns_scales_and_lowers_the_loss() -> None:
    """At 3 bits, what a few steps learn is far nearer to the float network than the start."""
    model = net()
    x = torch.randn(64, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        want = model(x)
    made = prepare_lsq(model, [x], LsqConfig(weights=3, activations=3)).train()
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (made(x) - want).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    for layer in lsq_layers(made).values():
        assert layer.weight.scale.grad is not None
        codes = layer.weight.codes(layer.layer.weight)
        assert set(codes.unique().tolist()) <= set(range(-3, 4))


def test_layers_can_be_kept_and_activations_left() -> None:
    made = prepare_lsq(net(), [BATCH], LsqConfig(keep=("3",), activations=None))
    assert list(lsq_layers(made)) == ["0"]
    assert lsq_layers(made)["0"].input is None


def test_a_lone_layer_and_a_shared_one() -> None:
    assert isinstance(prepare_lsq(nn.Linear(3, 2), [torch.randn(4, 3)]), LsqLayer)
    one = nn.Linear(3, 3)
    made: Any = prepare_lsq(nn.Sequential(one, nn.ReLU(), one), [torch.randn(4, 3)])
    assert made[0] is made[2]


def test_a_state_dict_travels() -> None:
    made = prepare_lsq(net(), [BATCH])
    again = prepare_lsq(net(), [BATCH * 2])
    again.load_state_dict(made.state_dict())
    assert torch.equal(made(BATCH), again(BATCH))


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ConfigError, match="elsewhere"):
        prepare_lsq(net(), [BATCH], LsqConfig(keep=("elsewhere",)))
    with pytest.raises(ConfigError, match="no batch"):
        prepare_lsq(net(), [])
    with pytest.raises(UnsupportedError):
        prepare_lsq(nn.ReLU(), [BATCH])
    for wrong in ({"weights": 1}, {"activations": 9}):
        with pytest.raises(ConfigError):
            LsqConfig(**wrong)


def test_a_layer_that_no_batch_reaches_is_named() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.used(x)
            return out

    with pytest.raises(UnsupportedError, match="unused"):
        prepare_lsq(Unused(), [torch.randn(1, 2)])
