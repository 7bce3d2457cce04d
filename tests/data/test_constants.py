import torch

from sparseflow.data._constants import constant

CPU = torch.device("cpu")


def test_made_once_for_each_type():
    assert constant(((1, 2), (3, 4)), CPU) is constant(((1, 2), (3, 4)), CPU)
    assert constant(((1, 2), (3, 4)), CPU).tolist() == [[1, 2], [3, 4]]
    assert constant((1, 2), CPU, torch.float32).dtype == torch.float32
    assert constant((1, 2), CPU).dtype == torch.int64
