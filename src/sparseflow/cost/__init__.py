"""What a layer costs: timed side by side, remembered, or predicted from a target."""

from sparseflow.cost.analytical import Analytical, roofline_s
from sparseflow.cost.measure import Timing, measure, ratio
from sparseflow.cost.measured import Measured, op_source
from sparseflow.cost.model import Chain, CostModel, predict

__all__ = [
    "Analytical",
    "Chain",
    "CostModel",
    "Measured",
    "Timing",
    "measure",
    "op_source",
    "predict",
    "ratio",
    "roofline_s",
]
