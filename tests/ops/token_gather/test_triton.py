"""The Triton kernels against the truth; in the interpreter where there is no GPU."""

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from sparseflow.ops.token_gather import reference, triton
from tests.ops.token_gather.test_reference import case

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("shape", [(2, 7, 3, 4), (1, 1, 1, 1), (3, 9, 5, 9), (2, 6, 4, 0), (2, 9, 1025, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64])
def test_kernels_are_the_truth(shape, dtype):
    x, index = (t.to(DEVICE) for t in case(*shape, dtype))
    y = reference.gather(x, index)
    assert torch.equal(triton.gather(x, index), y)
    assert torch.equal(triton.scatter(y, index, x.shape[1]), reference.scatter(y, index, x.shape[1]))


def test_strides_are_followed():
    wide, index = (t.to(DEVICE) for t in case(2, 8, 12, 4))
    for x in (wide[..., 3:7], wide[:, :, ::2], wide.transpose(0, 1)[:2]):
        places = index % x.shape[1]
        assert torch.equal(triton.gather(x, places), reference.gather(x, places))
    y = wide[:, :4, 2:9]
    assert torch.equal(triton.scatter(y, index, 8), reference.scatter(y, index, 8))


@pytest.mark.gpu
def test_the_operator_takes_them():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    from sparseflow.ops.token_gather import token_gather

    x, index = (t.cuda() for t in case(16, 1568, 768, 784, torch.bfloat16))
    want = x.gather(1, index.unsqueeze(-1).expand(-1, -1, 768))
    assert torch.equal(token_gather(x, index, kernel="triton"), want)
