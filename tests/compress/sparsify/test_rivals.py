"""A dense rival gives what its model gives, in another type, and follows its weights."""

import copy
import pickle

import pytest
import torch
from torch import nn

from sparseflow.compress.sparsify.rivals import DenseForm, block_twin, channels_last
from sparseflow.nn.block_conv import BlockConv2d
from sparseflow.nn.functional import reset_net
from sparseflow.nn.neurons import LIFNode
from tests.spiking_nets import chain


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_runs_from_rest_and_follows_the_weights(dtype: torch.dtype) -> None:
    model, x = chain()
    form = DenseForm(model, dtype)
    want = model(x)
    for _ in range(2):
        made = form(x)
        assert made.dtype == torch.float32
        if dtype == torch.float32:
            torch.testing.assert_close(made, want)
    model.get_submodule("head.3").weight.mul_(2.0)
    model.get_submodule("head.3").bias.mul_(2.0)
    torch.testing.assert_close(form(x), 2 * made)
    assert not list(form.parameters())


@torch.no_grad()
def test_convolutions_by_blocks_follow_the_weights_too() -> None:
    model, x = chain()
    form = DenseForm(model, torch.float32, blocks={"features.4": 8})
    assert isinstance(form._twin[0].get_submodule("features.4"), BlockConv2d)
    assert not isinstance(model.get_submodule("features.4"), BlockConv2d)
    torch.testing.assert_close(form(x), model(x))
    reset_net(model)
    model.get_submodule("features.4").weight.mul_(-1.0)
    torch.testing.assert_close(form(x), model(x))


def test_a_block_twin_shares_the_parameters() -> None:
    model, _ = chain()
    assert block_twin(model, "features.8", 4).weight is model.get_submodule("features.8").weight


@torch.no_grad()
def test_states_are_carried_on_demand() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), LIFNode(), nn.Conv2d(8, 4, 3), LIFNode()).eval()
    x = torch.randn(2, 3, 8, 8)
    want = [model(x) for _ in range(3)]
    reset_net(model)
    form = DenseForm(model, torch.float32, neurons=[m for m in model if isinstance(m, LIFNode)])
    for y in want:
        torch.testing.assert_close(form(x), y)
    reset_net(model)
    torch.testing.assert_close(form(x), want[0])
    reset_net(model)
    half = DenseForm(model, torch.bfloat16, neurons=[model[1], model[3]])
    half(x)
    half(x)
    # Our neurons keep their potential in float32 whatever the currents are.
    assert half._twin[0][0].weight.dtype == torch.bfloat16
    assert model[1].v.dtype == torch.float32
    model[1].v = model[1].v.half()
    assert half(x).dtype == torch.float32


@torch.no_grad()
def test_weights_of_videos_have_no_such_layout() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv3d(3, 1, 1))
    assert channels_last(model) is model
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[1].weight.is_contiguous()


@torch.no_grad()
def test_standardised_weights_are_computed_once_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    torch.manual_seed(0)
    model = nn.Sequential(layer.WSConv2d(3, 4, 3), nn.Flatten(), layer.WSLinear(4 * 36, 5)).eval()
    x = (torch.rand(2, 3, 8, 8) < 0.3).float()
    form = DenseForm(model, torch.bfloat16)

    def plain() -> torch.Tensor:
        weights = [model[i].get_weight().bfloat16() for i in (0, 2)]
        y = torch.nn.functional.conv2d(x.bfloat16(), weights[0], model[0].bias.bfloat16()).flatten(1)
        return torch.nn.functional.linear(y, weights[1], model[2].bias.bfloat16()).float()

    torch.testing.assert_close(form(x), plain())
    model[0].weight.mul_(torch.rand_like(model[0].weight))
    torch.testing.assert_close(form(x), plain())
    again = pickle.loads(pickle.dumps(copy.deepcopy(form)))
    torch.testing.assert_close(again(x), plain())

    def refuse(_: nn.Module) -> None:
        pytest.fail("standardised again")

    monkeypatch.setattr(layer.WSConv2d, "get_weight", refuse)
    form(x)


@torch.no_grad()
def test_a_layer_with_other_standardised_weights_is_left_alone() -> None:
    layer = pytest.importorskip("spikingjelly.activation_based.layer")

    class Doubled(layer.WSLinear):  # type: ignore[misc, name-defined]
        def get_weight(self) -> torch.Tensor:
            out: torch.Tensor = 2 * super().get_weight()
            return out

    model = nn.Sequential(Doubled(4, 3)).eval()
    x = torch.randn(2, 4)
    torch.testing.assert_close(DenseForm(model, torch.float32)(x), model(x))
