"""The tensors of one call as the compiled kernels address them: channels last, contiguous, made where not given."""

from typing import NamedTuple

import torch
from torch import Tensor

from sparseflow.errors import UnsupportedError
from sparseflow.ops.lif.reference import WORD

__all__ = ["Tensors", "outputs", "tensors"]


class Tensors(NamedTuple):
    """What a kernel reads beside words and weights, and what it writes.

    Args:
        y: what the kernel writes: int32 words `[T*N, Ho, Wo, planes*ceil(Cout/32)]`, or numbers `[T*N, Ho, Wo, Cout]`.
        result: `y` as the caller has it; numbers are `[T*N, Cout, Ho, Wo]`.
        v: float32 `[N, Ho, Wo, Cout]` for the last potential, or None.
        last: `v` as the caller has it, `[N, Cout, Ho, Wo]`.
        start: float32 `[N, Ho, Wo, Cout]`, the first potential, or None.
        extra: contiguous words of the counts added to the spikes, or None.
    """

    y: Tensor
    result: Tensor
    v: Tensor | None
    last: Tensor | None
    start: Tensor | None
    extra: Tensor | None

    @property
    def addresses(self) -> tuple[int, int, int, int]:
        """Where start, v, y and extra lie; 0 for None."""
        start, v, y, extra = (0 if x is None else x.data_ptr() for x in (self.start, self.v, self.y, self.extra))
        return start, v, y, extra


def outputs(
    words: Tensor, size: tuple[int, int], channels: int, *, out: str = "words", planes: int = 1
) -> tuple[Tensor, Tensor]:
    """Return what a kernel writes, and the same as the caller has it.

    Args:
        words: words of a source; its first axis is T*N.
        size: Ho, Wo.
        channels: Cout.
        out: "words", "float16" or "float32".
        planes: bit planes of the words.

    >>> [tuple(x.shape) for x in outputs(torch.zeros(4, 8, 8, 1, dtype=torch.int32), (8, 8), 40, out="float32")]
    [(4, 8, 8, 40), (4, 40, 8, 8)]
    """
    if out == "words":
        y = words.new_empty((words.shape[0], *size, planes * -(-channels // WORD)))
        return y, y
    y = words.new_empty((words.shape[0], *size, channels), dtype=torch.float16 if out == "float16" else torch.float32)
    return y, y.permute(0, 3, 1, 2)


def tensors(
    words: Tensor,
    size: tuple[int, int],
    channels: int,
    *,
    steps: int,
    add: tuple[Tensor, int] | None = None,
    v0: Tensor | None = None,
    keep_v: bool = False,
    out: str = "words",
    out_planes: int = 1,
    into: Tensor | None = None,
) -> Tensors:
    """Gather the tensors of a call; arguments as in `sparseflow.ops.spike_layer.spike_layer`.

    Args:
        words: words of the first source.
        size: Ho, Wo.
        channels: Cout.
        steps: T.
        add: counts added to the spikes.
        v0: first potential `[N, Cout, Ho, Wo]`.
        keep_v: make room for the last potential.
        out: "words", "float16" or "float32".
        out_planes: planes of the words.
        into: words to write, if `out` is "words"; made if None.

    Raises:
        UnsupportedError: `into` has another shape or type.
    """
    if out != "words" or into is None:
        y, result = outputs(words, size, channels, out=out, planes=out_planes)
    else:
        shape = (words.shape[0], *size, out_planes * -(-channels // WORD))
        if into.shape != shape or into.dtype != torch.int32 or not into.is_contiguous():
            raise UnsupportedError(f"spike_layer: `into` is {into.dtype} {tuple(into.shape)}; expected int32 {shape}")
        y = result = into
    v = words.new_empty((words.shape[0] // steps, *size, channels), dtype=torch.float32) if keep_v else None
    return Tensors(
        y=y,
        result=result,
        v=v,
        last=None if v is None else v.permute(0, 3, 1, 2),
        start=None if v0 is None else v0.permute(0, 2, 3, 1).contiguous().float(),
        extra=None if add is None else add[0].contiguous(),
    )
