"""Networks as files that need no Python: plans for the C++ engine, C sources, and ONNX files."""

from sparseflow.export.c_source import export_c
from sparseflow.export.onnx import export_onnx
from sparseflow.export.plan import read_plan, write_plan

__all__ = ["export_c", "export_onnx", "read_plan", "write_plan"]
