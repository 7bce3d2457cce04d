"""The products' truth, and the operators on the CPU."""

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.ops import spike_matmul as ops
from sparseflow.ops.lif import pack_spikes
from sparseflow.ops.spike_matmul import reference


def rows(b, m, k, seed=0, density=0.3):
    x = (torch.rand(b, m, k, generator=torch.Generator().manual_seed(seed)) < density).float()
    return x, pack_spikes(x.reshape(b * m, k)).reshape(b, m, -1)


def test_products():
    (q, qw), (k, kw), (v, vw) = rows(2, 5, 40), rows(2, 7, 40, 1), rows(2, 7, 33, 2)
    assert torch.equal(reference.unpack_rows(qw, 40), q)
    other, bias = torch.randn(2, 40, 6), torch.randn(6)
    torch.testing.assert_close(ops.bits_matmul(qw, other, bias, channels=40), q @ other + bias)
    torch.testing.assert_close(ops.spike_linear(qw, other[0].t(), bias), q @ other[0] + bias)
    x = torch.randn(2, 3, 7)
    torch.testing.assert_close(ops.matmul_bits(x, vw, channels=33), x @ v)
    assert torch.equal(ops.gram(qw, kw, channels=40, scale=0.5), q @ k.mT * 0.5)
    assert torch.equal(ops.attend(qw, kw, vw, channels=40, out_channels=33, scale=0.125), (q @ k.mT) @ v * 0.125)


def test_bad_operands_are_named():
    _, w = rows(2, 5, 40)
    with pytest.raises(ConfigError, match=r"expected int32 \[B, L, 1\]"):
        ops.gram(w, w, channels=32)
    with pytest.raises(ConfigError, match="other is"):
        ops.bits_matmul(w, torch.ones(3, 40, 1), channels=40)
    with pytest.raises(ConfigError, match="bias is"):
        ops.bits_matmul(w, torch.ones(40, 3), torch.ones(4), channels=40)
    with pytest.raises(ConfigError, match="weight is"):
        ops.spike_linear(w, torch.ones(40))
    with pytest.raises(ConfigError, match="matmul_bits"):
        ops.matmul_bits(torch.ones(2, 3, 4), w, channels=40)
    with pytest.raises(ConfigError, match="one batch size"):
        ops.gram(w, w[:1], channels=40)
    with pytest.raises(ConfigError, match="attend"):
        ops.attend(w, w, w[:, :4], channels=40, out_channels=40)


def test_opcheck():
    _, w = rows(2, 5, 40)
    check, library = torch.library.opcheck, torch.ops.sparseflow
    check(library.bits_matmul.default, (w, torch.randn(40, 3), None, 40))
    check(library.matmul_bits.default, (torch.randn(2, 3, 5), w, 40))
    check(library.spike_gram.default, (w, w, 40, 1.0))
    check(library.spike_attend.default, (w, w, w, 40, 40, 1.0))
