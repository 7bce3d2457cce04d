"""What a layer costs on a device: latency, peak memory and power, learned from measured layers."""

from sparseflow.hardware.proxy.from_workload import layers_of
from sparseflow.hardware.proxy.layer_spec import KINDS, LayerSpec

__all__ = ["KINDS", "LayerSpec", "layers_of"]
