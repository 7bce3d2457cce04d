"""Benchmark of spiking inference: layers, whole networks, correctness."""

from sparseflow.recipes.spike_bench.bench import SpikeBenchConfig, bench
from sparseflow.recipes.spike_bench.layers import LayerCase, LayerRow, geomean, time_block, time_layer
from sparseflow.recipes.spike_bench.network import NetworkRow, time_network

__all__ = [
    "LayerCase",
    "LayerRow",
    "NetworkRow",
    "SpikeBenchConfig",
    "bench",
    "geomean",
    "time_block",
    "time_layer",
    "time_network",
]
