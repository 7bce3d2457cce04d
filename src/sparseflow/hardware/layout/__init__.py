"""Layout: rectangular dies on a round wafer, legal, close to whom they talk to, and cool."""

from sparseflow.hardware.layout.descend import DescendConfig
from sparseflow.hardware.layout.problem import LayoutProblem
from sparseflow.hardware.layout.thermal import Plate
from sparseflow.hardware.layout.wafer import LayoutResult, WaferLayout

__all__ = ["DescendConfig", "LayoutProblem", "LayoutResult", "Plate", "WaferLayout"]
