"""What a layer costs: timed side by side, remembered, or predicted from a target."""

from sparseflow.cost.measure import Timing, measure, ratio

__all__ = ["Timing", "measure", "ratio"]
