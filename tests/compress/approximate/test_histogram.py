"""Counts, percentiles by rank, tmax, the policy's state, coverage; against plain Python."""

import math
import statistics

import pytest
import torch
from torch import Tensor

from sparseflow.compress.approximate.histogram import Histograms, TmaxRule, coverage, layer_states, percentile_codes
from sparseflow.errors import ConfigError, DataError


def counted(*codes: list[int]) -> Tensor:
    return torch.stack([torch.bincount(torch.tensor(c, dtype=torch.int64), minlength=256) for c in codes])


def draws(n: int, seed: int, top: int = 128) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(n, generator=generator) ** 3
    return (spread * top).floor().long().tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64, torch.float16])
def test_counts(dtype: torch.dtype) -> None:
    h = Histograms(["conv1", "fc1"])
    first, second = torch.tensor([[0, 3], [3, 127]]), torch.tensor([255, 0, 0])
    h.add("conv1", first.to(dtype))
    h.add("conv1", second.to(dtype))
    assert h.counts.dtype == torch.int64
    assert torch.equal(h.counts, counted([0, 3, 3, 127, 255, 0, 0], []))


def test_fisher_is_the_sum_of_squared_gradients_by_code() -> None:
    h = Histograms(["a"])
    codes, gradient = torch.tensor([[0.0, 3.0, 3.0]]), torch.tensor([[2.0, -1.0, 0.5]])
    h.add("a", codes, gradient)
    h.add("a", codes[:, :1], gradient[:, :1])
    assert h.fisher[0].nonzero().flatten().tolist() == [0, 3]
    assert h.fisher[0, [0, 3]].tolist() == [8.0, 1.25]
    assert h.fisher.dtype == torch.float64


def test_fisher_repeats_bit_for_bit() -> None:
    codes = torch.tensor(draws(5000, 0), dtype=torch.float32)
    gradient = torch.randn(5000)
    first, again = Histograms(["a"]), Histograms(["a"])
    for h in (first, again):
        h.add("a", codes, gradient)
    assert torch.equal(first.fisher, again.fisher)
    pairs = list(zip(codes.tolist(), gradient.tolist(), strict=True))
    want = [math.fsum(g * g for q, g in pairs if q == k) for k in range(256)]
    assert torch.allclose(first.fisher[0], torch.tensor(want, dtype=torch.float64), rtol=1e-12)


def test_fisher_asks_for_every_gradient() -> None:
    h = Histograms(["a", "b"])
    codes = torch.ones(3)
    with pytest.raises(DataError, match="no gradients of a, b; give them with every batch"):
        _ = h.fisher
    h.add("a", codes, codes)
    h.add("b", codes)
    h.add("b", codes, codes)
    with pytest.raises(DataError, match="no gradients of b;"):
        _ = h.fisher
    h = Histograms(["a"])
    h.add("a", codes, codes)
    h.add("a", codes)
    with pytest.raises(DataError, match="no gradients of a;"):
        _ = h.fisher


def test_an_empty_batch_changes_nothing() -> None:
    h = Histograms(["a"])
    h.add("a", torch.empty(0, 4))
    assert int(h.counts.sum()) == 0


@pytest.mark.parametrize("bad", [12.5, -1.0, 256.0, math.nan, math.inf])
def test_what_is_no_code_is_refused(bad: float) -> None:
    h = Histograms(["conv1"])
    with pytest.raises(DataError, match=r"site 'conv1': (12.5|-1.0|256.0|nan|inf) is no code; .* quantize first"):
        h.add("conv1", torch.tensor([3.0, bad]))
    with pytest.raises(DataError, match="site 'conv1': -3 is no code"):
        h.add("conv1", torch.tensor([3, -3], dtype=torch.int8))
    assert int(h.counts.sum()) == 0


def test_what_does_not_fit_is_refused() -> None:
    h = Histograms(["conv1"])
    with pytest.raises(ConfigError, match="no site 'conv9'; there are conv1"):
        h.add("conv9", torch.zeros(1))
    with pytest.raises(DataError, match=r"codes \(2,\) but gradients \(3,\)"):
        h.add("conv1", torch.zeros(2), torch.zeros(3))
    with pytest.raises(DataError, match="a gradient is not finite"):
        h.add("conv1", torch.zeros(2), torch.tensor([1.0, math.inf]))
    for names in ([], ["a", "a"]):
        with pytest.raises(ConfigError, match="names of their own"):
            Histograms(names)


@pytest.mark.parametrize("percent", [0.0, 20.0, 50.0, 90.0, 100.0])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("n", [1, 2, 6, 7, 11, 16, 500])
def test_percentile_is_the_code_at_its_rank(percent: float, zeros: bool, n: int) -> None:
    codes = draws(n, n)
    kept = sorted(c for c in codes if zeros or c)
    want = kept[round(percent / 100 * (len(kept) - 1))] if kept else 0
    assert percentile_codes(counted(codes), percent, zeros=zeros).tolist() == [want]


