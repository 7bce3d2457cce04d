"""Networks as files that need no Python: plans for the C++ engine, and C sources."""

from sparseflow.export.c_source import export_c
from sparseflow.export.plan import read_plan, write_plan

__all__ = ["export_c", "read_plan", "write_plan"]
