"""Files of networks trained for codes: weights in bytes with the scales of their channels, and how they were made.

A file holds the state of a graph from `prepare_qat`. The weight of a convolution or linear layer is stored as its int8
codes; beside it lies `<layer>.weight.scale`, float32, so that weight[c] = scale[c] · code[c]. All else is float32. The
integer network of the loaded graph is that of the saved one, bit for bit.
"""

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, fx, nn

from sparseflow.compress.quantize import QuantConfig, Sites, find_sites, freeze_observers, prepare_qat
from sparseflow.compress.quantize.qat import QuantLayer
from sparseflow.errors import ConfigError, DataError, SparseFlowError
from sparseflow.ir.files import write_atomic
from sparseflow.nn import models
from sparseflow.trace import capture

__all__ = ["Images", "QatNet", "build_network", "network_name", "read_qat", "save_qat", "sites_of"]

_FORMAT = "sparseflow-qat-1"
_WEIGHT = ".layer.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """What a network was trained to read.

    Args:
        shape: channels, height and width of an image.
        mean: mean by channel that is subtracted, on a scale of 0 to 1.
        std: deviation by channel that divides, likewise.
        classes: names by label.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QatNet:
    """A network trained for codes, as a file holds it.

    Args:
        graph: from `prepare_qat`, in eval mode, its ranges frozen.
        sites: activations whose codes can be changed.
        model: name of the network.
        arguments: arguments of its builder.
        images: what it reads.
        metadata: header of the file.
        source: the file.
    """

    graph: fx.GraphModule
    sites: Sites
    model: str
    arguments: Mapping[str, Any]
    images: Images
    metadata: Mapping[str, str]
    source: Path

    @property
    def record(self) -> dict[str, Any]:
        """How it was trained and what it reached."""
        found: dict[str, Any] = json.loads(self.metadata["record"])
        return found


def network_name(model: str) -> str:
    """Return the name under which files of a network lie: that of the zoo, of the user's function, or of a checkpoint.

    >>> network_name("vgg16"), network_name("nets/mine.py:small"), network_name("out/nin_qat_preconvert.safetensors")
    ('vgg16', 'small', 'nin')
    """
    if model.endswith(".safetensors"):
        return Path(model).stem.removesuffix("_qat_preconvert")
    return model.rpartition(":")[2]


