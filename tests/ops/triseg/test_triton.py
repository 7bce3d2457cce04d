"""The Triton lookup against the reference; in the interpreter where there is no GPU."""

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from sparseflow.ops.triseg import reference, tables, tri_segment, triton
from tests.ops.triseg.test_cpp import TYPES, codes_of
from tests.ops.triseg.test_maps import SEED, random_params

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shared", [False, True])
def test_lookups_equal_the_reference(dtype, shared):
    maps = tables(random_params(6))
    for i, shape in enumerate([(6, 1), (6, 5), (6, 3, 5, 7), (6, 1024), (12, 3, 19, 19)]):
        codes = codes_of(shape, dtype, i)
        want = reference.lookup(codes, maps, shared)
        out = torch.full_like(want, 77).to(DEVICE)
        triton.lookup(codes.to(DEVICE), maps.to(DEVICE), shared, out)
        assert torch.equal(out.cpu(), want)


@pytest.mark.parametrize("mode", ["pass", "clip", "saturate"])
def test_all_codes_of_all_maps(mode):
    maps = tables(random_params(10_000 if DEVICE == "cuda" else 300, seed=7), mode)
    out = torch.full((len(maps), 256), torch.nan, device=DEVICE)
    triton.lookup(torch.arange(256.0, device=DEVICE), maps.to(DEVICE), True, out, block=256)
    assert torch.equal(out.cpu(), maps.float())


def test_nothing_is_written_behind_the_end():
    room = torch.full((100,), 99.0, device=DEVICE)
    triton.lookup(codes_of((70,)).to(DEVICE), tables(SEED).view(1, 256).to(DEVICE), False, room[:70])
    assert bool((room[70:] == 99).all())
    triton.lookup(codes_of((0,)).to(DEVICE), tables(SEED).view(1, 256).to(DEVICE), False, room[:0])


def test_what_is_no_code_reads_within_the_table():
    table = torch.arange(256, dtype=torch.uint8, device=DEVICE).view(1, 256)
    out = torch.empty(4, device=DEVICE)
    triton.lookup(torch.tensor([-3.0, 300.0, 2.5, 1e9], device=DEVICE), table, False, out)
    assert out.tolist() == [0.0, 255.0, 2.0, 255.0]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TYPES)
def test_cuda_codes_are_those_of_the_cpu(dtype):
    params = random_params(8, seed=8)
    codes = codes_of((16, 5, 9, 7), dtype).contiguous(memory_format=torch.channels_last)
    for shared in (False, True):
        for kernel in ("auto", "triton", "dense"):
            got = tri_segment(codes.cuda(), params, shared=shared, kernel=kernel)
            assert torch.equal(got.cpu(), tri_segment(codes, params, shared=shared, kernel="dense"))
            assert got.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
