"""The Triton products against the truth; in the interpreter where there is no GPU."""

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from sparseflow.ops.lif import reference as neuron
from sparseflow.ops.spike_matmul import reference, triton
from tests.tolerances import assert_near

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = [(1, 1, 1, 1), (2, 5, 40, 7), (3, 65, 64, 33), (1, 70, 100, 66)]
DTYPES = [torch.float32, torch.float16]


def rows(b, m, k, seed=0, density=0.3):
    x = (torch.rand(b, m, k, generator=torch.Generator().manual_seed(seed)) < density).float()
    return neuron.pack_spikes(x.reshape(b * m, k)).reshape(b, m, -1).to(DEVICE)


def noise(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(DEVICE, dtype)


def poisoned(*shape, dtype=torch.float32):
    return torch.full(shape, torch.nan, dtype=dtype, device=DEVICE)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_floats(size, dtype):
    b, m, k, n = size
    words, other, bias = rows(b, m, k), noise(b, k, n, dtype=dtype), noise(n, dtype=dtype)
    for factor in (other, other[0], other.mT.contiguous().mT):
        y = poisoned(b, m, n, dtype=dtype)
        triton.bits_matmul(words, factor, bias, k, y)
        want = reference.bits_matmul(words, factor.float(), bias.float(), k)
        assert_near(y, want.to(dtype), "spike_matmul")
    x, values = noise(b, n, k, dtype=dtype), rows(b, k, m)
    y = poisoned(b, n, m, dtype=dtype)
    triton.matmul_bits(x, values, m, y)
    assert_near(y, reference.matmul_bits(x.float(), values, m).to(dtype), "spike_matmul")


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("size", SIZES)
def test_counts_are_exact(size, density):
    b, m, d, n = size
    q, k, v = rows(b, m, d, 0, density), rows(b, n, d, 1, density), rows(b, n, m, 2, density)
    y = poisoned(b, m, n)
    triton.gram(q, k, 0.5, y)
    assert torch.equal(y, reference.gram(q, k, d, 0.5))
    y = poisoned(b, m, m)
    triton.attend(q, k, v, m, 0.25, y)
    assert torch.equal(y, reference.attend(q, k, v, d, m, 0.25))


def test_nothing_in_nothing_out():
    words, empty = rows(1, 3, 33), torch.empty(0, 3, 2, dtype=torch.int32, device=DEVICE)
    triton.bits_matmul(empty, noise(33, 4), None, 33, torch.empty(0, 3, 4))
    triton.matmul_bits(noise(1, 0, 3), words, 33, torch.empty(1, 0, 33))
    triton.gram(empty, empty, 1.0, torch.empty(0, 3, 3))
    triton.attend(empty, empty, empty, 33, 1.0, torch.empty(0, 3, 33))
