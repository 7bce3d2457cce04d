"""Rewiring: heads and hidden channels in another order, or in groups on several slots, with the output as before."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.nn.models.video_vit.blocks import Attention, Mlp

__all__ = ["group_units", "inverse", "permute_heads_", "permute_hidden_", "split_attention", "split_mlp"]


def group_units(loads: Sequence[float], groups: int) -> tuple[list[int], list[int]]:
    """Sort heads or channels by the group that they go to, so that the groups carry alike.

    The heaviest unit first, each goes to the group with the least load so far, and among those to the one with the
    fewest units; units without load (pruned ones) so fill up the smaller groups.

    Args:
        loads: of each unit; 0 where nothing of it is left.
        groups: G.

    Returns:
        The units, those of group 0 first, each group's in rising order; and how many each group has.

    Raises:
        ConfigError: fewer units than groups, or a negative load.

    >>> group_units([1.0, 3.0, 1.0, 1.0], 2)
    ([1, 0, 2, 3], [1, 3])
    """
    if not 1 <= groups <= len(loads):
        raise ConfigError(f"{len(loads)} heads or channels do not make {groups} groups")
    if min(loads) < 0:
        raise ConfigError("loads must be 0 or more")
    parts: list[list[int]] = [[] for _ in range(groups)]
    carried = [0.0] * groups
    for unit in sorted(range(len(loads)), key=lambda i: (-loads[i], i)):
        g = min(range(groups), key=lambda n: (carried[n], len(parts[n]), n))
        parts[g].append(unit)
        carried[g] += loads[unit]
    return [unit for part in parts for unit in sorted(part)], [len(part) for part in parts]


def inverse(perm: Sequence[int]) -> list[int]:
    """Return the permutation that undoes `perm`.

    Raises:
        ConfigError: `perm` is none.

    >>> inverse([2, 0, 1])
    [1, 2, 0]
    """
    if sorted(perm) != list(range(len(perm))):
        raise ConfigError(f"{list(perm)!r} is no permutation of 0 to {len(perm) - 1}")
    out = [0] * len(perm)
    for place, unit in enumerate(perm):
        out[unit] = place
    return out


@torch.no_grad()
def permute_hidden_(producer: nn.Module, consumer: nn.Module, perm: Sequence[int], *between: nn.Module) -> None:
    """Put the channels between two layers into another order: at the exit of one, and inversely at the other.

    Args:
        producer: linear layer or convolution; output channel i becomes what perm[i] was.
        consumer: likewise, whose input channels follow.
        perm: of the channels.
        between: norms with a number per channel. What else lies between must treat channels alike, as an activation.

    Raises:
        ConfigError: `perm` is no permutation of these channels, or a convolution has groups.
    """
    inverse(perm)
    for layer in (producer, consumer):
        if getattr(layer, "groups", 1) != 1:
            raise ConfigError("channels of a grouped convolution cannot change places; leave it out")
    widths = {producer.weight.shape[0], consumer.weight.shape[1], *(n.weight.shape[0] for n in between)}  # type: ignore[index]
    if widths != {len(perm)}:
        raise ConfigError(f"a permutation of {len(perm)} channels does not fit layers of {sorted(widths)}")
    for module in (producer, *between):
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensor = getattr(module, name, None)
            if tensor is not None:
                tensor.copy_(tensor[_index(perm, tensor)])
    weight: Any = consumer.weight
    weight.copy_(weight[:, _index(perm, weight)])


@torch.no_grad()
def permute_heads_(attention: Attention, perm: Sequence[int]) -> None:
    """Put the heads of an attention into another order.

    Raises:
        ConfigError: `perm` is no permutation of the heads.
    """
    inverse(perm)
    if len(perm) != attention.heads:
        raise ConfigError(f"a permutation of {len(perm)} heads does not fit an attention of {attention.heads}")
    rows = _head_rows(attention, perm)
    qkv, proj = attention.qkv, attention.proj
    inner = proj.weight.shape[1]
    for tensor in (qkv.weight, qkv.bias):
        tensor.copy_(tensor[torch.cat([rows, rows + inner, rows + 2 * inner])])
    proj.weight.copy_(proj.weight[:, rows])


def split_attention(attention: Attention, perm: Sequence[int], counts: Sequence[int]) -> list[Attention]:
    """Return one attention per group of heads; the sum of their outputs is that of the whole.

    The bias of the projection stays in the first group. Dropout must be off, since each group would draw its own.

    Args:
        attention: is not changed.
        perm: heads, by group, as of `group_units`.
        counts: heads of each group.

    Raises:
        ConfigError: the counts do not hold all heads, or a group has none.
    """
    _check_counts(counts, attention.heads)
    whole = copy.deepcopy(attention)
    permute_heads_(whole, perm)
    parts, inner = [], whole.proj.weight.shape[1]
    for start, count in _ranges(counts):
        part = copy.deepcopy(whole)
        rows = torch.arange(start * whole.head_dim, (start + count) * whole.head_dim)
        part.heads = count
        part.qkv = _taken(whole.qkv, rows=torch.cat([rows, rows + inner, rows + 2 * inner]))
        part.proj = _taken(whole.proj, columns=rows, bias=start == 0)
        parts.append(part)
    return parts


def split_mlp(mlp: Mlp, perm: Sequence[int], counts: Sequence[int]) -> list[Mlp]:
    """Return one MLP per group of hidden channels; the sum of their outputs is that of the whole.

    See `split_attention`.
    """
    _check_counts(counts, mlp.fc1.weight.shape[0])
    whole = copy.deepcopy(mlp)
    permute_hidden_(whole.fc1, whole.fc2, perm)
    parts = []
    for start, count in _ranges(counts):
        part = copy.deepcopy(whole)
        rows = torch.arange(start, start + count)
        part.fc1 = _taken(whole.fc1, rows=rows)
        part.fc2 = _taken(whole.fc2, columns=rows, bias=start == 0)
        parts.append(part)
    return parts


def _index(perm: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(list(perm), device=like.device)


def _head_rows(attention: Attention, perm: Sequence[int]) -> Tensor:
    heads = _index(perm, attention.qkv.weight)
    width = torch.arange(attention.head_dim, device=heads.device)
    return (heads[:, None] * attention.head_dim + width).flatten()


def _check_counts(counts: Sequence[int], units: int) -> None:
    if sum(counts) != units or min(counts) < 1:
        raise ConfigError(f"groups of {list(counts)} do not hold {units} heads or channels, at least one each")


def _ranges(counts: Sequence[int]) -> list[tuple[int, int]]:
    return [(sum(counts[:g]), count) for g, count in enumerate(counts)]


def _taken(
    layer: nn.Linear, *, rows: Tensor | None = None, columns: Tensor | None = None, bias: bool = True
) -> nn.Linear:
    """Return some rows (with their biases) or columns of a linear layer; without `bias` its bias is 0."""
    weight, offset = layer.weight.detach(), layer.bias.detach()
    if rows is not None:
        weight, offset = weight[rows.to(weight.device)], offset[rows.to(weight.device)]
    if columns is not None:
        weight = weight[:, columns.to(weight.device)]
    new = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        new.weight.copy_(weight)
        new.bias.copy_(offset if bias else torch.zeros_like(offset))
    return new
