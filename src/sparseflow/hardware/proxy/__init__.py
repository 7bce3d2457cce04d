"""What a layer costs on a device: latency, peak memory and power, learned from measured layers."""

from sparseflow.hardware.proxy.features import FEATURES, SEED_FEATURES, build_layer_features, rates_of, tabulate
from sparseflow.hardware.proxy.files import Fitted, read_fitted, write_fitted
from sparseflow.hardware.proxy.from_workload import layers_of
from sparseflow.hardware.proxy.hw_proxy import LayerHwProxy, proxy_names
from sparseflow.hardware.proxy.layer_spec import KINDS, LayerSpec
from sparseflow.hardware.proxy.model import FIGURES, LayerProxyModel

__all__ = [
    "FEATURES",
    "FIGURES",
    "KINDS",
    "SEED_FEATURES",
    "Fitted",
    "LayerHwProxy",
    "LayerProxyModel",
    "LayerSpec",
    "build_layer_features",
    "layers_of",
    "proxy_names",
    "rates_of",
    "read_fitted",
    "tabulate",
    "write_fitted",
]
