"""Kernels of the spiking linear layer: those of the 1x1 convolution."""

from dataclasses import replace

from sparseflow.ops._op import Op
from sparseflow.ops.conv2d_spike.space import OP as CONV

__all__ = ["OP"]

OP: Op = replace(CONV, name="linear_spike", serves=("linear",))
