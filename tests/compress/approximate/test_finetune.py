import pytest
import torch
from torch import nn

from sparseflow.compress.approximate.codes import clamp_codes, sample_codes
from sparseflow.compress.approximate.dp import segment_error
from sparseflow.compress.approximate.finetune import SegmentedNet, roomy
from sparseflow.compress.approximate.fisher import code_histograms
from sparseflow.compress.quantize import prepare_qat, quantizers, to_integer
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import apply_tables, tables

MODES = ("pass", "clip", "saturate")


def make(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 25, 4),
    )  # fmt: skip
    return prepare_qat(net.train(), torch.randn(16, 3, 16, 16))


POINTS = {"conv1": "_2", "conv2": "_5"}
START = torch.tensor([[12, 20, 30, 45, 70], [5, 9, 14, 22, 40]])


@pytest.mark.parametrize("mode", MODES)
def test_the_integer_form_with_tables_computes_what_is_trained(mode):
    qat = make()
    net = SegmentedNet(qat, POINTS, START, mode=mode).eval()
    x = torch.randn(32, 3, 16, 16)
    with torch.no_grad():
        trained = net(x)
    integer = to_integer(net.release())
    rows = dict(zip(POINTS.values(), tables(net.codes, mode).unsqueeze(1), strict=True))
    changed = integer(x, tables=rows)
    # A code at a threshold may round the other way: an image then moves, the rest agree to float32.
    same = (trained - changed).abs().amax(1) < 1e-4
    assert same.float().mean() > 0.8
    assert not torch.allclose(changed, integer(x), atol=1e-2)
    assert all(q.replace is None for q in quantizers(qat).values())


@pytest.mark.parametrize("mode", MODES)
def test_training_lowers_the_loss_against_the_exact_network_and_keeps_the_order(mode):
    qat = make()
    x = torch.randn(64, 3, 16, 16)
    integer = to_integer(qat)
    target = integer(x)
    bad = torch.tensor([[1, 2, 3, 4, 70], [1, 2, 3, 4, 40]])
    net = SegmentedNet(qat, POINTS, bad, mode=mode).eval()
    for p in qat.parameters():
        p.requires_grad_(False)
    optimizer = torch.optim.Adam([net.real], lr=1.0)
    losses = []
    for _ in range(60):
        loss = (net(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        net.settle()
        codes = net.codes
        assert torch.equal(codes[:, 4], bad[:, 4])
        losses.append(loss.item())
    assert min(losses[-5:]) < 0.5 * losses[0]
    assert not torch.equal(net.codes, bad)


def test_settled_codes_are_in_order_from_anywhere():
    net = SegmentedNet(make(), POINTS, START)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        with torch.no_grad():
            net.real.copy_((torch.rand(2, 4, generator=generator) - 0.3) * 200)
        net.settle()
        assert torch.equal(clamp_codes(net.codes), net.codes)
        before = net.whole.clone()
        net.settle()
        assert torch.equal(net.whole, before)
        assert (net.real - net.whole[:, :4]).abs().max() <= 1.5


def test_weights_in_front_get_gradients_through_the_segments():
    qat = make()
    net = SegmentedNet(qat, POINTS, START)
    net(torch.randn(8, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in net.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_histograms_of_the_changed_network_are_of_the_codes_in_front_of_its_segments(mode):
    x = torch.randn(16, 3, 16, 16)
    qat = make()
    net = SegmentedNet(qat, POINTS, START, mode=mode).eval()
    seen = code_histograms(qat, POINTS, [x])
    assert bool((seen.fisher.sum(1) > 0).all())
    table, found = tables(net.codes, mode)[0], []

    def first(codes):
        found.append(codes)
        return apply_tables(codes, table)

    def second(codes):
        found.append(codes)
        return codes

    to_integer(net.release())(x, edits={"_2": first, "_5": second})
    for counts, codes in zip(seen.counts, found, strict=True):
        want = torch.bincount(codes.flatten().long(), minlength=256)
        # Float32 may round a sum that lies between two codes otherwise.
        assert int((counts - want).abs().sum()) <= 0.01 * int(want.sum())


@pytest.mark.parametrize("mode", MODES)
def test_codes_are_fitted_to_a_histogram(mode):
    net = SegmentedNet(make(), POINTS, START, mode=mode)
    counts = (torch.exp(-torch.arange(256) / torch.tensor([[9.0], [30.0]])) * 1e6).long()
    net.refit(counts)
    assert int(net.fits) == 1
    codes = net.codes
    assert torch.equal(net.real.detach(), codes[:, :4].float())
    tmax = START[:, 4]
    assert torch.equal(codes[:, 4], tmax) == (mode == "pass")
    drawn = sample_codes(tmax if mode == "pass" else codes[:, 4], 2000, seed=0)
    assert bool((segment_error(counts, drawn, mode=mode) >= segment_error(counts, codes, mode=mode)).all())
    if mode == "clip":
        assert torch.equal(codes, roomy(codes))
        assert bool((codes[:, 4] > codes[:, 3]).all())


@pytest.mark.parametrize(
    ("points", "codes", "settings", "why"),
    [
        ({"conv1": "nowhere"}, START[:1], {}, "rounds nothing at 'nowhere'"),
        (POINTS, START[:1], {}, "codes are for 1 sites"),
        (POINTS, START.flip(1), {}, "site conv1"),
        (POINTS, START, {"mode": "wrap"}, "mode is 'wrap'"),
        (POINTS, START, {"window": 0}, "window is 0"),
        ({"conv1": "_2", "input": "input_1"}, START, {}, "only a ReLU has sites"),
    ],
)
def test_what_cannot_be_is_refused(points, codes, settings, why):
    with pytest.raises(ConfigError, match=why):
        SegmentedNet(make(), points, codes, **settings)
