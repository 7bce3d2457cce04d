"""Finding the compiled kernels, and the layouts that they take."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from sparseflow.ops import _library
from sparseflow.ops._library import channels_last, dense_layout, like, pointer, run


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
        assert torch.func.vmap(lambda y: y if run(op, y) == "dispatched" else y.sum())(x.expand(2, 1)).shape == (2, 1)
