"""A model and a sample from what a user types: a zoo name, a checkpoint, SpikingJelly's builder, or a factory."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.data import cifar10_subset
from sparseflow.errors import ConfigError
from sparseflow.nn import models
from sparseflow.nn.models.cmamba import CMamba
from sparseflow.recipes.forecast.checkpoint import load_forecaster, shipped

__all__ = ["Picked", "pick", "spikingjelly_builders"]

_JELLY = "spikingjelly.activation_based.model"
_ROOMS = (
    "masnn",
    "maxformer",
    "ms_resnet",
    "qkformer",
    "sew_resnet",
    "spike_driven_transformer",
    "spikformer",
    "spiking_resnet",
    "spiking_vgg",
)
_STEPS = 4
_DECLARED: list[torch.library.Library] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """A model ready to run.

    Args:
        name: what to call it.
        model: the module, in eval mode.
        sample: an input that it takes.
        origin: where both came from, in words.
    """

    name: str
    model: nn.Module
    sample: Tensor
    origin: str


def pick(name: str, *, shape: Sequence[int] | None = None, batch: int = 1, seed: int = 0) -> Picked:
    """Return the model that a name stands for, and a sample for it.

    Tried in this order: a shipped checkpoint or the path of one
    (`.safetensors`); a forecaster that ships; a network of `sparseflow.nn.models`; `module:factory` or
    `file.py:factory`, called without arguments; a builder of SpikingJelly 2.0.
    Write `spikingjelly.NAME` for a builder whose name is ours too.

    The sample holds the first shipped CIFAR-10 images where a network of ours
    takes 3×32×32, normal noise elsewhere.

    Args:
        name: what the user typed.
        shape: shape of the sample; needed for a factory.
        batch: images in the sample where `shape` is not given.
        seed: seed of fresh weights and of noise.

    Raises:
        ConfigError: nothing has this name, the factory fails or returns no
            module, or the shape is missing or impossible.
        DataError: the checkpoint is damaged.
    """
    if shape is not None and (not shape or any(n < 1 for n in shape)):
        raise ConfigError(f"shape is {tuple(shape)}; expected positive sizes, as 1,3,32,32")
    if batch < 1:
        raise ConfigError(f"batch is {batch}; expected 1 or more")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name.endswith(".safetensors") or name in models.checkpoints():
            model, _ = models.load_checkpoint(name)
            return _ours(Path(name).stem, model, shape, batch, "a trained checkpoint")
        if name in shipped():
            return _ours(name, load_forecaster(name).model, shape, batch, "a trained forecaster")
        if name in models.names():
            return _ours(name, models.build(name).eval(), shape, batch, "the zoo, with fresh weights")
        if ":" in name:
            return _factory(name, shape)
        return _jelly(name.removeprefix("spikingjelly."), shape, batch)


def spikingjelly_builders() -> dict[str, Callable[..., nn.Module]]:
    """Return SpikingJelly's model builders by name; empty where it is not installed."""
    if importlib.util.find_spec("spikingjelly") is None:
        return {}
    _declare_torchvision()
    found: dict[str, Callable[..., nn.Module]] = {}
    for room in _ROOMS:
        module = importlib.import_module(f"{_JELLY}.{room}")
        for key, value in vars(module).items():
            if not inspect.isfunction(value) or value.__module__ != module.__name__ or key.startswith("_"):
                continue
            if {"pretrained", "T"} & inspect.signature(value).parameters.keys():
                found[key] = value
    return found


def _ours(name: str, model: nn.Module, shape: Sequence[int] | None, batch: int, origin: str) -> Picked:
    if isinstance(model, CMamba):
        sample = torch.randn(*(shape or (batch, model.args.num_channels, model.args.seq_len)))
        return Picked(name=name, model=model, sample=sample, origin=f"{origin}; noise for series")
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    if shape is None and first.in_channels == 3:
        images = cifar10_subset().take(batch)
        sample = images.normalize(images.images)
        return Picked(name=name, model=model, sample=sample, origin=f"{origin}; real CIFAR-10 images")
    side = 28 if first.in_channels == 1 else 32
    sample = torch.randn(*(shape or (batch, first.in_channels, side, side)))
    return Picked(name=name, model=model, sample=sample, origin=f"{origin}; noise for images")


def _factory(name: str, shape: Sequence[int] | None) -> Picked:
    where, _, attribute = name.partition(":")
    if shape is None:
        raise ConfigError(f"{name!r} is a factory, so its input is not known; add --shape, as --shape 1,3,32,32")
    try:
        is_file = where.endswith(".py")
        with _neighbours(Path(where).absolute().parent if is_file else Path.cwd()):
            module = _from_file(where) if is_file else importlib.import_module(where)
            made = getattr(module, attribute)()
    except Exception as e:
        raise ConfigError(
            f"cannot build {name!r}: {type(e).__name__}: {e}; expected module:function or file.py:function"
        ) from e
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{name!r} returned {type(made).__name__}; expected a torch.nn.Module")
    return Picked(name=attribute, model=made.eval(), sample=torch.randn(*shape), origin=f"{where}; noise for input")


@contextmanager
def _neighbours(folder: Path) -> Iterator[None]:
    """Let imports find what lies in a folder, as they do for a script there; what is installed comes first."""
    finder = _Folder(folder)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Folder(MetaPathFinder):
    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(fullname, [self.folder], target) if path is None else None


def _from_file(where: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(where).stem, where)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{where} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _jelly(name: str, shape: Sequence[int] | None, batch: int) -> Picked:
    builders = spikingjelly_builders()
    if name not in builders:
        raise ConfigError(_unknown(name, builders))
    builder = builders[name]
    arguments: dict[str, Any] = {}
    static = "T" in inspect.signature(builder).parameters
    if not static:
        from spikingjelly.activation_based import neuron

        arguments = {"spiking_neuron": neuron.LIFNode}
        if name.startswith("sew_"):
            arguments["cnf"] = "ADD"
    model = builder(**arguments).eval()
    if not static:
        from spikingjelly.activation_based import functional

        functional.set_step_mode(model, "m")
    side = 32 if "cifar" in name or name == "max_resnet18" else 128 if "dvs" in name else 224
    channels = 2 if "dvs" in name else 3
    default = (batch, channels, side, side) if static else (_STEPS, batch, channels, side, side)
    sample = torch.randn(*(shape or default))
    return Picked(name=name, model=model, sample=sample, origin="SpikingJelly, with fresh weights; noise for images")


def _unknown(name: str, builders: dict[str, Callable[..., nn.Module]]) -> str:
    import difflib

    ours = [*models.checkpoints(), *shipped(), *models.names()]
    near = difflib.get_close_matches(name, [*ours, *builders], n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    jelly = f"{len(builders)} builders of SpikingJelly" if builders else "SpikingJelly's builders, once it is installed"
    return f"no model {name!r}; {hint}there are {', '.join(ours)}, {jelly}, and any module:factory of yours"


def _declare_torchvision() -> None:
    """Let torchvision import beside a torch build that lacks its compiled operators.

    Where the two fit, torchvision declares them itself; a second declaration would end the process.
    """
    if _DECLARED or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
        return
    except RuntimeError as e:
        if "torchvision::" not in str(e):
            raise
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _DECLARED.append(library)
