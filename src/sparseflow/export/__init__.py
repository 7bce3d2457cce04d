"""Networks as files that need no Python: plans for the C++ engine, C sources, and ONNX files; and as PT2E graphs."""

from sparseflow.export.c_source import export_c
from sparseflow.export.onnx import export_onnx
from sparseflow.export.plan import read_plan, write_plan
from sparseflow.export.pt2e import export_pt2e

__all__ = ["export_c", "export_onnx", "export_pt2e", "read_plan", "write_plan"]