def build_network(model: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a network of the zoo by name, or of the user by `module:function` or `file.py:function`.

    Args:
        model: the name.
        arguments: what its builder takes.

    Raises:
        ConfigError: no such name, module, file or function, or what it returns is no module.
    """
    given = dict(arguments or {})
    home, colon, name = model.rpartition(":")
    if not colon:
        return models.build(model, **given)
    try:
        module = _from_file(Path(home)) if home.endswith(".py") else importlib.import_module(home)
    except (ImportError, OSError, SyntaxError) as e:
        raise ConfigError(f"cannot import {home!r} of network {model!r}: {e}") from e
    builder = getattr(module, name, None)
    if not callable(builder):
        raise ConfigError(f"{home!r} has no function {name!r}; name one that returns the network")
    try:
        made = builder(**given)
    except TypeError as e:
        raise ConfigError(f"network {model!r}: {e}") from e
    if not isinstance(made, nn.Module):
        raise ConfigError(f"network {model!r}: its function returned {type(made).__name__}; expected an nn.Module")
    return made


def _from_file(path: Path) -> Any:
    name = f"_sparseflow_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def sites_of(model: nn.Module, shape: tuple[int, int, int]) -> Sites:
    """Return the sites of a network in float32; their nodes are the points of its integer form.

    Args:
        model: the network; left as it is.
        shape: channels, height and width of an image.
    """
    training = model.training
    try:
        return find_sites(capture(model.eval(), torch.zeros(2, *shape, device=next(model.parameters()).device)))
    finally:
        model.train(training)


def save_qat(
    path: str | os.PathLike[str],
    qat: fx.GraphModule,
    *,
    model: str,
    arguments: Mapping[str, Any],
    images: Images,
    record: Mapping[str, Any],
    config: QuantConfig | None = None,
) -> Path:
    """Write a graph from `prepare_qat`, whole or not at all; its folder is made.

    Args:
        path: the file to write.
        qat: trained or calibrated, on any device.
        model: name for `build_network`.
        arguments: the builder's arguments.
        images: what the network reads.
        record: JSON values for the header: how it was trained, what it reached.
        config: the settings that `prepare_qat` had; the default ones if None.

    Raises:
        ConfigError: a value is not finite.
        DataError: the file cannot be written.
    """
    codes = {f"{n}{_WEIGHT}": m for n, m in qat.named_modules() if isinstance(m, QuantLayer)}
    tensors: dict[str, Tensor] = {}
    for key, tensor in qat.state_dict().items():
        stored = tensor.detach()
        if key in codes:
            stored = codes[key].weight.codes(stored).to(torch.int8)
        elif stored.is_floating_point():
            stored = stored.float()
            if not bool(torch.isfinite(stored).all()):
                raise ConfigError(f"{key} holds values that are not finite; the training diverged, so lower its rate")
        tensors[key] = stored.cpu().contiguous().clone()
    header = {
        "format": _FORMAT,
        "model": model,
        "arguments": json.dumps(dict(arguments)),
        "images": json.dumps(asdict(images)),
        "quant": json.dumps(asdict(config or QuantConfig())),
        "record": json.dumps(dict(record)),
    }
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DataError(f"cannot make the folder {target.parent}: {e.strerror or e}; name another") from e
    return write_atomic(target, save(tensors, header))


def read_qat(path: str | os.PathLike[str], *, builder: Callable[..., nn.Module] | None = None) -> QatNet:
    """Read what `save_qat` wrote.

    Args:
        path: the file.
        builder: makes the network in float32 of its arguments; needed for networks outside the zoo, since a file
            is not allowed to say which code is run.

    Raises:
        DataError: no such file, none of this kind, or one that does not fit the network; says what makes it anew.
    """
    file = Path(path)
    header, tensors = _read(file)
    model, arguments = header["model"], json.loads(header["arguments"])
    if builder is None and model not in models.names():
        raise DataError(
            f"{file} holds network {model!r}, which is not in the zoo; name its function too, as --model mine.py:build"
        )
    images = _images(json.loads(header["images"]))
    try:
        plain = (builder(**arguments) if builder is not None else build_network(model, arguments)).eval()
        sites = sites_of(plain, images.shape)
        with torch.random.fork_rng(devices=[]):
            sample = torch.rand(2, *images.shape)
        graph = prepare_qat(plain, sample, QuantConfig(**json.loads(header["quant"])))
        _load(graph, tensors)
    except (SparseFlowError, RuntimeError, TypeError) as e:
        raise DataError(f"{file} does not fit network {model!r}: {e}") from e
    freeze_observers(graph)
    return QatNet(
        graph=graph.eval(), sites=sites, model=model, arguments=arguments, images=images, metadata=header, source=file
    )


def _read(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    mend = "train it anew with: sparseflow triseg train-qat"
    if not file.is_file():
        raise DataError(f"no checkpoint {file}; {mend}")
    try:
        with safe_open(file, framework="pt") as f:
            header = dict(f.metadata() or {})
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as e:
        raise DataError(f"{file} is damaged or no safetensors file: {e}; {mend}") from e
    wanted = ("model", "arguments", "images", "quant", "record")
    if header.get("format") != _FORMAT or any(key not in header for key in wanted):
        raise DataError(f"{file} is no checkpoint of a network on codes (format {header.get('format')!r}); {mend}")
    return header, tensors


def _images(body: dict[str, Any]) -> Images:
    channels, height, width = body["shape"]
    return Images(
        shape=(channels, height, width),
        mean=tuple(body["mean"]),
        std=tuple(body["std"]),
        classes=tuple(body["classes"]),
    )


def _load(graph: fx.GraphModule, tensors: Mapping[str, Tensor]) -> None:
    state: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{key} holds values that are not finite; train it anew with: sparseflow triseg train-qat")
        state[key] = tensor
        if tensor.dtype == torch.int8 and key.endswith(_WEIGHT):
            scale = tensors.get(key.removesuffix(_WEIGHT) + ".weight.scale")
            if scale is None or scale.shape != tensor.shape[:1]:
                raise DataError(f"{key} is in bytes, but has no fitting scales")
            state[key] = tensor.float() * scale.view(-1, *[1] * (tensor.ndim - 1))
    graph.load_state_dict(state)
