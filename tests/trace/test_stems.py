"""Operator stems and attributes."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sparseflow import ops
from sparseflow.nn import layers
from sparseflow.nn.neurons import IFNode, LIFNode, ParametricLIFNode
from sparseflow.trace._stems import function_attrs, function_stem, module_attrs, module_stem


@pytest.mark.parametrize(
    ("module", "stem"),
    [
        (nn.Conv1d(1, 1, 1), "conv1d"), (layers.Conv2d(1, 1, 1), "conv2d"), (nn.Conv3d(1, 1, 1), "conv3d"),
        (nn.Linear(1, 1), "linear"), (layers.BatchNorm2d(1), "batch_norm"), (nn.LayerNorm(1), "layer_norm"),
        (layers.MaxPool2d(2), "max_pool2d"), (nn.AvgPool1d(2), "avg_pool1d"), (nn.Dropout(), "dropout"),
        (nn.AdaptiveAvgPool2d(1), "adaptive_avg_pool2d"), (nn.Identity(), "identity"), (nn.ReLU(), "relu"),
        (IFNode(), "if"), (LIFNode(), "lif"), (ParametricLIFNode(), "plif"), (nn.LSTM(1, 1), "lstm"),
    ],
)  # fmt: skip
def test_module_stems(module: nn.Module, stem: str) -> None:
    assert module_stem(module) == stem
    assert ops.has_flops(stem) or stem == "lstm"


@pytest.mark.parametrize(
    ("func", "stem"),
    [
        (torch.Tensor.__add__, "add"), (torch.Tensor.__radd__, "add"), (torch.Tensor.add_, "add"), (torch.add, "add"),
        (torch.Tensor.__rsub__, "rsub"), (torch.Tensor.__mul__, "mul"), (torch.Tensor.__getitem__, "select"),
        (torch.Tensor.__setitem__, "write"), (torch.Tensor.copy_, "write"), (torch.Tensor.view, "view"),
        (torch.Tensor.matmul, "matmul"), (torch.Tensor.__matmul__, "matmul"), (torch.bmm, "matmul"),
        (F.scaled_dot_product_attention, "attention"), (torch.Tensor.mT.__get__, "transpose"),
        (torch.Tensor.float, "cast"), (torch.Tensor.__and__, "logical_and"), (torch.Tensor.__gt__, "compare"),
        (F.conv2d, "conv2d"), (torch.unbind, "split"), (torch.cat, "cat"), (torch.Tensor.clone, "copy"),
    ],
)  # fmt: skip
def test_function_stems(func: Any, stem: str) -> None:
    assert function_stem(func) == stem


def test_windows_are_written_once_a_dimension() -> None:
    assert module_attrs(nn.MaxPool1d(3))["kernel_size"] == (3,)
    assert module_attrs(layers.MaxPool2d(3))["kernel_size"] == (3, 3)
    assert module_attrs(nn.AvgPool3d(2))["kernel_size"] == (2, 2, 2)
    assert function_attrs("avg_pool2d", ("x", 2), {})["kernel_size"] == (2, 2)
    assert function_attrs("max_pool", ("x", 2), {})["kernel_size"] == (2, 2, 2)


def test_attributes_of_layers() -> None:
    conv = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4)
    assert module_attrs(conv) == {
        "dilation": (1, 1), "groups": 4, "kernel_size": (3, 3), "padding": (1, 1), "stride": (2, 2),
    }  # fmt: skip
    assert module_attrs(LIFNode(step_mode="m")) == {"step_mode": "m"}
    assert module_attrs(nn.ReLU()) == {}
    assert function_attrs("conv2d", ("x", "w", None, 2), {"padding": "same"}) == {"padding": "same", "stride": 2}
