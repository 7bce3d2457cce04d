"""The one error tree: every exception that sparseflow raises on purpose.

Each message says what was wrong, where, and what to do. Catch
`SparseFlowError` to catch them all.
"""

__all__ = [
    "BudgetError",
    "CaptureError",
    "ConfigError",
    "DataError",
    "MeasurementError",
    "PlanError",
    "RecordError",
    "SparseFlowError",
    "UnsupportedError",
]


class SparseFlowError(Exception):
    """Root of every error that sparseflow raises on purpose."""


class ConfigError(SparseFlowError, ValueError):
    """A setting, an argument or a configuration file is not valid."""


class DataError(SparseFlowError, ValueError):
    """Input data or a file is missing, truncated, malformed or not finite."""


class UnsupportedError(SparseFlowError):
    """The named kernel, operator or target rejects these operands."""


class CaptureError(SparseFlowError):
    """A model cannot be captured as a graph with true edges."""


class PlanError(SparseFlowError):
    """A plan does not fit the workload or holds a field that nothing reads."""


class RecordError(SparseFlowError):
    """The record store cannot be opened, read or written."""


class MeasurementError(SparseFlowError):
    """A measurement failed, timed out or was not finite."""


class BudgetError(SparseFlowError):
    """A search ran out of its budget before it had any valid result."""
