"""Pruning of video transformers: tokens that entropy leaves behind, and parts that are sliced out for good."""

from sparseflow.compress.prune.slice import slice_model
from sparseflow.nn.prune import ASTPruner, PruneConfig, StructureGate, TokenScore, build_voronoi_regions

__all__ = ["ASTPruner", "PruneConfig", "StructureGate", "TokenScore", "build_voronoi_regions", "slice_model"]
