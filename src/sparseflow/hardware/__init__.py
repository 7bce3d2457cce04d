"""Hardware as data: the targets that plans are made for."""

from sparseflow.hardware.host import describe_host
from sparseflow.hardware.target_file import load_target, target_names

__all__ = ["describe_host", "load_target", "target_names"]
