"""The truth by hand, and torch's own form held to it."""

import pytest
import torch

from sparseflow.ops.token_gather import reference, token_gather, token_scatter

SHAPES = [(2, 7, 3, 4), (1, 1, 1, 1), (3, 9, 5, 9), (2, 6, 4, 0), (0, 5, 3, 2), (2, 5, 0, 3), (2, 1568, 3, 784)]


def case(batch, length, width, k, dtype=torch.float32):
    torch.manual_seed(length)
    index = torch.stack([torch.randperm(length)[:k] for _ in range(batch)]) if batch else torch.zeros(0, k).long()
    x = torch.randn(batch, length, width)
    return (x * 50).to(dtype) if dtype == torch.int64 else x.to(dtype), index


def test_by_hand():
    x = torch.tensor([[[1.0], [2.0], [3.0]]])
    index = torch.tensor([[2, 0]])
    assert reference.gather(x, index).tolist() == [[[3.0], [1.0]]]
    assert reference.scatter(torch.tensor([[[5.0], [6.0]]]), index, 4).tolist() == [[[6.0], [0.0], [5.0], [0.0]]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_dense_is_the_truth(shape, dtype):
    x, index = case(*shape, dtype)
    y = reference.gather(x, index)
    assert torch.equal(token_gather(x, index), y)
    assert torch.equal(token_scatter(y, index, x.shape[1]), reference.scatter(y, index, x.shape[1]))
    assert torch.equal(token_gather(x[..., 0], index), y[..., 0]) if shape[2] else True


def test_rows_may_be_pieces_of_wider_ones():
    wide, index = case(2, 8, 12, 5)
    for x in (wide[..., 3:7], wide[:, ::2], wide.transpose(1, 2)):
        places = index.clamp(max=x.shape[1] - 1)[:, :1]
        assert torch.equal(token_gather(x, places), reference.gather(x, places))
        assert torch.equal(token_scatter(x[:, :1], places, 9), reference.scatter(x[:, :1], places, 9))


def test_there_and_back():
    x, index = case(3, 11, 4, 11)
    assert torch.equal(token_scatter(token_gather(x, index), index, 11), x)


def test_places_beyond_the_sequence_are_refused_on_cpus():
    with pytest.raises(IndexError):
        token_gather(torch.zeros(1, 3, 2), torch.tensor([[3]]))
