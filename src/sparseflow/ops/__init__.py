"""One folder per operator: truth, kernels, cost formula, schedule space."""

from sparseflow.ops._formulas import flops, has_flops, known_ops

__all__ = ["flops", "has_flops", "known_ops"]
