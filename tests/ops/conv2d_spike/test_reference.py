"""The convolution's truth against a sum written out by hand."""

import itertools

import pytest
import torch

from sparseflow.ops.conv2d_spike import reference
from sparseflow.ops.conv2d_spike.reference import Geometry
from sparseflow.ops.lif import LIFParams
from sparseflow.ops.lif.reference import lif, pack_spikes


def by_hand(x, weight, bias, moves):
    m, _, h, w = x.shape
    cout, cg, kh, kw = weight.shape
    ho, wo = moves.output((h, w), (kh, kw))
    y = torch.zeros(m, cout, ho, wo, dtype=x.dtype) + (0 if bias is None else bias[:, None, None])
    for o, i, j, c, a, b in itertools.product(range(cout), range(ho), range(wo), range(cg), range(kh), range(kw)):
        row = i * moves.stride[0] - moves.padding[0] + a * moves.dilation[0]
        col = j * moves.stride[1] - moves.padding[1] + b * moves.dilation[1]
        if 0 <= row < h and 0 <= col < w:
            group = o // (cout // moves.groups)
            y[:, o, i, j] += weight[o, c, a, b] * x[:, group * cg + c, row, col]
    return y


@pytest.mark.parametrize(
    "moves",
    [
        Geometry(),
        Geometry(padding=(1, 1)),
        Geometry((2, 1), (1, 0), (1, 2)),
        Geometry(padding=(1, 1), groups=2),
        Geometry((2, 2), (2, 2), (2, 2), 4),
    ],
    ids=str,
)
def test_sum_by_hand(moves):
    g = torch.Generator().manual_seed(0)
    x = (torch.rand(2, 4, 5, 6, generator=g) < 0.4).double()
    weight = torch.randn(4, 4 // moves.groups, 3, 3, generator=g, dtype=torch.float64)
    bias = torch.randn(4, generator=g, dtype=torch.float64)
    want = by_hand(x, weight, bias, moves)
    torch.testing.assert_close(reference.spike_conv2d(x, weight, bias, moves), want)
    torch.testing.assert_close(reference.conv_words(pack_spikes(x), weight, bias, moves), want)
    spikes, v = lif(want + 0.1, LIFParams(), steps=2)
    got = reference.conv_lif(
        pack_spikes(x), weight, bias, LIFParams(), moves, steps=2, residual=torch.full_like(want, 0.1)
    )
    assert torch.equal(got[0], pack_spikes(spikes))
    torch.testing.assert_close(got[1], v)
