"""Hardware as data: the targets that plans are made for."""

from sparseflow.hardware.host import describe_host
from sparseflow.hardware.target_file import gpu_target, load_target, target_names

__all__ = ["describe_host", "gpu_target", "load_target", "target_names"]
