"""Counts what a configuration costs, pair by pair of a weight and an input, where the layers read their inputs.

Nothing is estimated from shares: behind max-pools, which raise the share of escapes, and with padding left out.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sparseflow.compress.approximate.cost import Reader, Stored, TriSegCost
from sparseflow.compress.approximate.energy import EnergyTable
from sparseflow.compress.approximate.flow import ESCAPE, TOP, Reading, follow
from sparseflow.compress.quantize.integer import IntegerNet
from sparseflow.compress.quantize.integer_ops import IntegerLayer
from sparseflow.compress.quantize.sites import Site
from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.triseg import CODES, NAMES

__all__ = ["code_shares", "cost_of", "pair_counts", "stored_bits"]


def pair_counts(layer: IntegerLayer, masks: Sequence[Tensor]) -> list[int]:
    """Return how many pairs of a weight and an input under each mask a layer multiplies.

    The layer's own sums of the mask, with weights that are all 1: padding counts for nothing, and each input counts
    as often as windows hold it.

    Args:
        layer: convolution or linear layer.
        masks: bool `[N, ...]`, shaped as its input.

    Cost: 1/C_out of the layer, for each mask.

    >>> from sparseflow.compress.quantize import QuantSpec, prepare_qat, to_integer
    >>> made = prepare_qat(torch.nn.Sequential(torch.nn.Conv2d(1, 5, 3, padding=1)), torch.rand(1, 1, 4, 4))
    >>> (conv,) = to_integer(made).layers.values()
    >>> pair_counts(conv, [torch.ones(1, 1, 4, 4, dtype=torch.bool)])  # 5 channels, 4 corners, 8 edges, 4 inner
    [500]
    """
    groups = layer.call.get("groups", 1)
    each = len(layer.weight) // groups
    ones = torch.ones_like(layer.weight[:groups])
    # Float32 counts a window exactly, or, where a GPU transforms it, to within far less than a half.
    return [each * int(layer.run(mask.to(ones.dtype), ones).double().round().sum()) for mask in masks]


@torch.no_grad()
def cost_of(
    net: IntegerNet,
    sites: Sequence[Site],
    codes: Tensor,
    batches: Iterable[Tensor],
    *,
    mode: str = "pass",
    table: EnergyTable | None = None,
) -> TriSegCost:
    """Count the cost of one configuration on some images.

    Args:
        net: the network without changes.
        sites: the L sites.
        codes: int64 `[L, 5]`.
        batches: images `[N, C, H, W]`, normalised.
        mode: "pass", "clip" or "saturate".
        table: energy of an operation; the shipped table if None.

    Returns:
        Counts over all images; `machines` is for one image.

    Raises:
        ConfigError: another number of codes than sites, or codes out of order.
        DataError: no images.
    """
    counted: dict[str, list[int]] = {}
    first: dict[str, Reading] = {}
    kept: dict[str, list[int]] = {}
    sources: dict[str, tuple[str, ...]] = {}
    images = made = 0
    kinds = _kinds(mode)
    for batch in batches:
        exact = follow(net, sites, None, batch)
        changed = follow(net, sites, codes, batch, mode=mode)
        seen: set[str] = set()
        for before, after in zip(exact, changed, strict=True):
            layer = after.module
            zero = layer.source.zero_point
            nonzero, escaped = after.codes != zero, after.tags == ESCAPE
            masks = [torch.ones_like(nonzero), before.codes != zero, nonzero, nonzero & escaped]
            outputs = len(layer.weight) * _windows(layer, nonzero)
            _add(counted, after.layer, [outputs, *pair_counts(layer, masks)])
            first.setdefault(after.layer, after)
            if after.source not in seen:
                seen.add(after.source)
                segments = torch.bincount(after.tags.flatten().to(torch.int64), minlength=kinds).tolist()
                _add(kept, after.source, [*segments, int((before.codes != zero).sum())])
                sources[after.source] = after.sites
        images += len(batch)
        made += len(batch) * sum(_size(net, site) for site in sites)
    if not images:
        raise DataError("no images to count the cost on; give at least one batch")
    return TriSegCost(
        images=images,
        readers=tuple(_reader(first[name], numbers, mode) for name, numbers in counted.items()),
        stored=tuple(
            Stored(name=name, sites=sources[name], elements=tuple(n[:-1]), exact_nonzero=n[-1])
            for name, n in kept.items()
        ),
        made=made,
        mode=mode,
        table=EnergyTable.load() if table is None else table,
    )


def stored_bits(net: IntegerNet, sites: Sequence[Site], codes: Tensor, images: Tensor, *, mode: str = "pass") -> float:
    """Return `TriSegCost.bits_per_activation` alone, which takes one forward.

    Args:
        net: the network without changes.
        sites: the L sites.
        codes: int64 `[L, 5]`.
        images: `[N, C, H, W]`, normalised.
        mode: "pass", "clip" or "saturate".

    Raises:
        ConfigError: as `cost_of`.
    """
    read = {r.source: r for r in follow(net, sites, codes, images, mode=mode) if r.sites}
    tags = [torch.bincount(r.tags.flatten().to(torch.int64), minlength=_kinds(mode)).tolist() for r in read.values()]
    stored = tuple(
        Stored(name=r.source, sites=r.sites, elements=tuple(n), exact_nonzero=0)
        for r, n in zip(read.values(), tags, strict=True)
    )
    return TriSegCost(images=len(images), readers=(), stored=stored, made=0, mode=mode).bits_per_activation


def code_shares(histogram: Tensor, codes: Tensor, *, mode: str = "pass") -> Tensor:
    """Return the shares of zeros, v1, v2 and codes beyond tmax where the codes are made, in front of any pool.

    Quick, for many candidates; `cost_of` counts where they are read.

    Args:
        histogram: `[L, 256]` counts.
        codes: int64 `[..., L, 5]`.
        mode: "pass", "clip" or "saturate".

    Returns:
        float64 `[..., L, 4]`; a site without codes has only zeros.

    Raises:
        ConfigError: other shapes.

    >>> code_shares(torch.bincount(torch.arange(10), minlength=256)[None], torch.tensor([[3, 4, 5, 6, 8]])).tolist()
    [[0.4, 0.2, 0.3, 0.1]]
    """
    if codes.shape[-1:] != (len(NAMES),) or histogram.shape != (*codes.shape[-2:-1], CODES):
        raise ConfigError(f"histogram {tuple(histogram.shape)} does not fit codes {tuple(codes.shape)} [..., L, 5]")
    below = histogram.double().cumsum(-1).expand(*codes.shape[:-1], CODES)
    last = codes[..., [0, 2, 4]]
    if mode == "clip":
        last = torch.cat((last[..., :2], torch.full_like(last[..., :1], CODES - 1)), -1)
    ends = torch.cat((below.gather(-1, last), below[..., -1:]), -1)
    counts = ends.diff(dim=-1, prepend=torch.zeros_like(ends[..., :1]))
    total = ends[..., -1:]
    empty = torch.zeros_like(counts)
    empty[..., 0] = 1.0
    return torch.where(total > 0, counts / total.clamp(min=1), empty)


def _windows(layer: IntegerLayer, like: Tensor) -> int:
    """Return how many outputs a channel has."""
    groups: int = layer.call.get("groups", 1)
    one = layer.run(like[:1].to(layer.weight.dtype), layer.weight[:groups])
    return len(like) * one[0].numel() // groups


def _size(net: IntegerNet, site: Site) -> int:
    shape: tuple[int, ...] = net.point(site.node).shape[1:]
    return math.prod(shape)


def _add(into: dict[str, list[int]], key: str, numbers: list[int]) -> None:
    into[key] = [a + b for a, b in zip(into.get(key, [0] * len(numbers)), numbers, strict=True)]


def _kinds(mode: str) -> int:
    return TOP + 1 if mode == "saturate" else ESCAPE + 1


def _reader(reading: Reading, numbers: list[int], mode: str) -> Reader:
    outputs, pairs, exact_nonzero, nonzero, escaped = numbers
    return Reader(
        layer=reading.layer, source=reading.source, sites=reading.sites, outputs=outputs, pairs=pairs,
        pairs_exact_nonzero=exact_nonzero, pairs_nonzero=nonzero, pairs_escaped=escaped,
        values=3 if mode == "saturate" else 2,
    )  # fmt: skip
