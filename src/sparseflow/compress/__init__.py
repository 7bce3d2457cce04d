"""Transforms: what changes a model so that it costs less and computes the same."""

from sparseflow.compress.sparsify import Effort, Sparsify, fold_bn, on_cuda, optimize_spiking, select_block_size
from sparseflow.compress.transform import Transform

__all__ = ["Effort", "Sparsify", "Transform", "fold_bn", "on_cuda", "optimize_spiking", "select_block_size"]
