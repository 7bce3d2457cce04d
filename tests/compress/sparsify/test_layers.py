"""A layer is replaced only if its forward is known to be torch's own."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from sparseflow.compress.sparsify.layers import refuse_layer, sparse_layer
from sparseflow.errors import UnsupportedError
from sparseflow.nn.layers import Conv2d
from sparseflow.nn.sparse_conv import SparseConv2d
from sparseflow.nn.sparse_linear import SparseLinear


class _Scaled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class _Named(nn.Linear):
    pass


def test_takes_torch_and_own_layers() -> None:
    assert isinstance(sparse_layer(nn.Conv2d(2, 2, 3), "event", 8), SparseConv2d)
    assert isinstance(sparse_layer(Conv2d(2, 2, 3), "event"), SparseConv2d)
    assert isinstance(sparse_layer(_Named(2, 2), "event"), SparseLinear)


def test_takes_spikingjelly_layers() -> None:
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    assert refuse_layer(layer.Conv2d(2, 2, 3)) is None
    assert refuse_layer(layer.Linear(2, 2)) is None
    assert "own forward" in (refuse_layer(layer.WSConv2d(2, 2, 3)) or "")


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Conv1d(1, 1, 1), "Conv1d has no sparse kernel"),
        (_Scaled(1, 1, 1), "_Scaled computes its own forward"),
        (parametrizations.weight_norm(nn.Linear(2, 2)), "computed from others|own forward"),
        (nn.Conv2d(1, 1, 1).double(), "float64"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "reflect"),
        (SparseConv2d(1, 1, 1), "already"),
    ],
)
def test_refuses(module: nn.Module, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        sparse_layer(module, "event")


def test_refuses_what_is_listened_to() -> None:
    conv = nn.Conv2d(1, 1, 1)
    conv.register_forward_hook(lambda *_: None)
    assert refuse_layer(conv) == "hooks listen to it; remove them first"
    with pytest.warns(FutureWarning):
        old = weight_norm(nn.Linear(2, 2))
    assert refuse_layer(old) is not None
    assert torch.is_tensor(old.weight)
