"""Kernels of gathering, the registered operators, their gradients and refusals."""

import pytest
import torch

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir import Layer, Operand
from sparseflow.ops import get
from sparseflow.ops.token_gather import OP, token_gather, token_scatter
from tests.ops.test_op import CPU, GPU
from tests.ops.token_gather.test_reference import case

GATHER, SCATTER = torch.ops.sparseflow.token_gather.default, torch.ops.sparseflow.token_scatter.default


def layer():
    roles = {"input": (2, 8, 4), "index": (2, 3), "output": (2, 3, 4)}
    return Layer(name="g", op="token_gather", operands=tuple(Operand(role=r, shape=s) for r, s in roles.items()))


def test_it_is_registered():
    assert get("token_gather") is OP


def test_refusals_and_cost():
    found = {c.kernel: c.refusal for c in OP.candidates(layer(), CPU)}
    assert found["dense"] is None
    assert "is a cpu" in found["triton"]
    assert all(c.refusal is None for c in OP.candidates(layer(), GPU))
    assert OP.flops(layer()) == 0
    assert OP.bytes(layer()) == 2 * layer().operand("output").bytes + layer().operand("index").bytes


def test_gradients():
    x, index = case(2, 5, 3, 3, torch.float64)
    assert torch.autograd.gradcheck(lambda t: token_gather(t, index), x.requires_grad_())
    assert torch.autograd.gradcheck(lambda t: token_gather(t[..., 0], index), x)
    y = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: token_scatter(t, index, 5), y)
    assert torch.autograd.gradgradcheck(lambda t: token_gather(t, index).sin(), x)


@pytest.mark.parametrize("shape", [(2, 7, 3, 4), (2, 6, 4, 0)])
def test_opcheck(shape):
    x, index = case(*shape)
    torch.library.opcheck(GATHER, (x.requires_grad_(), index, "auto"))
    y = torch.randn(*index.shape, shape[2], requires_grad=True)
    torch.library.opcheck(SCATTER, (y, index, shape[1], "auto"))


def test_it_compiles_to_one_graph_of_torchs_own():
    x, index = case(2, 7, 3, 4)

    def there_and_back(x):
        return token_scatter(token_gather(x, index), index, 7)

    compiled = torch.compile(there_and_back, backend="aot_eager", fullgraph=True)
    x.requires_grad_()
    assert torch.equal(compiled(x), there_and_back(x))
    (grad,) = torch.autograd.grad(compiled(x).sum(), x)
    assert grad.sum(2).tolist() == token_scatter(torch.full((2, 4), 3.0), index, 7).tolist()


@pytest.mark.parametrize(
    ("x", "index", "says"),
    [
        (torch.ones(2), torch.zeros(2, 1).long(), "expected .B, L, C."),
        (torch.ones(2, 3, 4), torch.zeros(3, 1).long(), r"index \[3, 1\]"),
        (torch.ones(2, 3, 4), torch.zeros(2, 1), "torch.float32 on cpu; expected torch.int64"),
        (torch.ones(2, 3, 4, device="meta"), torch.zeros(2, 1).long(), "expected torch.int64 on meta"),
    ],
)
def test_faulty_operands_are_named(x, index, says):
    with pytest.raises(ConfigError, match=says):
        token_gather(x, index)


def test_other_refusals():
    x, index = case(2, 7, 3, 4)
    with pytest.raises(ConfigError, match="kernel is 'fast'"):
        token_gather(x, index, kernel="fast")
    with pytest.raises(UnsupportedError, match="takes CUDA tensors"):
        token_gather(x, index, kernel="triton")
    with pytest.raises(ConfigError, match="no more than tokens"):
        token_scatter(x[:, :4], index, 3)
    with pytest.raises(ConfigError, match="as many rows as places"):
        token_scatter(x, index, 9)
