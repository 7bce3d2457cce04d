import pytest
import torch
from torch import nn

from sparseflow.compress.approximate.fisher import code_histograms
from sparseflow.compress.quantize import prepare_qat, quantizers, to_integer
from sparseflow.errors import ConfigError, DataError

POINTS = {"conv1": "_1", "fc1": "_4"}


def make():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 12), nn.ReLU(), nn.Linear(12, 4))
    return prepare_qat(net.eval(), torch.randn(16, 3, 8, 8))


def test_counts_are_those_of_the_integer_network():
    qat = make()
    batches = [torch.randn(9, 3, 8, 8), torch.randn(4, 3, 8, 8)]
    found = code_histograms(qat, POINTS, batches)
    net = to_integer(qat)
    for at, point in enumerate(POINTS.values()):
        codes = torch.cat([net.codes(x)[point].flatten() for x in batches]).long()
        counts = torch.bincount(codes, minlength=256)
        assert int(found.counts[at].sum()) == len(codes)
        # A sum at a half may round the other way in float32.
        assert int((found.counts[at] - counts).abs().sum()) <= 0.01 * len(codes)


def test_weights_are_squared_gradients_of_the_drawn_labels():
    qat = make()
    x = torch.randn(5, 3, 8, 8)
    found = code_histograms(qat, POINTS, [x], seed=3)
    log_p = torch.log_softmax(qat(x), 1)
    drawn = torch.multinomial(log_p.detach().exp(), 1, generator=torch.Generator().manual_seed(3))
    spec = quantizers(qat)["_4"].spec()
    head = qat.get_submodule("5")
    p = log_p.detach().exp()
    # d loss / d hidden = W^T (p - onehot), by hand; the hidden value is its code times the scale.
    onehot = torch.zeros_like(p).scatter_(1, drawn, 1.0)
    gradient = (p - onehot) @ head.weight(head.layer.weight).detach() * spec.scale
    hidden = to_integer(qat).codes(x)["_4"].long()
    expected = torch.zeros(256, dtype=torch.float64).index_add_(
        0, hidden.flatten(), gradient.flatten().double().square()
    )
    torch.testing.assert_close(found.fisher[1], expected, rtol=1e-3, atol=1e-9)


def test_the_network_is_left_as_it_was_and_the_seed_decides():
    qat = make().train()
    for p in qat.parameters():
        p.requires_grad_(False)
    x = torch.randn(6, 3, 8, 8)
    before = {k: v.clone() for k, v in qat.state_dict().items()}
    one, same, other = (code_histograms(qat, POINTS, [x], seed=s).fisher for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert qat.training
    assert all(torch.equal(v, before[k]) for k, v in qat.state_dict().items())
    assert all(q.edit is None for q in quantizers(qat).values())
    assert all(p.grad is None for p in qat.parameters())


def test_wrong_points_and_no_batches_are_refused():
    with pytest.raises(ConfigError, match="rounds nothing at nowhere"):
        code_histograms(make(), {"a": "nowhere"}, [torch.randn(1, 3, 8, 8)])
    with pytest.raises(DataError, match="no batch"):
        code_histograms(make(), POINTS, [])
