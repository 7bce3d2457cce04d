import pytest
import torch
from torch import nn

pytest.importorskip("spikingjelly")

from benchmarks.coverage_gpu import rivals


def test_every_eager_form_computes_the_forward_and_leaves_the_network_as_it_was():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    x = torch.rand(2, 3, 6, 6)
    before = net[0].weight.clone()
    found, failures = rivals(net, x, compile=False)
    assert set(found) | set(failures) == {"eager float32", "eager float16"}
    torch.testing.assert_close(found["eager float32"](), net(x))
    assert net[0].weight.dtype == torch.float32
    assert torch.equal(net[0].weight, before)


def test_a_form_that_breaks_is_noted():
    class Picky(nn.Module):
        def forward(self, x):
            if x.dtype == torch.float16:
                raise RuntimeError("float32 only")
            return x

    found, failures = rivals(Picky(), torch.ones(1), compile=False)
    assert list(found) == ["eager float32"]
    assert "float32 only" in failures["eager float16"]
