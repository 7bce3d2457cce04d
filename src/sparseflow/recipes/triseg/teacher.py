"""The teacher of a search: a trained network on codes, from the user's folder or as shipped."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from sparseflow.compress.quantize import IntegerNet, Site, to_integer
from sparseflow.errors import ConfigError, DataError
from sparseflow.nn import models
from sparseflow.recipes.triseg.checkpoint import Images, build_network, network_name, read_qat

__all__ = ["FLOAT", "QAT", "Teacher", "find_qat", "load_teacher", "shipped"]

FLOAT = "{model}_float_unfused.safetensors"
QAT = "{model}_qat_preconvert.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A network on codes whose activations are about to be approximated.

    Args:
        name: name of the network, as "alexnet".
        net: its integer form; without tables it is the teacher, with tables the student.
        sites: the activations that are approximated, in order of the graph, named as `conv1_1`, `fc1`.
        images: what the network reads.
        source: file that it came from.
        metadata: header of that file.
    """

    name: str
    net: IntegerNet
    sites: tuple[Site, ...]
    images: Images
    source: Path
    metadata: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sites."""
        return tuple(site.name for site in self.sites)

    @property
    def points(self) -> tuple[str, ...]:
        """Points of the integer network, one a site, as `IntegerNet.forward` takes tables by."""
        return tuple(site.node for site in self.sites)


def _assets() -> Path:
    return Path(__file__).parents[2] / "assets" / "triseg"


def shipped() -> tuple[str, ...]:
    """Return the names of the networks whose checkpoint ships with sparseflow."""
    end = QAT.format(model="")
    return tuple(sorted(p.name.removesuffix(end) for p in _assets().glob(f"*{end}")))


def find_qat(model: str, out: str | Path = "outputs") -> Path:
    """Return the checkpoint of a network: the user's in `out`, else the shipped one.

    Args:
        model: a name of the zoo, `file.py:function`, or the path of a `.safetensors` file itself.
        out: folder of the user's checkpoints.

    Raises:
        DataError: there is none; names the files looked for and the commands that make them.
    """
    if model.endswith(".safetensors"):
        if not Path(model).is_file():
            raise DataError(f"no checkpoint {model}; name a file that `sparseflow triseg train-qat` wrote")
        return Path(model)
    name = QAT.format(model=network_name(model))
    for path in (Path(out) / name, _assets() / name):
        if path.is_file():
            return path
    _check_known(model)
    ready = ", ".join(shipped()) or "none"
    raise DataError(
        f"no checkpoint {Path(out) / name}, and none is shipped for {model!r} (shipped: {ready});"
        f" make it with: sparseflow triseg train-float --model {model} --out {out},"
        f" then: sparseflow triseg train-qat --model {model} --out {out}"
    )


def _check_known(model: str) -> None:
    if ":" not in model and model not in models.names():
        known = ", ".join(models.names("convnets"))
        raise ConfigError(f"no network {model!r}; there are {known}, or name your own as file.py:function")


def load_teacher(
    model: str,
    out: str | Path = "outputs",
    *,
    device: str | torch.device = "cpu",
    builder: Callable[..., nn.Module] | None = None,
) -> Teacher:
    """Load a trained network on codes.

    Args:
        model: a name of the zoo, `file.py:function`, or the path of a `.safetensors` file; see `find_qat`.
        out: folder of the user's checkpoints.
        device: where it is to run.
        builder: makes the network in float32; only for a path to a network outside the zoo.

    Raises:
        ConfigError: no such network.
        DataError: no checkpoint, or a damaged one; names the file and the command that makes it.
    """
    path = find_qat(model, out)
    if builder is None and ":" in model and not model.endswith(".safetensors"):
        builder = partial(build_network, model)
    found = read_qat(path, builder=builder)
    net = to_integer(found.graph).to(device)
    sites = tuple(site for site in found.sites if site.node in net.points)
    if not sites:
        raise DataError(f"{path}: no activation of {found.model!r} can take other codes; it has no ReLU before a layer")
    return Teacher(
        name=network_name(found.model),
        net=net,
        sites=sites,
        images=found.images,
        source=path,
        metadata=found.metadata,
    )
