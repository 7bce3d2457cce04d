"""CMamba, a state-space forecaster: its settings, its network and its weights."""

from sparseflow.nn.models.cmamba.args import ModelArgs
from sparseflow.nn.models.cmamba.model import CMamba, build_model

__all__ = ["CMamba", "ModelArgs", "build_model"]
