"""The dynamic programme against every configuration there is, with counts and with weights."""

import time

import pytest
import torch
from torch import Tensor

from sparseflow.compress.approximate.codes import MASKS, RELATIVE, SEED, Masks, sample_codes
from sparseflow.compress.approximate.dp import optimal_codes, segment_error
from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.triseg.reference import tri_segment
from tests.tolerances import relative


def every(masks: Masks, tops: range) -> Tensor:
    """All configurations of one site that the masks allow."""
    found = []
    for tmax in tops:
        axis = torch.arange(tmax + 1)
        t1, t2 = torch.cartesian_prod(axis, axis).unbind(1)
        t1, t2 = t1[t1 < t2], t2[t1 < t2]
        v = torch.cartesian_prod(axis, axis)
        codes = torch.stack(
            torch.broadcast_tensors(
                t1[:, None], v[None, :, 0], t2[:, None], v[None, :, 1], torch.full((1, 1), tmax, dtype=torch.int64)
            ),
            -1,
        ).reshape(-1, 5)
        found.append(codes[masks.holds(codes)])
    return torch.cat(found)


def errors(histogram: Tensor, codes: Tensor, mode: str) -> Tensor:
    """Squared errors `[S, M]` of M configurations, without prefix sums."""
    moved = torch.tensor(
        [[float(q - tri_segment(q, row, mode)) ** 2 for q in range(64)] for row in codes.tolist()], dtype=torch.float64
    )
    assert not bool(histogram[:, 64:].any())
    return histogram[:, :64].double() @ moved.T


def escapes(histogram: Tensor, tmax: Tensor) -> Tensor:
    """Counts beyond each tmax, `[S, M]`."""
    return histogram.double() @ (torch.arange(256)[:, None] > tmax).double()


def random_histograms(count: int, top: int, seed: int) -> Tensor:
    """Counts over codes 0 to `top`, some sparse, some steep, some with a lone code."""
    g = torch.Generator().manual_seed(seed)
    h = torch.zeros(count, 256, dtype=torch.int64)
    steep = torch.exp(-torch.rand(count, 1, generator=g) * torch.arange(top + 1))
    h[:, : top + 1] = (torch.rand(count, top + 1, generator=g) * steep * 10**6).long()
    h[::3, : top + 1] *= (torch.rand(len(h[::3]), top + 1, generator=g) < 0.3).long()
    h[::7, : top + 1] = 0
    h[::7, 1 + torch.randint(top, (1,), generator=g).item()] = 5
    return h


@pytest.mark.parametrize("mode", ["pass", "clip", "saturate"])
@pytest.mark.parametrize(("masks", "tmax"), [(RELATIVE, 2), (RELATIVE, 3), (RELATIVE, 9), (SEED, 7), (SEED, 13)])
def test_equals_brute_force_at_a_given_tmax(masks: Masks, tmax: int, mode: str) -> None:
    histogram = random_histograms(300, 15, seed=tmax)
    best = optimal_codes(histogram, tmax=[tmax] * 300, masks=masks, mode=mode)
    codes = every(masks, range(tmax, tmax + 1))
    want = errors(histogram, codes, mode).min(1).values
    assert torch.equal(best.error, want)
    assert bool(masks.holds(best.codes).all())
    assert torch.equal(segment_error(histogram, best.codes, mode=mode), want)


@pytest.mark.parametrize("mode", ["pass", "clip", "saturate"])
@pytest.mark.parametrize(("masks", "reach"), [(RELATIVE, (2, 11)), (SEED, (7, 14))])
def test_equals_brute_force_with_a_free_tmax(masks: Masks, reach: tuple[int, int], mode: str) -> None:
    histogram = random_histograms(300, 15, seed=reach[0])
    best = optimal_codes(histogram, masks=masks, mode=mode, escape_price=12.0, tmax_range=reach)
    codes = every(masks, range(reach[0], reach[1] + 1))
    price = 12.0 if mode == "pass" else 0.0
    want = (errors(histogram, codes, mode) + price * escapes(histogram, codes[:, 4])).min(1).values
    got = best.error + price * escapes(histogram, best.codes[:, 4]).diagonal()
    assert torch.equal(got, want)
    assert bool(masks.holds(best.codes).all())


def test_equals_brute_force_over_all_31629_choices() -> None:
    g = torch.Generator().manual_seed(5)
    histogram = torch.zeros(1000, 256, dtype=torch.int64)
    histogram[:, :50] = torch.randint(0, 2000, (1000, 50), generator=g)
    histogram[::2, :50] = (histogram[::2, :50] * torch.exp(-torch.arange(50) / 9)).long()
    codes = every(SEED, range(35, 36))
    assert len(codes) == 31_629
    moved = (torch.arange(256) - _tables(codes))[:, :50]
    squared = moved.square().double().T
    want = torch.cat([(part[:, :50].double() @ squared).min(1).values for part in histogram.split(50)])
    best = optimal_codes(histogram, tmax=[35] * 1000, masks=SEED)
    assert torch.equal(best.error, want)
    assert bool((optimal_codes(histogram, tmax=[35] * 1000).error <= best.error).all())


