"""The compiled scan; it returns None where it does not serve."""

from sparseflow.ops import _library
from sparseflow.ops._library import native
from sparseflow.ops.selective_scan.reference import Operands

__all__ = ["ABSENT", "refuses"]

ABSENT: str | None = _library.ABSENT
if native is not None and not hasattr(native, "scan"):
    ABSENT = "the compiled kernels are older than this operator; reinstall sparseflow with a C++17 compiler"


def refuses(given: Operands) -> str | None:
    """Return why the compiled scan does not take these operands, or None."""
    if given.x.device.type != "cpu":
        return f"compiled for CPUs only; x is on {given.x.device}"
    return ABSENT
