"""Segment maps and their tables against the scalar truth, on all codes."""

import pytest
import torch
import torch.nn.functional as F

from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import SegmentMap, apply_tables, reference, tables

SEED = (7, 14, 21, 28, 35)
EDGES = [
    (0, 0, 0, 0, 0),
    (0, 0, 0, 255, 255),
    (255, 255, 255, 255, 255),
    (0, 1, 1, 1, 1),
    (5, 0, 5, 0, 5),
    (0, 255, 255, 255, 255),
    (2, 3, 6, 7, 15),
]


def random_params(n, seed=0):
    """Return `[n, 5]` codes in order: any thresholds, any values up to tmax, equal ones among them."""
    g = torch.Generator().manual_seed(seed)
    tops = torch.randint(1, 256, (n, 1), generator=g)
    thresholds = (torch.rand(n, 3, generator=g) * (tops + 1)).long().sort(dim=1).values
    values = (torch.rand(n, 2, generator=g) * (thresholds[:, 2:] + 1)).long().sort(dim=1).values
    (t1, t2, tmax), (v1, v2) = thresholds.T, values.T
    return torch.stack([t1, v1, t2, v2, tmax], dim=1)


@pytest.mark.parametrize("mode", ["pass", "clip", "saturate"])
def test_every_code_of_ten_thousand_maps_equals_the_truth(mode):
    params = torch.cat([torch.tensor(EDGES), random_params(10_000)])
    got = tables(params, mode)
    assert got.dtype == torch.uint8
    want = [[reference.tri_segment(q, row, mode) for q in range(256)] for row in params.tolist()]
    assert torch.equal(got, torch.tensor(want, dtype=torch.uint8))


@pytest.mark.parametrize("mode", ["pass", "clip", "saturate"])
def test_tables_never_decrease_and_hold_few_values(mode):
    params = random_params(2_000, seed=1)
    found = tables(params, mode).int()
    assert bool((found.diff(dim=1) >= 0).all())
    assert bool((found[:, 0] == 0).all())
    assert bool((found <= torch.maximum(torch.arange(256), params[:, 4:])).all())
    for row, (_, v1, _, v2, tmax) in zip(found, params.tolist(), strict=True):
        end = 256 if mode != "pass" else tmax + 1
        assert set(row[:end].tolist()) <= {0, v1, v2, *([tmax] if mode == "saturate" else [])}


@pytest.mark.parametrize("mode", ["pass", "clip", "saturate"])
def test_maps_commute_with_max_pooling(mode):
    maps = tables(random_params(40, seed=2), mode)
    codes = torch.randint(0, 256, (2, 3, 9, 7)).float()
    for kernel, stride, padding in ((2, 2, 0), (3, 2, 1), (3, 1, 1)):
        before = apply_tables(codes, maps, shared=True).flatten(0, 1)
        pooled = F.max_pool2d(before, kernel, stride, padding).unflatten(0, (40, 2))
        assert torch.equal(pooled, apply_tables(F.max_pool2d(codes, kernel, stride, padding), maps, shared=True))


def test_rows_are_independent_of_their_batch():
    params = random_params(12, seed=3).view(4, 3, 5)
    for dtype in (torch.int64, torch.int32, torch.int16):
        assert torch.equal(tables(params.to(dtype))[2, 1], tables(params[2, 1].tolist()))
    assert tables(params).shape == (4, 3, 256)
    assert tables(params[:0]).shape == (0, 3, 256)
    assert torch.equal(tables(params.transpose(0, 1)), tables(params).transpose(0, 1))


@pytest.mark.parametrize("overflow", ["pass", "clip", "saturate"])
def test_a_segment_map_of_three_is_a_tri_segment(overflow):
    for row in [*EDGES, *random_params(60, seed=4).tolist()]:
        assert torch.equal(SegmentMap.tri(*row, overflow=overflow).table(), tables(row, overflow))


@pytest.mark.parametrize("overflow", ["pass", "clip", "saturate"])
@pytest.mark.parametrize("segments", [1, 2, 7, 40])
def test_segment_maps_equal_the_truth(segments, overflow):
    for _ in range(50):
        thresholds = torch.randint(0, 256, (segments,)).sort().values
        values = (torch.rand(segments) * (thresholds[-1] + 1)).long().sort().values
        at, to = tuple(thresholds.tolist()), tuple(values.tolist())
        table = SegmentMap(thresholds=at, values=to, overflow=overflow).table()
        assert table.tolist() == [reference.segment(q, at, to, overflow) for q in range(256)]
        assert bool((table.int().diff() >= 0).all())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((8, 14, 7, 28, 35), "t1 8, v1 14, t2 7"),
        ((7, 14, 36, 28, 35), "out of order"),
        ((7, 14, 21, 28, 256), "tmax 256"),
        ((-1, 14, 21, 28, 35), "t1 -1"),
        ((7, 29, 21, 28, 35), "v1 <= v2"),
        ((7, 14, 21, 36, 35), "v2 <= tmax"),
        ((7, -1, 21, 28, 35), "v1 -1"),
    ],
)
def test_codes_out_of_order_are_named(row, words):
    with pytest.raises(ConfigError, match=words) as caught:
        tables(row)
    assert "of row" not in str(caught.value)
    rows = torch.tensor([[SEED, SEED], [SEED, row], [row, SEED]])
    with pytest.raises(ConfigError, match="of row 1, 1 are out of order"):
        tables(rows)


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match=r"float32 \(5,\).*whole numbers \[\.\.\., 5\]"):
        tables(torch.ones(5))
    with pytest.raises(ConfigError, match=r"\(4,\)"):
        tables((1, 2, 3, 4))
    with pytest.raises(ConfigError, match="bool"):
        tables(torch.ones(5, dtype=torch.bool))
    with pytest.raises(ConfigError, match="mode is 'wrap'; expected one of pass, clip, saturate"):
        tables(SEED, "wrap")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"thresholds": (), "values": ()}, "at least one"),
        ({"thresholds": (1, 2), "values": (1,)}, "2 thresholds and 1 values"),
        ({"thresholds": (2, 1), "values": (0, 1)}, "thresholds is .2, 1."),
        ({"thresholds": (1, 2), "values": (1, 0)}, "values is .1, 0."),
        ({"thresholds": (1, 256), "values": (0, 1)}, "0 to 255"),
        ({"thresholds": (1.0, 2), "values": (0, 1)}, "whole numbers"),
        ({"thresholds": (4,), "values": (5,)}, "last value 5 is above the last threshold 4"),
        ({"thresholds": (4,), "values": (4,), "overflow": "wrap"}, "SegmentMap.overflow is 'wrap'"),
    ],
)
def test_segment_maps_check_themselves(fields, words):
    with pytest.raises(ConfigError, match=words):
        SegmentMap(**fields)
