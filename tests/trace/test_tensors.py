"""Where tensors are and what they hold."""

from dataclasses import dataclass

import pytest
import torch

from sparseflow.trace._tensors import describe, dtype_name, shares_memory, tensors_in


def test_tensors_in_nested_values() -> None:
    @dataclass
    class State:
        v: torch.Tensor
        steps: int = 3

    a, b, c, d = (torch.ones(n) for n in (1, 2, 3, 4))
    assert [t.numel() for t in tensors_in(({"x": a}, [b, None, "s"], (c,), State(d)))] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0, 1.0], (2, "spikes")),
        ([0.0, 0.0], (0, "spikes")),
        ([0.0, 2.0, 1.0], (2, "counts")),
        ([0.0, -1.0], (1, "any")),
        ([0.5, 1.0], (2, "any")),
        ([1.0, 1.0, 0.5], (3, "any")),
        ([float("nan")], (1, "any")),
        ([], (0, "any")),
    ],
)
def test_what_a_tensor_holds(values: list[float], expected: tuple[int, str]) -> None:
    assert describe(torch.tensor(values)) == expected
    assert describe(torch.tensor([values, values]))[1] == expected[1]


def test_what_one_row_hides() -> None:
    assert describe(torch.tensor([[0.0, 1.0], [0.5, 1.0]])) == (3, "any")
    assert describe(torch.tensor([[0.0, 1.0], [3.0, 1.0]])) == (3, "counts")


def test_other_types() -> None:
    assert describe(torch.tensor([True, False])) == (1, "spikes")
    assert describe(torch.tensor([3, 0])) == (1, "counts")
    assert describe(torch.tensor([1j])) == (0, "any")
    assert dtype_name(torch.ones(1, dtype=torch.bfloat16)) == "bfloat16"


def test_shared_memory() -> None:
    x = torch.ones(4)
    assert shares_memory(x, x[1:])
    assert not shares_memory(x, x.clone())
    assert not shares_memory(x, x.to_sparse())
