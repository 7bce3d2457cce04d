"""Swap modules inside a model by dotted name, all of them or none."""

from collections.abc import Mapping

from torch import nn

from sparseflow.errors import ConfigError

__all__ = ["get_module", "replace_modules", "set_module"]


def get_module(model: nn.Module, name: str) -> nn.Module:
    """Return the module with this dotted name; "" is the model itself.

    Raises:
        ConfigError: there is none; names the nearest parent that exists.

    >>> type(get_module(nn.Sequential(nn.Sequential(nn.ReLU())), "0.0")).__name__
    'ReLU'
    """
    found, done = model, ""
    for part in name.split(".") if name else ():
        child = found._modules.get(part)
        if child is None:
            raise ConfigError(f"{type(model).__name__} has no module {name!r}: {done or 'the model'!r} has no {part!r}")
        found, done = child, f"{done}.{part}".lstrip(".")
    return found


def set_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place of the one with this dotted name.

    Raises:
        ConfigError: the place does not exist, or is the model itself.
    """
    if not name:
        raise ConfigError("the model itself cannot be replaced in place; name a module inside it")
    get_module(model, name)
    parent, _, leaf = name.rpartition(".")
    get_module(model, parent)._modules[leaf] = module


def replace_modules(model: nn.Module, modules: Mapping[str, nn.Module]) -> nn.Module:
    """Swap several modules in place; either all are swapped or none.

    A module that the model holds under several names is swapped under each of
    them, so that sharing stays sharing. The training mode of the old module is
    passed on.

    Args:
        model: the model to change.
        modules: dotted name to the new module.

    Returns:
        `model`.

    Raises:
        ConfigError: a name does not exist; the model is then untouched.
    """
    old = {id(get_module(model, name)): new.train(get_module(model, name).training) for name, new in modules.items()}
    if "" in modules:
        raise ConfigError("the model itself cannot be replaced in place; name a module inside it")
    for parent in list(model.modules()):
        for leaf, child in list(parent._modules.items()):
            if child is not None and id(child) in old:
                parent._modules[leaf] = old[id(child)]
    return model
