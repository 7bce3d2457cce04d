"""Benchmark of spiking inference on a GPU: blocks, the seed's table, correctness, memory, networks, coverage."""

from sparseflow.recipes.spike_bench.gpu.bench import bench_gpu
from sparseflow.recipes.spike_bench.gpu.merge import merge
from sparseflow.recipes.spike_bench.gpu.settings import PROTOCOL, STAGES, TARGETS, GpuBenchConfig
from sparseflow.recipes.spike_bench.gpu.show import tables

__all__ = ["PROTOCOL", "STAGES", "TARGETS", "GpuBenchConfig", "bench_gpu", "merge", "tables"]
