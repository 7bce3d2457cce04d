"""The truth of segment maps against numbers by hand."""

import math

import pytest
import torch

from sparseflow.errors import DataError
from sparseflow.ops.triseg import MODES, reference


def test_every_edge_by_hand():
    codes = (7, 14, 21, 28, 35)
    edges = {0: 0, 1: 0, 7: 0, 8: 14, 14: 14, 21: 14, 22: 28, 28: 28, 35: 28}
    beyond = {36: (36, 28, 35), 127: (127, 28, 35), 255: (255, 28, 35)}
    for q, want in edges.items():
        assert [reference.tri_segment(q, codes, mode) for mode in MODES] == [want] * 3
    for q, want in beyond.items():
        assert tuple(reference.tri_segment(q, codes, mode) for mode in MODES) == want


def test_three_segments_are_a_tri_segment():
    for codes in ((7, 14, 21, 28, 35), (0, 0, 0, 0, 0), (2, 3, 6, 7, 15), (255, 1, 255, 255, 255), (0, 9, 0, 9, 9)):
        t1, v1, t2, v2, tmax = codes
        for mode in MODES:
            for q in range(256):
                assert reference.segment(q, (t1, t2, tmax), (0, v1, v2), mode) == reference.tri_segment(q, codes, mode)


def test_one_segment():
    assert [reference.segment(q, (1,), (1,)) for q in (0, 1, 2)] == [0, 1, 2]
    assert [reference.segment(q, (9,), (4,), "clip") for q in (0, 1, 9, 10, 255)] == [0, 4, 4, 4, 4]
    assert [reference.segment(q, (9,), (4,), "saturate") for q in (0, 1, 9, 10, 255)] == [0, 4, 4, 9, 9]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32])
def test_lookup_reads_the_table_of_its_candidate(dtype):
    tables = torch.stack([torch.arange(256), torch.arange(255, -1, -1), torch.zeros(256)]).to(torch.uint8)
    codes = torch.tensor([[0, 1], [2, 3], [254, 255], [100, 0], [9, 8], [7, 6]]).to(dtype)
    own = reference.lookup(codes, tables, shared=False)
    assert own.dtype == dtype
    assert own.int().tolist() == [[0, 1], [2, 3], [1, 0], [155, 255], [0, 0], [0, 0]]
    shared = reference.lookup(codes, tables, shared=True)
    assert shared.shape == (18, 2)
    assert torch.equal(shared[:6], codes)
    assert torch.equal(shared[6:12].float(), 255 - codes.float())
    assert not shared[12:].any()


@pytest.mark.parametrize("shape", [(0, 3), (6, 0), (0,)])
def test_nothing_gives_nothing(shape):
    tables = torch.zeros(3, 256, dtype=torch.uint8)
    assert reference.lookup(torch.zeros(shape), tables, shared=False).shape == shape
    assert reference.lookup(torch.zeros(shape), tables, shared=True).shape == (3 * shape[0], *shape[1:])


@pytest.mark.parametrize("value", [-1.0, 256.0, 0.5, math.nan, math.inf, -math.inf, 1e30])
def test_what_is_no_code_is_refused(value):
    tables = torch.zeros(1, 256, dtype=torch.uint8)
    with pytest.raises(DataError, match=r"1 of 3 elements are no codes.*round, then clamp"):
        reference.lookup(torch.tensor([0.0, value, 255.0]), tables, shared=False)
