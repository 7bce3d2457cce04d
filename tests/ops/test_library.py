"""Finding the compiled kernels, and the layouts that they take."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sparseflow.ops import _library
from sparseflow.ops._library import MAPPED, channels_last, dense_layout, empty, like, pointer, run


def test_the_extension_is_there_or_says_why_not():
    assert (_library.native is None) == (_library.ABSENT is not None)
    if _library.native is not None:
        assert "scalar" in _library.native.isas()


def test_layouts():
    x = torch.randn(2, 3, 4, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    assert channels_last(last)
    assert not channels_last(x)
    assert dense_layout(x) is x
    assert dense_layout(last) is last
    assert dense_layout(x.transpose(2, 3)).is_contiguous()
    assert like(x, last).stride() == last.stride()
    assert like(last, x).stride() == x.stride()


def test_pointer():
    x = torch.ones(1)
    assert pointer(None) == 0
    assert pointer(x) == x.data_ptr()


def test_run_passes_the_dispatcher_by_in_plain_inference_only() -> None:
    class Op:
        def __call__(self, x: torch.Tensor) -> str:
            return "dispatched"

        def _init_fn(self, x: torch.Tensor) -> str:
            return "direct"

    op, x = Op(), torch.zeros(1)
    assert run(op, x) == "dispatched"
    with torch.no_grad():
        assert run(op, x) == "direct"
        assert run(op, torch.nn.Parameter(x)) == "dispatched"
        with FlopCounterMode(display=False):
            assert run(op, x) == "dispatched"
        with torch.overrides.TorchFunctionMode():
            assert run(op, x) == "dispatched"
        with torch.profiler.profile():
            assert run(op, x) == "dispatched"
        heard: list[str] = []
        torch.jit.trace(lambda y: (heard.append(run(op, y)), y + 1)[1], x, check_trace=False)
        assert heard == ["dispatched"]
        assert torch.func.vmap(lambda y: y if run(op, y) == "dispatched" else y.sum())(x.expand(2, 1)).shape == (2, 1)


compiled = pytest.mark.skipif(_library.native is None, reason=str(_library.ABSENT))


@compiled
def test_large_outputs_lie_on_memory_of_freed_ones_and_on_no_other():
    _library.native.arena_clear()
    x = torch.empty(1)
    first = empty(x, (2, MAPPED))
    assert first.shape == (2, MAPPED)
    assert first.dtype == torch.float32
    assert first.data_ptr() % (2 << 20) == 0
    address = first.data_ptr()
    view = first[1]
    view.fill_(3)
    del first
    second = empty(x, (2, MAPPED))
    second.fill_(4)
    assert second.data_ptr() != address, "a view still reads the memory"
    assert bool((view == 3).all())
    del view
    third = empty(x, (2 * MAPPED,))
    assert third.data_ptr() == address
    assert _library.native.arena_free() == 0
    del second, third
    assert _library.native.arena_free() == 2 * 2 * MAPPED * 4
    assert empty(x, (MAPPED,)).data_ptr() != address, "half of a piece would be wasted"
    _library.native.arena_clear()
    assert _library.native.arena_free() == 0


@compiled
def test_what_waits_is_bounded():
    x = torch.empty(1)
    pieces = [empty(x, (MAPPED,)) for _ in range(12)]
    del pieces
    assert _library.native.arena_free() <= 256 << 20
    _library.native.arena_clear()


def test_small_outputs_other_types_and_fake_tensors_are_torchs():
    x = torch.empty(1)
    assert empty(x, (3, 0)).shape == (3, 0)
    assert empty(x, (MAPPED,), torch.int32).dtype == torch.int32
    assert empty(x.double(), (2,)).dtype == torch.float64
    assert empty(x.to("meta"), (MAPPED,)).device.type == "meta"
    with torch._subclasses.FakeTensorMode() as mode:
        fake = empty(mode.from_tensor(x), (MAPPED,))
    assert type(fake) is not torch.Tensor
