"""Writes what flows through a network for one batch, and shows how it answers as it is and with an edit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, fx, nn

from sparseflow.compress.quantize import Site
from sparseflow.data import ImageSet, Splits
from sparseflow.errors import ConfigError, DataError
from sparseflow.ir.files import write_atomic
from sparseflow.recipes.triseg.analyze import BUCKETS, AnalyzeConfig, accuracy, pick_images, teacher_of
from sparseflow.recipes.triseg.checkpoint import sites_of
from sparseflow.recipes.triseg.config import TrainConfig
from sparseflow.recipes.triseg.fit import accuracy as float_accuracy
from sparseflow.recipes.triseg.train import float_file, read_float
from sparseflow.trace import capture

__all__ = ["EditConfig", "Tapped", "baseline", "dump", "edit"]

_EDITS = ("zero", "buckets")


@dataclass(frozen=True, slots=True, kw_only=True)
class EditConfig:
    """One demonstration of an edit.

    Args:
        what: "zero" sets the first channels of one activation to 0; "buckets" applies the earlier project's fixed
            map, 1..4 to 4, 5..11 to 8, 12..17 to 14, to the codes of every site.
        layer: the site whose channels are zeroed; None for the first.
        channels: how many of them.
        floating: edit the network in float32 instead of that on codes; with "zero" only.
        look: network and images.

    Raises:
        ConfigError: no such edit, no channels, or buckets of real numbers.
    """

    what: str = "zero"
    layer: str | None = None
    channels: int = 8
    floating: bool = False
    look: AnalyzeConfig = field(default_factory=lambda: AnalyzeConfig(split="val", batches=None))

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.what not in _EDITS:
            raise ConfigError(f"edit is {self.what!r}; expected one of {', '.join(_EDITS)}")
        if self.channels < 1:
            raise ConfigError(f"channels is {self.channels}; expected 1 or more")
        if self.what == "buckets" and self.floating:
            raise ConfigError("buckets are a map of codes; leave floating out")


class Tapped(nn.Module):
    """A network in float32 whose activations at its sites can be read or changed.

    Args:
        net: the network.
        shape: channels, height and width of an image.

    Attributes:
        sites: where.
        edits: functions from values to values, by the node of a site.

    Shapes: as of the network.
    """

    def __init__(self, net: nn.Module, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.sites: tuple[Site, ...] = tuple(sites_of(net, shape))
        traced = capture(net.eval(), torch.zeros(2, *shape)).graph_module
        assert traced is not None  # sites_of says why where there is none
        self.graph = traced
        self.edits: dict[str, Callable[[Tensor], Tensor]] = {}

    def forward(self, x: Tensor) -> Any:
        """Return the logits, with edits on the way."""
        return _Edited(self.graph, self.edits).run(x)

    @torch.no_grad()
    def values(self, x: Tensor) -> dict[str, Tensor]:
        """Return the values at the sites, by tap."""
        found: dict[str, Tensor] = {}

        def keep(tap: str) -> Callable[[Tensor], Tensor]:
            return lambda value: found.setdefault(tap, value)

        _Edited(self.graph, {site.node: keep(site.tap) for site in self.sites}).run(x)
        return found


class _Edited(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, edits: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        super().__init__(graph)
        self.edits = edits

    def run_node(self, n: fx.Node) -> Any:
        """Run a node and edit its value."""
        value = super().run_node(n)
        edit = self.edits.get(n.name)
        return value if edit is None else edit(value)


@torch.no_grad()
def dump(
    config: AnalyzeConfig, path: str | Path | None = None, *, floating: bool = False, splits: Splits | None = None
) -> Path:
    """Write the activations of one batch, by tap, as `block_output.conv1_1` and `classifier.fc1.out`.

    Codes are uint8, values of the network in float32 float32; images (uint8), labels and logits lie beside them.

    Args:
        config: network, images and batch size; its first batch is taken.
        path: `.safetensors`, or `.pt` as the earlier project wrote; None names it after the network in `out`.
        floating: the network in float32 instead of that on codes.
        splits: images already opened; None opens `config.data`.

    Returns:
        The file, written whole or not at all.

    Raises:
        ConfigError: another ending.
        DataError: no checkpoint or no images.
    """
    kind = "float" if floating else "int8"
    images = pick_images(replace(config, batches=1), splits, "dump")
    tensors: dict[str, Tensor] = {"images": images.images, "labels": images.labels}
    if floating:
        net, name = _float_net(config, images)
        tensors |= net.values(x := images.normalize(images.images))
        tensors["logits"] = net(x)
    else:
        teacher = teacher_of(config)
        name = teacher.name
        x = (
            replace(images, mean=teacher.images.mean, std=teacher.images.std)
            .normalize(images.images)
            .to(next(teacher.net.buffers()).device)
        )
        codes = teacher.net.codes(x, points=teacher.points)
        tensors |= {site.tap: codes[site.node].to(torch.uint8) for site in teacher.sites}
        tensors["logits"] = teacher.net(x)
    file = Path(path) if path is not None else Path(config.out) / f"{name}_acts_{kind}.safetensors"
    return _write(file, {key: value.detach().cpu().contiguous() for key, value in tensors.items()})


def baseline(config: AnalyzeConfig, *, floating: bool = False, splits: Splits | None = None) -> dict[str, Any]:
    """Return the accuracy of a network without any change.

    Args:
        config: network and images.
        floating: the network in float32 instead of that on codes.
        splits: images already opened; None opens `config.data`.

    Raises:
        ConfigError: no such network.
        DataError: no checkpoint or no images.
    """
    images = pick_images(config, splits, "accuracy without changes")
    if floating:
        net, name = _float_net(config, images)
        share = 100 * float_accuracy(net, images, torch.device("cpu"))
    else:
        teacher = teacher_of(config)
        name, share = teacher.name, accuracy(teacher, images, batch_size=config.batch_size)
    return {
        "model": name, "network": "float32" if floating else "int8", "accuracy": share, "images": len(images),
        "split": images.split,
    }  # fmt: skip


def edit(config: EditConfig, *, splits: Splits | None = None) -> dict[str, Any]:
    """Answer all images without and with an edit.

    Args:
        config: what to edit.
        splits: images already opened; None opens the configuration's.

    Returns:
        Accuracies in percent before and after, their difference, and what was edited.

    Raises:
        ConfigError: the network has no such layer, or fewer channels.
        DataError: no checkpoint or no images.
    """
    images = pick_images(config.look, splits, "edit")
    if config.floating:
        net, name = _float_net(config.look, images)
        site = _site(net.sites, config.layer)
        width = net.values(images.normalize(images.images[:1]))[site.tap].shape[1]
        before = 100 * float_accuracy(net, images, torch.device("cpu"))
        net.edits[site.node] = _zero(config, site, width)
        after = 100 * float_accuracy(net, images, torch.device("cpu"))
        return _told(config, name, images, before, after, [site.name])
    teacher = teacher_of(config.look)
    before = accuracy(teacher, images, batch_size=config.look.batch_size)
    if config.what == "buckets":
        changed = [site.name for site in teacher.sites]
        table = BUCKETS.table()
        after = accuracy(teacher, images, dict.fromkeys(teacher.points, table), batch_size=config.look.batch_size)
        return _told(config, teacher.name, images, before, after, changed)
    site = _site(teacher.sites, config.layer)
    zero = _zero(config, site, teacher.net.point(site.node).shape[1])
    after = accuracy(teacher, images, edits={site.node: zero}, batch_size=config.look.batch_size)
    return _told(config, teacher.name, images, before, after, [site.name])


def _float_net(config: AnalyzeConfig, images: ImageSet) -> tuple[Tapped, str]:
    run = TrainConfig(model=config.model, out=config.out)
    net, _ = read_float(float_file(run), config.model)
    shape = images.images.shape[1:]
    return Tapped(net, (shape[0], shape[1], shape[2])), run.name


def _site(sites: tuple[Site, ...], layer: str | None) -> Site:
    if layer is None:
        return sites[0]
    for site in sites:
        if layer in site.aliases:
            return site
    raise ConfigError(f"the network has no layer {layer!r}; there are {', '.join(site.name for site in sites)}")


def _zero(config: EditConfig, site: Site, width: int) -> Callable[[Tensor], Tensor]:
    if config.channels > width:
        raise ConfigError(f"layer {site.name!r} has {width} channels; zero at most so many, not {config.channels}")

    def zero(value: Tensor) -> Tensor:
        value = value.clone()
        value[:, : config.channels] = 0
        return value

    return zero


def _told(
    config: EditConfig, model: str, images: ImageSet, before: float, after: float, layers: list[str]
) -> dict[str, Any]:
    return {
        "model": model, "edit": config.what, "layers": layers,
        "channels": config.channels if config.what == "zero" else None,
        "network": "float32" if config.floating else "int8", "images": len(images), "split": images.split,
        "acc_baseline": before, "acc_modified": after, "acc_drop": before - after,
    }  # fmt: skip


def _write(file: Path, tensors: dict[str, Tensor]) -> Path:
    if file.suffix == ".safetensors":
        body = save(tensors)
    elif file.suffix == ".pt":
        import io

        out = io.BytesIO()
        torch.save(tensors, out)
        body = out.getvalue()
    else:
        raise ConfigError(f"cannot write activations to {file}; end it with .safetensors or .pt")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DataError(f"cannot make the folder {file.parent}: {e.strerror or e}; name another") from e
    return write_atomic(file, body)