def _tables(codes: Tensor) -> Tensor:
    q = torch.arange(256)
    t1, v1, t2, v2, tmax = codes[..., None].unbind(-2)
    return torch.where(q <= t1, 0, torch.where(q <= t2, v1, torch.where(q <= tmax, v2, q)))


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_weights_that_are_no_counts(masks: Masks) -> None:
    g = torch.Generator().manual_seed(9)
    histogram = torch.zeros(100, 256, dtype=torch.float64)
    histogram[:, :14] = torch.rand(100, 14, generator=g, dtype=torch.float64) ** 6 * 10.0 ** torch.arange(-12, 13)[:14]
    best = optimal_codes(histogram, tmax=[12] * 100, masks=masks)
    want = errors(histogram, every(masks, range(12, 13)), "pass").min(1).values
    scale = histogram.sum(1) * 255**2
    assert bool(((best.error - want).abs() <= relative("triseg_dp", torch.float64) * scale).all())


def test_no_draw_is_better_at_full_range() -> None:
    g = torch.Generator().manual_seed(2)
    tmax = torch.tensor([127, 60, 255, 15])
    histogram = (torch.rand(4, 256, generator=g) * torch.exp(-torch.arange(256) / 30) * 1e5).long()
    for mode in ("pass", "clip", "saturate"):
        best = optimal_codes(histogram, tmax=tmax, mode=mode)
        drawn = sample_codes(tmax, 3000, seed=0)
        assert bool((segment_error(histogram, drawn, mode=mode) >= best.error).all())


def test_four_lone_codes_cost_nothing() -> None:
    histogram = torch.zeros(1, 256, dtype=torch.int64)
    histogram[0, [0, 40, 90, 200]] = 7
    best = optimal_codes(histogram, tmax=[127])
    assert best.error.tolist() == [0.0]
    t1, v1, t2, v2, _ = best.codes[0].tolist()
    assert (v1, v2) == (40, 90)
    assert t1 < 40 <= t2 < 90
    histogram[0, 200] = 0
    clipped = optimal_codes(histogram, tmax=[127], mode="clip")
    assert clipped.error.tolist() == [0.0]


def test_a_dearer_escape_moves_tmax_up() -> None:
    histogram = (torch.exp(-torch.arange(256) / 12.0) * 1e6).long()[None]
    tops = [int(optimal_codes(histogram, escape_price=p).codes[0, 4]) for p in (1.0, 10.0, 100.0, 1000.0)]
    assert tops == sorted(tops)
    assert tops[0] < tops[-1]


def test_a_silent_site_gets_the_first_guess() -> None:
    histogram = torch.zeros(2, 256, dtype=torch.int64)
    histogram[:, 0] = 9
    histogram[1, 20] = 1
    best = optimal_codes(histogram, tmax=[35, 35])
    assert best.codes[0].tolist() == [7, 14, 21, 28, 35]
    assert best.error.tolist() == [0.0, 0.0]
    assert optimal_codes(histogram, escape_price=1.0).codes[0].tolist() == [6, 12, 19, 25, 32]


def test_no_sites() -> None:
    for tmax in ([], None):
        best = optimal_codes(torch.zeros(0, 256), tmax=tmax, escape_price=1.0)
        assert best.codes.shape == (0, 5)
        assert best.error.shape == (0,)


def test_the_same_codes_every_time() -> None:
    histogram = random_histograms(20, 100, seed=3)
    first, again = (optimal_codes(histogram, tmax=[80] * 20) for _ in range(2))
    assert torch.equal(first.codes, again.codes)


def test_a_network_takes_less_than_a_tenth_of_a_second() -> None:
    histogram = (torch.rand(13, 256) * torch.exp(-torch.arange(256) / 20) * 1e6).long()
    times_s = []
    for tmax in ([127] * 13, None) * 3:
        start = time.perf_counter()
        optimal_codes(histogram, tmax=tmax, escape_price=10.0)
        times_s.append(time.perf_counter() - start)
    assert min(times_s[::2]) < 0.1
    assert min(times_s[1::2]) < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tmax": [35], "mode": "wrap"}, "mode is 'wrap'; expected one of pass, clip, saturate"),
        ({"tmax": [35, 35]}, r"tmax has shape \(2,\); the histogram has 1 sites"),
        ({"tmax": [6], "masks": SEED}, r"tmax is \[6\]; masks 'seed' need 7 to 255"),
        ({"tmax": [256]}, "need 2 to 255"),
        ({}, "escape_price is 0.0; to choose tmax in mode 'pass' it must be positive"),
        ({"escape_price": float("inf")}, "escape_price is inf"),
        ({"escape_price": 1.0, "tmax_range": (20, 15)}, r"tmax_range is \(20, 15\)"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        optimal_codes(torch.ones(1, 256), **settings)


def test_histograms_are_checked() -> None:
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match="negative or not finite"):
            optimal_codes(torch.full((1, 256), bad), tmax=[35])
    with pytest.raises(DataError, match=r"shape \(256,\); expected \[L, 256\]"):
        segment_error(torch.ones(256), torch.tensor([[7, 14, 21, 28, 35]]))
