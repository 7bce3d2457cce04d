"""What to compute on a sparse matrix and in which order: products, schedules, and their meaning."""

from sparseflow.ops.codegen.autosparse import Line, line_of, parse
from sparseflow.ops.codegen.einsum import PRODUCTS, Einsum, error_bound, product
from sparseflow.ops.codegen.interpreter import run
from sparseflow.ops.codegen.sample import Facts, sample
from sparseflow.ops.codegen.schedule import Schedule, refusal

__all__ = [
    "PRODUCTS",
    "Einsum",
    "Facts",
    "Line",
    "Schedule",
    "error_bound",
    "line_of",
    "parse",
    "product",
    "refusal",
    "run",
    "sample",
]