def test_percentile_of_many_codes() -> None:
    counts = torch.zeros(1, 256, dtype=torch.int64)
    counts[0, 5], counts[0, 90] = 9 * 10**12, 10**12 + 2
    assert percentile_codes(counts).tolist() == [90]
    counts[0, 90] = 10**12 - 2
    assert percentile_codes(counts).tolist() == [5]


def test_percentile_without_codes_or_beyond_its_range() -> None:
    for percent in (0.0, 50.0, 90.0, 100.0):
        assert percentile_codes(counted([], [0, 0]), percent).tolist() == [0, 0]
    assert percentile_codes(counted([]), zeros=True).tolist() == [0]
    for percent in (-1.0, 101.0, math.nan):
        with pytest.raises(ConfigError, match="expected 0 to 100"):
            percentile_codes(counted([1]), percent)


def test_tmax_of_the_earlier_project() -> None:
    counts = counted([25] * 10, [1] * 10, [0] * 10, [125] * 10, [255] * 10)
    assert TmaxRule(mode="percentile")(counts).tolist() == [35, 15, 32, 127, 127]
    assert TmaxRule(mode="percentile", high=255)(counts).tolist() == [35, 15, 32, 135, 255]
    assert TmaxRule(mode="fixed")(counts).tolist() == [32] * 5
    assert TmaxRule(mode="fixed", fixed=7)(counts).tolist() == [7] * 5
    assert TmaxRule(mode="percentile", percentile=50, offset=0, low=1)(counts).tolist() == [25, 1, 32, 125, 127]
    assert TmaxRule(mode="percentile")(counts).dtype == torch.int64


def test_a_share_passes_unless_another_rule_is_named() -> None:
    counts = counted([0] * 90 + [50] * 10, [0] * 4 + list(range(96)))
    assert TmaxRule() == TmaxRule(mode="share")
    assert TmaxRule()(counts).tolist() == TmaxRule(percentile=96)(counts).tolist() == [50, 91]
    assert (
        TmaxRule(mode="percentile")(counts).tolist()
        == TmaxRule(mode="percentile", percentile=90, offset=10)(counts).tolist()
    )
    assert TmaxRule(percentile=90)(counts).tolist() == [7, 85]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "mean"}, "'mean'; expected one of share, percentile, fixed"),
        ({"percentile": 101}, "expected 0 to 100"),
        ({"low": 128}, "tmax runs from 128 to 127"),
        ({"fixed": 900}, "fixed tmax is 900"),
        ({"high": 256}, "tmax runs from 15 to 256"),
        ({"fixed": 0}, "fixed tmax is 0"),
        ({"offset": 10}, "mode 'share' has none; leave it out, or take mode 'percentile'"),
    ],
)
def test_tmax_rule_is_checked(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TmaxRule(**fields)


def test_states() -> None:
    codes = [draws(301, 1), [0] * 9 + [100], []]
    got = layer_states(counted(*codes))
    assert got.dtype == torch.float32
    for i, site in enumerate(codes):
        want = [i / 2, 0.0, 0.0, 0.0]
        if site:
            p90 = sorted(site)[round(0.9 * (len(site) - 1))]
            want[1:] = [statistics.fmean(site) / 255, statistics.pstdev(site) / 128, p90 / 255]
        assert got[i].tolist() == pytest.approx(want, abs=1e-6)


def test_a_single_site_has_a_state() -> None:
    assert layer_states(counted([0, 255])).tolist() == [pytest.approx([0.0, 0.5, 127.5 / 128, 1.0])]


def test_coverage() -> None:
    counts, tmax = counted([0, 0, 10, 20], [0], []), torch.tensor([10, 15, 15])
    assert coverage(counts, tmax).tolist() == [0.75, 1.0, 1.0]
    assert coverage(counts, tmax, ignore_zeros=True).tolist() == [0.5, 1.0, 1.0]
    assert coverage(counts, tmax).dtype == torch.float64


def test_a_share_of_all_codes_bounds_what_passes() -> None:
    g = torch.Generator().manual_seed(5)
    counts = torch.zeros(4, 256, dtype=torch.int64)
    counts[:3, :100] = torch.randint(0, 50, (3, 100), generator=g)
    counts[1, 0] = 10**6
    counts[2, 9:] = 0
    counts[3, 0] = 5
    for percent in (90.0, 97.0, 100.0):
        tops = TmaxRule(mode="share", percentile=percent)(counts)
        assert tops[3] == 32
        assert (tops[:3] >= 7).all()
        assert tops[1] == 7 or percent == 100.0
        passing = torch.stack([counts[i, int(t) + 1 :].sum() / counts[i].sum() for i, t in enumerate(tops)])
        assert (passing <= 1 - percent / 100 + 1e-9).all()
