"""Tensors of a call: shapes and layouts as the kernels address them, and refusals."""

import pytest
import torch

from sparseflow.errors import UnsupportedError
from sparseflow.ops.spike_layer._tensors import outputs, tensors

WORDS = torch.zeros(6, 5, 4, 2, dtype=torch.int32)


@pytest.mark.parametrize(("out", "dtype"), [("float16", torch.float16), ("float32", torch.float32)])
def test_numbers_lie_channels_last(out, dtype):
    y, result = outputs(WORDS, (3, 2), 33, out=out)
    assert y.dtype == dtype
    assert y.shape == (6, 3, 2, 33)
    assert y.is_contiguous()
    assert result.shape == (6, 33, 3, 2)
    assert result.data_ptr() == y.data_ptr()


@pytest.mark.parametrize(("channels", "planes", "words"), [(1, 1, 1), (32, 1, 1), (33, 1, 2), (64, 3, 6)])
def test_words_of_planes(channels, planes, words):
    y, result = outputs(WORDS, (3, 2), channels, planes=planes)
    assert y is result
    assert y.dtype == torch.int32
    assert y.shape == (6, 3, 2, words)


def test_potentials_come_in_and_go_out_channels_last():
    v0 = torch.randn(2, 33, 3, 2, dtype=torch.float64)
    made = tensors(WORDS, (3, 2), 33, steps=3, v0=v0, keep_v=True)
    assert made.start.dtype == torch.float32
    assert made.start.is_contiguous()
    assert torch.equal(made.start.permute(0, 3, 1, 2), v0.float())
    assert made.v.shape == (2, 3, 2, 33)
    assert made.last.shape == (2, 33, 3, 2)
    assert made.addresses == (made.start.data_ptr(), made.v.data_ptr(), made.y.data_ptr(), 0)


def test_what_is_not_given_has_address_zero():
    made = tensors(WORDS, (3, 2), 33, steps=3)
    assert made.v is made.last is made.start is made.extra is None
    assert made.addresses == (0, 0, made.y.data_ptr(), 0)


def test_extra_is_made_contiguous():
    extra = torch.zeros(6, 3, 2, 4, dtype=torch.int32)[..., ::2]
    made = tensors(WORDS, (3, 2), 33, steps=3, add=(extra, 1))
    assert made.extra.is_contiguous()
    assert made.addresses[3] == made.extra.data_ptr()


def test_into_is_written_if_it_fits():
    into = torch.zeros(6, 3, 2, 2, dtype=torch.int32)
    assert tensors(WORDS, (3, 2), 33, steps=3, into=into).y is into
    for bad in (into.long(), into[:, :2], torch.zeros(6, 3, 2, 4, dtype=torch.int32)[..., ::2]):
        with pytest.raises(UnsupportedError, match="expected int32"):
            tensors(WORDS, (3, 2), 33, steps=3, into=bad)
