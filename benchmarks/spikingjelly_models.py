"""SpikingJelly 2.0 builders to try, with arguments and sample shapes small enough for a few seconds each.

torchvision must be importable before `Builder.make` runs; where the installed
torch lacks its operators, `tests.torchvision_shim.install()` declares them.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

__all__ = ["BUILDERS", "Builder", "names"]

_MODELS = "spikingjelly.activation_based.model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """One way to build a network.

    Args:
        name: the builder's name in SpikingJelly.
        module: module of `spikingjelly.activation_based.model` that has it.
        arguments: keyword arguments; the string "IF" or "LIF" stands for a neuron class.
        sample_shape: shape of one batch; `[T, N, C, H, W]`, or `[N, C, H, W]` where
            the network repeats the image itself.
        multi_step: set every layer to read all time steps at once.
    """

    name: str
    module: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    sample_shape: tuple[int, ...]
    multi_step: bool = True

    def make(self, seed: int = 0, *, alive: bool = True) -> nn.Module:
        """Build the network in eval mode with random weights.

        Args:
            seed: seed of the weights.
            alive: set the statistics of every batch norm from random images, so that
                the neurons behind it fire as they do in a trained network.
        """
        from spikingjelly.activation_based import functional, neuron, surrogate

        neurons = {"IF": neuron.IFNode, "LIF": neuron.LIFNode, "PLIF": neuron.ParametricLIFNode}
        given = {k: neurons.get(v, v) if isinstance(v, str) else v for k, v in self.arguments.items()}
        if given.get("spiking_neuron") in neurons.values():
            given.setdefault("surrogate_function", surrogate.ATan())
            given.setdefault("detach_reset", True)
        build = getattr(importlib.import_module(f"{_MODELS}.{self.module}"), self.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: nn.Module = build(**given)
            if self.multi_step:
                functional.set_step_mode(model, "m")
            if alive:
                _set_statistics(model, self.sample(seed))
        functional.reset_net(model)
        return model.eval()

    def sample(self, seed: int = 0) -> torch.Tensor:
        """Return one batch of uniform random images, the same in every time step."""
        images = torch.rand(self.sample_shape[-4:], generator=torch.Generator().manual_seed(seed))
        return images if len(self.sample_shape) == 4 else images.expand(self.sample_shape).contiguous()


def _set_statistics(model: nn.Module, sample: torch.Tensor) -> None:
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(sample)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _resnet(name: str, **more: Any) -> Builder:
    kind = {"spiking_neuron": "IF"} if name.startswith("sew") else {"spiking_neuron": "LIF", "v_threshold": 0.5}
    given = {"num_classes": 10, **kind, **more}
    if name.startswith("sew"):
        given.setdefault("cnf", "ADD")
    module = "sew_resnet" if name.startswith("sew") else "spiking_resnet"
    return Builder(name=name, module=module, arguments=given, sample_shape=(2, 2, 3, 64, 64))


def _vgg(name: str) -> Builder:
    given = {"num_classes": 10, "spiking_neuron": "LIF", "v_threshold": 0.2}
    return Builder(name=name, module="spiking_vgg", arguments=given, sample_shape=(2, 2, 3, 32, 32))


def _sequence(name: str, module: str, side: int = 64, frames: int = 2, **more: Any) -> Builder:
    return Builder(name=name, module=module, arguments={"T": frames, **more}, sample_shape=(2, 3, side, side))


BUILDERS = (
    _resnet("sew_resnet18"),
    _resnet("sew_resnet34", cnf="IAND"),
    _resnet("sew_resnet50", cnf="AND"),
    _resnet("sew_resnet101"),
    _resnet("sew_resnext50_32x4d"),
    _resnet("sew_wide_resnet50_2"),
    _resnet("spiking_resnet18"),
    _resnet("spiking_resnet34", spiking_neuron="PLIF"),
    _resnet("spiking_resnet50"),
    _resnet("spiking_resnet101"),
    _resnet("spiking_resnext50_32x4d"),
    _resnet("spiking_wide_resnet50_2"),
    _vgg("spiking_vgg11"),
    _vgg("spiking_vgg13"),
    _vgg("spiking_vgg11_bn"),
    _vgg("spiking_vgg13_bn"),
    _vgg("spiking_vgg16_bn"),
    _vgg("spiking_vgg19_bn"),
    _sequence("ms_resnet18", "ms_resnet", num_classes=10),
    _sequence("ms_resnet34", "ms_resnet", num_classes=10),
    _sequence("max_resnet18", "ms_resnet", side=32),
    _sequence("att_ms_resnet18", "masnn", num_classes=10),
    Builder(
        name="masnn_dvs128_gesture", module="masnn", arguments={"T": 10}, sample_shape=(10, 2, 2, 32, 32),
    ),
    _sequence("spikformer_ti", "spikformer", img_size_h=64, img_size_w=64, num_classes=10),
    _sequence("spikformer_s", "spikformer", img_size_h=64, img_size_w=64, num_classes=10),
    _sequence("spikformer_cifar10", "spikformer", side=32),
    _sequence("qkformer_10_384", "qkformer", num_classes=10),
    _sequence("sdt_8_384", "spike_driven_transformer", num_classes=10),
    _sequence("maxformer_10_384", "maxformer", num_classes=10),
    _sequence("maxformer_cifar", "maxformer", side=32, num_classes=10),
    Builder(
        name="MNISTNet", module="parametric_lif_net", arguments={"channels": 32, "spiking_neuron": "PLIF"},
        sample_shape=(2, 2, 1, 28, 28),
    ),
    Builder(
        name="CIFAR10Net", module="parametric_lif_net", arguments={"channels": 64, "spiking_neuron": "PLIF"},
        sample_shape=(2, 2, 3, 32, 32),
    ),
    Builder(
        name="DVSGestureNet", module="parametric_lif_net", arguments={"channels": 32, "spiking_neuron": "PLIF"},
        sample_shape=(2, 2, 2, 128, 128),
    ),
    Builder(
        name="ottt_spiking_vggws", module="spiking_vggws_ottt", arguments={"num_classes": 10},
        sample_shape=(2, 3, 32, 32), multi_step=False,
    ),
    Builder(
        name="ottt_spiking_vgg11_ws", module="spiking_vggws_ottt", arguments={"num_classes": 10},
        sample_shape=(2, 3, 32, 32), multi_step=False,
    ),
)  # fmt: skip


def names() -> tuple[str, ...]:
    """Return the names of the builders."""
    return tuple(builder.name for builder in BUILDERS)
