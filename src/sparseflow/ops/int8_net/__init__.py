"""Whole networks on 8-bit codes, as data: a slow reference in torch, and an engine in C++ without Python or torch.

A network is one operator here: what costs time between its layers, as rounding, looking codes up, padding and moving
data, is fused into them or gone.
"""

from sparseflow.ops.int8_net.cpp import Engine, isas
from sparseflow.ops.int8_net.program import Program, Step, Value
from sparseflow.ops.int8_net.space import OP

__all__ = ["OP", "Engine", "Program", "Step", "Value", "isas"]
