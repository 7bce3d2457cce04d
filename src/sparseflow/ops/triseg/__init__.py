"""The tri-segment function on integer codes: three values for most activations, a few left as they are.

Any step function on codes is a table of 256 bytes, so one lookup serves all of them: exact, batched over many
candidate configurations, and the same on every kernel.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops._library import channels_last, dense_layout, empty, run
from sparseflow.ops.lif import on_triton
from sparseflow.ops.triseg import cpp, reference
from sparseflow.ops.triseg.maps import CODES, MODES, NAMES, SegmentMap, tables
from sparseflow.ops.triseg.space import OP

__all__ = ["CODES", "MODES", "NAMES", "OP", "SegmentMap", "apply_tables", "tables", "tri_segment"]

_TYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)


def tri_segment(
    codes: Tensor,
    params: Tensor | Sequence[int],
    *,
    mode: str = "pass",
    shared: bool = False,
    kernel: str = "auto",
) -> Tensor:
    """Replace codes by the values of their segments.

    f(q) = 0 for 0 <= q <= t1, v1 for t1 < q <= t2, v2 for t2 < q <= tmax; beyond tmax f(q) = q ("pass") or
    v2 ("clip"). f never decreases, so it commutes with max-pooling. The result equals f exactly.

    Args:
        codes: whole numbers of 0 to 255, carried in uint8, float16, bfloat16 or float32; any shape for one
            configuration, else `[K*B, ...]` with the candidates outermost, or `[B, ...]` if shared.
        params: whole numbers t1, v1, t2, v2, tmax: `[5]`, or `[K, 5]` for K candidates.
        mode: "pass" or "clip".
        shared: all candidates read the same codes.
        kernel: "dense", "cpp", "triton", or "auto" for the fastest that runs.

    Returns:
        The shape of `codes` for `[5]`, `[K, B, ...]` for `[K, 5]`; type and layout of `codes`. No gradient
        flows through it: the function is flat between its steps.

    Raises:
        ConfigError: codes of the function out of order, operands of other shapes or types, or no such kernel.
        DataError: an element is no code, on the CPU; CUDA is not checked, so that the host need not wait.
        UnsupportedError: the named kernel does not take these codes; says why.

    Cost: 3 comparisons an output; reads the codes and writes the outputs once.
    Source: the seed's tri-segment approximation; see the README of this operator.

    >>> tri_segment(torch.tensor([0.0, 7.0, 8.0, 30.0, 36.0]), (7, 14, 21, 28, 35))
    tensor([ 0.,  0., 14., 28., 36.])
    """
    return apply_tables(codes, tables(params, mode), shared=shared, kernel=kernel)


def apply_tables(codes: Tensor, tables: Tensor, *, shared: bool = False, kernel: str = "auto") -> Tensor:
    """Look codes up in one table, or in one of each of K candidates.

    y = tables[q], or y[k, b] = tables[k, q[k*B + b]], or y[k, b] = tables[k, q[b]] if shared.

    Args:
        codes: whole numbers of 0 to 255, carried in uint8, float16, bfloat16 or float32: any shape for one
            table, `[K*B, ...]` with the candidates outermost for K, or `[B, ...]` if shared.
        tables: uint8 `[256]` or `[K, 256]`, as `tables` and `SegmentMap.table` make them.
        shared: all candidates read the same codes, as at the first site of a network.
        kernel: "dense", "cpp", "triton", or "auto" for the fastest that runs.

    Returns:
        The shape of `codes` for `[256]`, else `[K, B, ...]`; type and layout of `codes`.

    Raises:
        ConfigError: operands of other shapes or types, or no such kernel.
        DataError: an element is no code, on the CPU; CUDA is not checked.
        UnsupportedError: the named kernel does not take these codes; says why.

    Cost: reads the codes and writes the outputs once.
    Source: ours.

    >>> doubled = torch.arange(256).mul(2).clamp(max=255).to(torch.uint8)
    >>> apply_tables(torch.tensor([3.0, 200.0]), torch.stack([doubled, doubled.flip(0)]), shared=True)
    tensor([[  6., 255.],
            [255., 110.]])
    """
    if tables.dtype != torch.uint8 or tables.ndim not in (1, 2) or tables.shape[-1] != CODES:
        raise ConfigError(f"apply_tables: tables is {tables.dtype} {tuple(tables.shape)}; expected uint8 [K, 256]")
    if codes.dtype not in _TYPES:
        raise ConfigError(f"apply_tables: codes are {codes.dtype}; expected uint8, float16, bfloat16 or float32")
    many = tables.ndim == 2
    k = tables.shape[0] if many else 1
    if many and (k == 0 or codes.ndim == 0 or (codes.shape[0] % k and not shared)):
        want = "[B, ...]" if shared else f"[{k}*B, ...] (or shared=True)"
        raise ConfigError(f"apply_tables: codes have shape {tuple(codes.shape)} for {k} tables; expected {want}")
    _check_kernel(codes, kernel)
    rows = tables.view(k, CODES).to(codes.device).contiguous()
    out: Tensor = run(_triseg, codes, rows, shared and many, kernel)
    return out.view(k, out.shape[0] // k, *out.shape[1:]) if many else out


def _check_kernel(codes: Tensor, kernel: str) -> None:
    if kernel not in ("auto", "dense", "cpp", "triton"):
        raise ConfigError(f"apply_tables: kernel is {kernel!r}; expected 'auto', 'dense', 'cpp' or 'triton'")
    reason = cpp.refuses(codes) if kernel == "cpp" else None
    if kernel == "triton" and not on_triton(codes):
        reason = f"takes CUDA tensors, and Triton must be installed; codes are on {codes.device}"
    if reason is not None:
        raise UnsupportedError(f"apply_tables: kernel {kernel!r} cannot run: {reason}")


def _empty(codes: Tensor, maps: int, shared: bool) -> Tensor:
    shape = (maps * codes.shape[0], *codes.shape[1:]) if shared else tuple(codes.shape)
    if not channels_last(codes):
        return empty(codes, shape)
    m, c, h, w = shape
    return empty(codes, (m, h, w, c)).permute(0, 3, 1, 2)


@torch.library.custom_op("sparseflow::triseg", mutates_args=())
def _triseg(codes: Tensor, tables: Tensor, shared: bool, kernel: str) -> Tensor:
    codes = dense_layout(codes)
    out = _empty(codes, tables.shape[0], shared)
    if kernel in ("auto", "triton") and on_triton(codes):
        from sparseflow.ops.triseg import triton

        triton.lookup(codes, tables, shared, out)
    elif kernel == "dense" or not cpp.lookup(codes, tables, shared, out):
        out.copy_(reference.lookup(codes, tables, shared))
    return out


@_triseg.register_fake
def _(codes: Tensor, tables: Tensor, shared: bool, kernel: str) -> Tensor:
    return _empty(dense_layout(codes), tables.shape[0], shared)
