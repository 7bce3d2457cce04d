"""The compiled lookup on every instruction set, and the operator on whatever kernel it takes."""

import pytest
import torch

from sparseflow.errors import ConfigError, DataError, UnsupportedError
from sparseflow.ops._library import native
from sparseflow.ops.triseg import apply_tables, cpp, reference, tables, tri_segment
from tests.ops.triseg.test_maps import SEED, random_params

compiled = pytest.mark.skipif(cpp.ABSENT is not None, reason=str(cpp.ABSENT))
ISAS = ["scalar"] if native is None else native.isas()
SHAPES = [(6, 1), (6, 5), (6, 3, 5, 7), (12, 64), (6, 3, 33, 29), (6, 17_001)]
TYPES = [torch.uint8, torch.float16, torch.bfloat16, torch.float32]


def codes_of(shape, dtype=torch.float32, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@compiled
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_every_path_equals_the_reference(isa, dtype):
    maps = tables(random_params(6))
    for i, shape in enumerate(SHAPES):
        codes = codes_of(shape, dtype, i)
        for shared in (False, True):
            want = reference.lookup(codes, maps, shared)
            out = torch.full_like(want, 77)
            assert cpp.lookup(codes, maps, shared, out, isa)
            assert torch.equal(out, want)


@compiled
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_all_codes_of_all_maps(isa, dtype):
    maps = tables(random_params(10_000, seed=5))
    out = torch.empty(10_000, 256, dtype=dtype)
    assert cpp.lookup(torch.arange(256).to(dtype), maps, True, out, isa)
    assert torch.equal(out, maps.to(dtype))


@compiled
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_nothing_is_written_behind_the_end(isa, dtype):
    table = tables(SEED).view(1, 256)
    for n in [*range(1, 70), 127, 16_383, 16_385]:
        room = torch.full((n + 64,), 99).to(dtype)
        codes = codes_of((n,), dtype, n)
        assert cpp.lookup(codes, table, False, room[:n], isa)
        assert torch.equal(room[:n], reference.lookup(codes, table, False))
        assert bool((room[n:] == 99).all())


@compiled
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("value", [-1.0, 256.0, 0.5, 255.5, torch.nan, torch.inf, -torch.inf, 1e30, -1e30])
def test_what_is_no_code_is_counted(isa, value):
    maps = tables(random_params(3))
    for n in (9, 40_000):
        codes = codes_of((3, n))
        codes[1, n - 1] = value
        codes[2, 0] = value
        with pytest.raises(DataError, match=f"2 of {3 * n} elements are no codes"):
            cpp.lookup(codes, maps, False, torch.empty(3, n), isa)
        with pytest.raises(DataError, match=f"2 of {3 * n} elements are no codes"):
            cpp.lookup(codes, maps, True, torch.empty(9, n), isa)


@compiled
@pytest.mark.parametrize("isa", ISAS)
def test_minus_zero_is_zero(isa):
    out = torch.empty(2)
    assert cpp.lookup(torch.tensor([-0.0, 0.0]), tables(SEED).view(1, 256), False, out, isa)
    assert out.tolist() == [0.0, 0.0]


@compiled
def test_threads_change_nothing():
    maps, codes = tables(random_params(5)), codes_of((5, 3, 111, 97))
    torch.set_num_threads(1)
    want = apply_tables(codes, maps, kernel="cpp")
    torch.set_num_threads(4)
    assert torch.equal(apply_tables(codes, maps, kernel="cpp"), want)


def test_explicit_kernels_run_or_say_why():
    codes = codes_of((4, 3))
    assert torch.equal(tri_segment(codes, SEED, kernel="dense"), tri_segment(codes, SEED))
    with pytest.raises(UnsupportedError, match=r"'triton' cannot run: takes CUDA tensors"):
        tri_segment(codes, SEED, kernel="triton")
    with pytest.raises(UnsupportedError, match=r"'cpp' cannot run: takes float32 and uint8 codes, not torch\.float16"):
        tri_segment(codes.half(), SEED, kernel="cpp")
    if cpp.ABSENT is not None:
        with pytest.raises(UnsupportedError, match="compiled kernels"):
            tri_segment(codes, SEED, kernel="cpp")
    with pytest.raises(ConfigError, match="kernel is 'magic'"):
        tri_segment(codes, SEED, kernel="magic")


@pytest.mark.usefixtures("nan_empty")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("mode", ["pass", "clip", "saturate"])
def test_a_batch_of_candidates_equals_one_after_the_other(dtype, mode):
    params = random_params(6, seed=6)
    for shape in ((6, 3, 5, 7), (12, 9), (6,), (18, 1, 2)):
        codes = codes_of(shape, dtype)
        own = tri_segment(codes, params, mode=mode)
        shared = tri_segment(codes, params, mode=mode, shared=True)
        assert own.dtype == shared.dtype == dtype
        assert own.shape == (6, shape[0] // 6, *shape[1:])
        assert shared.shape == (6, *shape)
        for k, row in enumerate(params):
            assert torch.equal(own[k], tri_segment(codes.unflatten(0, (6, -1))[k], row, mode=mode))
            assert torch.equal(shared[k], tri_segment(codes, row, mode=mode))
    want = [[reference.tri_segment(q, row, mode) for q in range(256)] for row in params.tolist()]
    every = torch.arange(256).to(dtype)
    assert torch.equal(tri_segment(every, params, mode=mode, shared=True), torch.tensor(want).to(dtype))


@pytest.mark.usefixtures("nan_empty")
@pytest.mark.parametrize("dtype", TYPES)
def test_layouts(dtype):
    maps = tables(random_params(2))
    codes = codes_of((4, 6, 5, 3), dtype)
    want = apply_tables(codes, maps)
    last = codes.contiguous(memory_format=torch.channels_last)
    for shared in (False, True):
        got = apply_tables(last, maps, shared=shared)
        assert got.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
        assert got.flatten(0, 1).data_ptr() == got.data_ptr()
        assert torch.equal(got, apply_tables(codes, maps, shared=shared))
    assert torch.equal(apply_tables(codes[:, ::2], maps), want[:, :, ::2])
    assert torch.equal(apply_tables(codes.transpose(1, 3), maps), want.transpose(2, 4))
    repeated = codes[:1].expand(4, 6, 5, 3)
    assert torch.equal(apply_tables(repeated, maps), apply_tables(repeated.contiguous(), maps))


def test_one_table_keeps_the_shape():
    table = tables(SEED)
    for shape in ((), (3,), (2, 3), (1, 2, 3, 4, 5)):
        codes = codes_of(shape)
        assert apply_tables(codes, table).shape == shape
        assert apply_tables(codes, table, shared=True).shape == shape
    assert apply_tables(codes_of((2, 3)), table.view(1, 256)).shape == (1, 2, 3)
    sliced = tables(random_params(12).view(4, 3, 5))[:, 1]
    assert torch.equal(apply_tables(codes_of((4, 9)), sliced), apply_tables(codes_of((4, 9)), sliced.contiguous()))


def test_empty_batches():
    maps = tables(random_params(3))
    for dtype in TYPES:
        assert apply_tables(torch.empty(0, 2, dtype=dtype), maps).shape == (3, 0, 2)
        assert apply_tables(torch.empty(0, 2, dtype=dtype), maps, shared=True).shape == (3, 0, 2)
        assert apply_tables(torch.empty(6, 0, dtype=dtype), maps).shape == (3, 2, 0)
        assert apply_tables(torch.empty(0, dtype=dtype), maps[0]).shape == (0,)


def test_bad_operands_are_named():
    codes, maps = codes_of((4, 3)), tables(random_params(3))
    with pytest.raises(ConfigError, match=r"codes have shape \(4, 3\) for 3 tables; expected \[3\*B, \.\.\.\] \("):
        apply_tables(codes, maps)
    with pytest.raises(ConfigError, match=r"shape \(\) for 3 tables; expected \[B, \.\.\.\]"):
        apply_tables(codes[0, 0], maps, shared=True)
    with pytest.raises(ConfigError, match="for 0 tables"):
        apply_tables(codes, maps[:0])
    with pytest.raises(ConfigError, match=r"tables is torch\.int64 \(3, 256\)"):
        apply_tables(codes, maps.long())
    with pytest.raises(ConfigError, match=r"\(3, 255\); expected uint8 \[K, 256\]"):
        apply_tables(codes, maps[:, 1:])
    with pytest.raises(ConfigError, match=r"codes are torch\.int64"):
        apply_tables(codes.long(), maps[0])
    wrong = codes.clone()
    wrong[1, 1] = 0.5
    with pytest.raises(DataError, match="1 of 12 elements are no codes"):
        apply_tables(wrong, maps[0])


def test_opcheck():
    maps = tables(random_params(2))
    last = codes_of((4, 3, 2, 5)).contiguous(memory_format=torch.channels_last)
    for codes, shared in ((last, True), (last.to(torch.uint8), False), (codes_of((4, 3), torch.float16), True)):
        torch.library.opcheck(torch.ops.sparseflow.triseg.default, (codes, maps, shared, "auto"))


def test_it_compiles_in_one_graph():
    maps, codes = tables(random_params(2)), codes_of((4, 3, 2, 2))

    def f(x):
        return apply_tables(x + 0, maps).flatten(0, 1) * 2

    assert torch.equal(torch.compile(f, backend="aot_eager", fullgraph=True)(codes), f(codes))
