"""Nouns that every room shares; standard library only."""

from sparseflow.ir.cost import Cost
from sparseflow.ir.plan import Decision, Plan
from sparseflow.ir.precision import BINARY, FLOAT16, FLOAT32, INT8, Precision
from sparseflow.ir.report import LayerReport, Refusal, Report
from sparseflow.ir.target import Target
from sparseflow.ir.workload import Layer, Operand, Workload, density_bucket

__all__ = [
    "BINARY",
    "FLOAT16",
    "FLOAT32",
    "INT8",
    "Cost",
    "Decision",
    "Layer",
    "LayerReport",
    "Operand",
    "Plan",
    "Precision",
    "Refusal",
    "Report",
    "Target",
    "Workload",
    "density_bucket",
]
