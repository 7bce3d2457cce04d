"""Quantize: integer codes for weights and activations, and the places of a network where codes can be changed."""

from sparseflow.compress.quantize.sites import Site, Sites, find_sites

__all__ = ["Site", "Sites", "find_sites"]
