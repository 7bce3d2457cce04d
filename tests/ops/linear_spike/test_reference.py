"""The linear layer's truth against a plain matrix product."""

import torch

from sparseflow.ops.lif import LIFParams
from sparseflow.ops.lif.reference import lif, pack_spikes
from sparseflow.ops.linear_spike import reference


def test_matrix_product():
    x = (torch.rand(6, 40) < 0.3).double()
    weight, bias = torch.randn(7, 40).double(), torch.randn(7).double()
    want = x @ weight.T + bias
    torch.testing.assert_close(reference.spike_linear(x, weight, bias), want)
    torch.testing.assert_close(reference.linear_words(pack_spikes(x), weight, bias), want)
    spikes, v = lif(want, LIFParams(), steps=2)
    words, last = reference.linear_lif(pack_spikes(x), weight, bias, LIFParams(), steps=2)
    assert torch.equal(words, pack_spikes(spikes))
    torch.testing.assert_close(last, v)
