"""Sparsify: run layers that read spikes by kernels whose time follows the spikes."""

from sparseflow.compress.sparsify.apply import Sparsify
from sparseflow.compress.sparsify.fold import fold_bn
from sparseflow.compress.sparsify.optimize import optimize_spiking
from sparseflow.compress.sparsify.optimize_gpu import on_cuda
from sparseflow.compress.sparsify.policy import select_block_size
from sparseflow.compress.sparsify.tune import Effort

__all__ = ["Effort", "Sparsify", "fold_bn", "on_cuda", "optimize_spiking", "select_block_size"]
