"""Registry of spike sources: modules whose first output is made of zeros and ones.

Libraries are matched by the qualified names of a module's classes, so nothing
is imported that the user did not import.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sparseflow.errors import ConfigError

__all__ = ["SpikeOpRegistry", "is_spike_source", "neuron_op", "neuron_params", "register"]

Params = Callable[[nn.Module], "dict[str, Any] | None"]

_PARAMS = ("kind", "tau", "v_threshold", "v_reset", "decay_input", "step_mode")
_MATHS = frozenset(
    {
        "forward", "single_step_forward", "multi_step_forward", "neuronal_charge", "neuronal_fire", "neuronal_reset",
        "single_step_functional_forward", "multi_step_functional_forward", "functional_forward",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Entry:
    op: str
    params: Params | None = None
    emits_spikes: bool = True


def _common(module: nn.Module) -> dict[str, Any] | None:
    if getattr(module, "store_v_seq", False):
        return None
    v_reset = getattr(module, "v_reset", 0.0)
    return {
        "v_threshold": float(getattr(module, "v_threshold", 1.0)),
        "v_reset": None if v_reset is None else float(v_reset),
        "step_mode": str(getattr(module, "step_mode", "s")),
    }


def _if_params(module: nn.Module) -> dict[str, Any] | None:
    common = _common(module)
    return None if common is None else {"kind": "if", "tau": 1.0, "decay_input": False, **common}


def _lif_params(module: nn.Module) -> dict[str, Any] | None:
    common, tau = _common(module), getattr(module, "tau", None)
    if common is None or tau is None:
        return None
    return {"kind": "lif", "tau": float(tau), "decay_input": bool(getattr(module, "decay_input", True)), **common}


def _plif_params(module: nn.Module) -> dict[str, Any] | None:
    common, w = _common(module), getattr(module, "w", None)
    if common is None or not isinstance(w, torch.Tensor) or w.numel() != 1:
        return None
    tau = 1.0 + math.exp(-float(w.detach()))
    return {"kind": "plif", "tau": tau, "decay_input": bool(getattr(module, "decay_input", True)), **common}


_OWN = {
    "IFNode": _Entry("if", _if_params),
    "LIFNode": _Entry("lif", _lif_params),
    "ParametricLIFNode": _Entry("plif", _plif_params),
}
_NOT_BITS = _Entry("neuron", emits_spikes=False)
_BUILTIN: dict[str, dict[str, _Entry]] = {
    "sparseflow": _OWN,
    "spikingjelly": {
        **_OWN,
        **dict.fromkeys(
            (
                "SimpleIFNode", "SimpleLIFNode", "HalfThresholdIFNode", "GatedLIFNode", "KLIFNode", "PSN", "MaskedPSN",
                "ComplementaryLIFNode", "CUBALIFNode", "MPBNLIFNode", "OTTTLIFNode", "SLTTLIFNode", "QIFNode",
                "EIFNode", "IzhikevichNode", "RAFNode", "SlidingPSN", "MultiStepIFNode", "MultiStepLIFNode",
                "MultiStepParametricLIFNode", "PoissonEncoder",
            ),
            _Entry("neuron"),
        ),
        **dict.fromkeys(("ILIFNode", "LIAFNode", "TernaryIFNode", "TernaryLIFNode", "STBIFNode"), _NOT_BITS),
        "BaseNode": _Entry("neuron"),
    },
    "snntorch": {
        **dict.fromkeys(("Leaky", "Lapicque", "RLeaky", "StateLeaky", "LeakyParallel"), _Entry("lif")),
        **dict.fromkeys(("Synaptic", "RSynaptic", "Alpha", "SLSTM", "SConv2dLSTM", "DeltaLeaky"), _Entry("neuron")),
    },
    "norse": {
        **dict.fromkeys(("LIFCell", "LIF", "LIFRecurrentCell", "LIFRecurrent", "LIFBoxCell"), _Entry("lif")),
        **dict.fromkeys(("IAFCell", "IAF"), _Entry("if")),
        **dict.fromkeys(
            (
                "LIFAdEx", "LIFAdExCell", "LIFAdExRecurrent", "LIFAdExRecurrentCell", "LIFEx", "LIFExCell",
                "LIFExRecurrent", "LIFExRecurrentCell", "LIFRefracCell", "LIFRefracRecurrent", "LIFRefracRecurrentCell",
                "LSNN", "LSNNCell", "LSNNRecurrent", "LSNNRecurrentCell", "Izhikevich", "IzhikevichCell",
                "IzhikevichRecurrent", "IzhikevichRecurrentCell", "CobaLIFCell",
            ),
            _Entry("neuron"),
        ),
    },
}  # fmt: skip


class SpikeOpRegistry:
    """Knows which modules emit spikes and what their maths is.

    Built in are the neurons of SpikingJelly, snnTorch, Norse and
    `sparseflow.nn`; `register` adds the user's own types.

    >>> from torch import nn
    >>> class Step(nn.Module):
    ...     def forward(self, x): return (x > 0).float()
    >>> registry = SpikeOpRegistry()
    >>> registry.is_spike_source(Step())
    False
    >>> registry.register(Step)
    >>> registry.is_spike_source(Step())
    True
    """

    def __init__(self) -> None:
        self._user: dict[type[nn.Module], _Entry] = {}

    def register(self, cls: type[nn.Module], *, kind: str = "neuron", params: Params | None = None) -> None:
        """Declare that the first output of `cls` holds only zeros and ones.

        Args:
            cls: the module class; subclasses count too.
            kind: operator stem in a workload, as "lif".
            params: returns the module's `kind` ("if", "lif" or "plif"), `tau`,
                `v_threshold`, `v_reset`, `decay_input` and `step_mode`; leave out
                if its maths is none of these, then it is never fused. A module that
                is to be fused has its potential in `v`, a number at rest and a tensor
                `[N, ...]` after a step, and its `step_mode` as an attribute: "m" if
                it takes `[T, N, ...]`, "s" if it is called once a step.

        Raises:
            ConfigError: not a module class.
        """
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            raise ConfigError(f"cannot register {cls!r} as a spike source; give a subclass of torch.nn.Module")
        self._user[cls] = _Entry(kind, params)

    def unregister(self, cls: type[nn.Module]) -> None:
        """Forget a class that `register` added; unknown classes are ignored."""
        self._user.pop(cls, None)

    def is_spike_source(self, module: nn.Module) -> bool:
        """Tell whether the module's first output is spikes."""
        found = self._find(module)
        return found is not None and found[0].emits_spikes

    def neuron_op(self, module: nn.Module) -> str | None:
        """Return the operator stem of a spike source ("if", "lif", "plif", "neuron"), or None."""
        found = self._find(module)
        return None if found is None else found[0].op

    def neuron_params(self, module: nn.Module) -> dict[str, Any] | None:
        """Return the maths of an IF, LIF or parametric LIF neuron.

        Returns:
            `kind`, `tau`, `v_threshold`, `v_reset`, `decay_input`, `step_mode`;
            None when the module is no spike source, its maths is another or is
            overridden by a subclass, or its voltages are being stored.

        Raises:
            ConfigError: the `params` of a registered class leave something out.
        """
        found = self._find(module)
        if found is None or found[0].params is None or found[1]:
            return None
        params = found[0].params(module)
        missing = [] if params is None else [name for name in _PARAMS if name not in params]
        if missing:
            raise ConfigError(f"the params registered for {type(module).__name__} lack {', '.join(missing)}")
        return params

    def _find(self, module: nn.Module) -> tuple[_Entry, bool] | None:
        overridden = False
        for cls in type(module).__mro__:
            entry = self._user.get(cls) or _BUILTIN.get(cls.__module__.partition(".")[0], {}).get(cls.__name__)
            if entry is not None:
                return entry, overridden
            overridden = overridden or bool(_MATHS & vars(cls).keys())
        return None


REGISTRY = SpikeOpRegistry()
register = REGISTRY.register
is_spike_source = REGISTRY.is_spike_source
neuron_op = REGISTRY.neuron_op
neuron_params = REGISTRY.neuron_params
