"""Quantize: integer codes for weights and activations, and the places of a network where codes can be changed."""

from sparseflow.compress.quantize.forecaster import ForecastBits, calibrate_forecaster
from sparseflow.compress.quantize.integer import IntegerNet, Point, to_integer
from sparseflow.compress.quantize.lsq import LsqConfig, lsq_layers, prepare_lsq
from sparseflow.compress.quantize.program import to_program
from sparseflow.compress.quantize.qat import calibrate, freeze_bn, freeze_observers, prepare_qat, quantizers
from sparseflow.compress.quantize.sites import Site, Sites, find_sites
from sparseflow.compress.quantize.spec import QuantConfig, QuantSpec, dequantize, quantize

__all__ = [
    "ForecastBits",
    "IntegerNet",
    "LsqConfig",
    "Point",
    "QuantConfig",
    "QuantSpec",
    "Site",
    "Sites",
    "calibrate",
    "calibrate_forecaster",
    "dequantize",
    "find_sites",
    "freeze_bn",
    "freeze_observers",
    "lsq_layers",
    "prepare_lsq",
    "prepare_qat",
    "quantize",
    "quantizers",
    "to_integer",
    "to_program",
]
