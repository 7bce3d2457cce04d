"""Networks by name, and their checkpoints."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.nn.models.checkpoint import Checkpoint, checkpoints, read_checkpoint, save_checkpoint
from sparseflow.nn.models.convnets import (
    ConvNet,
    ResNet,
    alexnet,
    lenet5,
    mobilenetv1,
    nin,
    resnet18,
    squeezenet,
    vgg16,
    vgg19,
)
from sparseflow.nn.models.forecasters import cmamba as _cmamba
from sparseflow.nn.models.spiking import (
    CSNN,
    SpikingResNet,
    SpikingVGG,
    csnn,
    sew_resnet18,
    spiking_resnet18,
    spiking_resnet50,
    spiking_vgg9,
    spiking_vgg11,
)

__all__ = [
    "CSNN",
    "Checkpoint",
    "ConvNet",
    "ResNet",
    "SpikingResNet",
    "SpikingVGG",
    "alexnet",
    "arguments",
    "build",
    "checkpoints",
    "csnn",
    "lenet5",
    "load_checkpoint",
    "mobilenetv1",
    "names",
    "nin",
    "read_checkpoint",
    "resnet18",
    "save_checkpoint",
    "sew_resnet18",
    "spiking_resnet18",
    "spiking_resnet50",
    "spiking_vgg9",
    "spiking_vgg11",
    "squeezenet",
    "vgg16",
    "vgg19",
]

Builder = Callable[..., nn.Module]

_FAMILIES: dict[str, tuple[Builder, ...]] = {
    "convnets": (alexnet, lenet5, mobilenetv1, nin, resnet18, squeezenet, vgg16, vgg19),
    # Not exported by its name, which is that of its folder.
    "forecasters": (_cmamba,),
    "spiking": (csnn, sew_resnet18, spiking_resnet18, spiking_resnet50, spiking_vgg9, spiking_vgg11),
}
_BUILDERS: dict[str, Builder] = {f.__name__: f for family in _FAMILIES.values() for f in family}


def names(family: str | None = None) -> tuple[str, ...]:
    """Return the names that `build` knows, sorted.

    Args:
        family: "spiking", "convnets" or "forecasters"; None for all.

    Raises:
        ConfigError: unknown family.

    >>> "spiking_vgg9" in names()
    True
    >>> names("convnets")
    ('alexnet', 'lenet5', 'mobilenetv1', 'nin', 'resnet18', 'squeezenet', 'vgg16', 'vgg19')
    """
    if family is None:
        return tuple(sorted(_BUILDERS))
    if family not in _FAMILIES:
        raise ConfigError(f"no family {family!r} of networks; there are {', '.join(sorted(_FAMILIES))}")
    return tuple(sorted(f.__name__ for f in _FAMILIES[family]))


def arguments(name: str) -> tuple[str, ...]:
    """Return the names of the arguments that `build(name, ...)` takes.

    Raises:
        ConfigError: unknown name.
    """
    return tuple(signature(_builder(name)).parameters)


def build(name: str, **arguments: Any) -> nn.Module:
    """Build a network by name with fresh weights.

    Raises:
        ConfigError: unknown name, or arguments that its builder does not take.
    """
    builder = _builder(name)
    try:
        return builder(**arguments)
    except TypeError as e:
        raise ConfigError(f"network {name!r}: {e}") from e


def _builder(name: str) -> Callable[..., nn.Module]:
    if name not in _BUILDERS:
        raise ConfigError(f"no network {name!r}; there are {', '.join(names())}")
    return _BUILDERS[name]


def load_checkpoint(name_or_path: str) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network of a checkpoint, load its weights, and set it to eval.

    Args:
        name_or_path: a shipped name (see `checkpoints`) or a `.safetensors` path.

    Returns:
        The network in float32 on the CPU, and the record of its training:
        accuracy, density by layer, configuration, versions.

    Raises:
        DataError: no such checkpoint, a damaged file, or weights that do not fit.
    """
    checkpoint = read_checkpoint(name_or_path)
    model = build(checkpoint.model, **checkpoint.arguments)
    checkpoint.load_into(model)
    return model.eval(), checkpoint.record
