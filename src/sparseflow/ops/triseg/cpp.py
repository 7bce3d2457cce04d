"""The compiled lookup; it returns False where it does not serve."""

import torch
from torch import Tensor

from sparseflow.ops import _library
from sparseflow.ops._library import native
from sparseflow.ops.triseg.reference import refuse_codes

__all__ = ["ABSENT", "lookup", "refuses"]

ABSENT: str | None = _library.ABSENT
if native is not None and not hasattr(native, "lookup_floats"):
    ABSENT = "the compiled kernels are older than this operator; reinstall sparseflow with a C++17 compiler"


def refuses(codes: Tensor) -> str | None:
    """Return why the compiled lookup does not take these codes, or None."""
    if codes.device.type != "cpu":
        return f"compiled for CPUs only; codes are on {codes.device}"
    if codes.dtype not in (torch.float32, torch.uint8):
        return f"takes float32 and uint8 codes, not {codes.dtype}"
    return ABSENT


def lookup(codes: Tensor, tables: Tensor, shared: bool, out: Tensor, isa: str = "auto") -> bool:
    """Fill `out`, `[K*B, ...]` in the layout of `codes`, both dense.

    Args:
        codes: `[K*B, ...]`, or `[B, ...]` if shared.
        tables: uint8 `[K, 256]`, contiguous.
        shared: every table reads all codes.
        out: the output.
        isa: instruction set.

    Raises:
        DataError: an element is no code.
    """
    if refuses(codes) is not None:
        return False
    maps = tables.shape[0]
    size = codes.numel() if shared else codes.numel() // maps
    threads = torch.get_num_threads()
    places = (codes.data_ptr(), tables.data_ptr(), out.data_ptr(), maps, size, shared, threads, isa)
    if codes.dtype == torch.uint8:
        native.lookup_bytes(*places)
    else:
        refuse_codes(native.lookup_floats(*places), codes.numel())
    return True
