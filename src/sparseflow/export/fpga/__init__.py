"""Integer networks for an FPGA: Verilog, its simulation, and the pack that carries weights and vectors."""

from sparseflow.export.fpga.child import Limits
from sparseflow.export.fpga.drive import Array, Matrix, Run, run_matvec, run_scan, run_slim_step
from sparseflow.export.fpga.simulate import Pauses

__all__ = ["Array", "Limits", "Matrix", "Pauses", "Run", "run_matvec", "run_scan", "run_slim_step"]
