"""The lookup as a Triton kernel: a gather out of tables that stay in the first cache."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["lookup"]

BLOCK = 1024


@triton.jit
def _lookup(codes, tables, out, size, blocks, SHARED: tl.constexpr, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    k = pid // blocks
    at = (pid % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    to = k.to(tl.int64) * size + at
    if SHARED:
        q = tl.load(codes + at, mask=inside, other=0)
    else:
        q = tl.load(codes + to, mask=inside, other=0)
    # What is no code is not counted here, but reads no other memory either.
    q = tl.minimum(tl.maximum(q.to(tl.int32), 0), 255)
    value = tl.load(tables + k * 256 + q, mask=inside, other=0)
    tl.store(out + to, value.to(tl.float32).to(out.dtype.element_ty), mask=inside)


def lookup(codes: Tensor, tables: Tensor, shared: bool, out: Tensor, *, block: int = BLOCK) -> None:
    """Fill `out`, `[K*B, ...]` in the layout of `codes`, both dense.

    Nothing is checked, which would make the host wait: an element that is no code reads as one of 0 to 255.

    Args:
        codes: `[K*B, ...]`, or `[B, ...]` if shared.
        tables: uint8 `[K, 256]`, contiguous.
        shared: every table reads all codes.
        out: the output.
        block: elements of a program.
    """
    if out.numel() == 0:
        return
    maps = tables.shape[0]
    size = out.numel() // maps
    blocks = triton.cdiv(size, block)
    with torch.cuda.device_of(out):
        _lookup[(maps * blocks,)](codes, tables, out, size, blocks, SHARED=shared, BLOCK=block)
