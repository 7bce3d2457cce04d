"""Mapping: which slot runs which segment of a network, judged by one objective."""

from sparseflow.hardware.mapping.fine_split import FineSplit, split_where_it_pays, try_fine_split_segment
from sparseflow.hardware.mapping.objective import MappingCost, MappingProblem, evaluate, slot_traffic
from sparseflow.hardware.mapping.segment import Segment, coarse_partition, traffic_bytes
from sparseflow.hardware.mapping.soft import SoftCost, expected_cost
from sparseflow.hardware.mapping.solution import Solution
from sparseflow.hardware.mapping.solver import STRATEGIES, MappingSolver

__all__ = [
    "STRATEGIES",
    "FineSplit",
    "MappingCost",
    "MappingProblem",
    "MappingSolver",
    "Segment",
    "SoftCost",
    "Solution",
    "coarse_partition",
    "evaluate",
    "expected_cost",
    "slot_traffic",
    "split_where_it_pays",
    "traffic_bytes",
    "try_fine_split_segment",
]
