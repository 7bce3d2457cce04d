"""How a sparse matrix lies in memory: a small language of levels, and packing of matrices by it."""

from sparseflow.ops.formats.check import Refusal, refusal
from sparseflow.ops.formats.format import Format, Level, Reorder
from sparseflow.ops.formats.hybrid import Hybrid, PackedHybrid, Part, pack_hybrid, split_entries, unpack_hybrid
from sparseflow.ops.formats.named import bcsr, coo, csc, csr, dcsr, dia, ell, sell
from sparseflow.ops.formats.pack import pack, unpack
from sparseflow.ops.formats.packed import Packed, Storage, Stored

__all__ = [
    "Format",
    "Hybrid",
    "Level",
    "Packed",
    "PackedHybrid",
    "Part",
    "Refusal",
    "Reorder",
    "Storage",
    "Stored",
    "bcsr",
    "coo",
    "csc",
    "csr",
    "dcsr",
    "dia",
    "ell",
    "pack",
    "pack_hybrid",
    "refusal",
    "sell",
    "split_entries",
    "unpack",
    "unpack_hybrid",
]
