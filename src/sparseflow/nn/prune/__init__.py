"""What decides which tokens, heads, channels and blocks of a transformer stay; `compress.prune` takes the rest out."""

from sparseflow.nn.prune.config import PruneConfig
from sparseflow.nn.prune.gates import StructureGate
from sparseflow.nn.prune.pruner import ASTPruner
from sparseflow.nn.prune.regions import build_voronoi_regions
from sparseflow.nn.prune.score import TokenScore
from sparseflow.nn.prune.tokens import Tokens

__all__ = ["ASTPruner", "PruneConfig", "StructureGate", "TokenScore", "Tokens", "build_voronoi_regions"]
