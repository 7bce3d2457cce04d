"""Chiplets: a library of types, and slots that learn which of them they hold."""

from sparseflow.hardware.chiplet.library import ChipletType, load_library
from sparseflow.hardware.chiplet.slots import ChipletSlots, temperature

__all__ = ["ChipletSlots", "ChipletType", "load_library", "temperature"]
