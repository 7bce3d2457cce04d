"""Finding the compiled kernels, and the layouts that they take."""

import torch

from sparseflow.ops import _library
from sparseflow.ops._library import channels_last, dense_layout, like, pointer


def test_the_extension_is_there_or_says_why_not():
    assert (_library.native is None) == (_library.ABSENT is not None)
    if _library.native is not None:
        assert "scalar" in _library.native.isas()


def test_layouts():
    x = torch.randn(2, 3, 4, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    assert channels_last(last)
    assert not channels_last(x)
    assert dense_layout(x) is x
    assert dense_layout(last) is last
    assert dense_layout(x.transpose(2, 3)).is_contiguous()
    assert like(x, last).stride() == last.stride()
    assert like(last, x).stride() == x.stride()


def test_pointer():
    x = torch.ones(1)
    assert pointer(None) == 0
    assert pointer(x) == x.data_ptr()
