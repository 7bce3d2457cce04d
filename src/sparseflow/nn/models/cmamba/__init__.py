"""CMamba, a state-space forecaster: its settings, its network and its weights."""

from sparseflow.nn.models.cmamba.args import ModelArgs
from sparseflow.nn.models.cmamba.int_ref import IntRef
from sparseflow.nn.models.cmamba.lowering import lower
from sparseflow.nn.models.cmamba.model import CMamba, build_model
from sparseflow.nn.models.cmamba.weights import (
    LoadReport,
    convert_weights,
    load_model,
    load_npz_input,
    load_weights,
    save_weights,
)

__all__ = [
    "CMamba",
    "IntRef",
    "LoadReport",
    "ModelArgs",
    "build_model",
    "convert_weights",
    "load_model",
    "load_npz_input",
    "load_weights",
    "lower",
    "save_weights",
]
