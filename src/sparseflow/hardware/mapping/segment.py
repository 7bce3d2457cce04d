"""Segments: runs of layers that one slot computes, and where a network is cut into them."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.hardware.proxy.layer_spec import LayerSpec, Scalar

__all__ = ["Segment", "coarse_partition", "traffic_bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of layers that stays on one slot.

    Args:
        id: position among the segments.
        layer_indices: its layers, rising.
        flops: operations of the batch.
        bytes: bytes moved.
        seq_len: tokens of its last layer.
        embed_dim: channels of its last layer.
        num_heads: most heads of a layer; 0 without attention.
        mlp_ratio: largest hidden width over channels; 0 without an MLP.
        precision: of its last layer.
        traffic_in_bytes: bytes that arrive from the segment before it; 0 for the first.
        traffic_out_bytes: bytes that go to the next one; 0 for the last.
        can_split_fine: whether groups of its heads and hidden channels may run on several slots.
        fine_groups: in how many; None where it is not split.
        weight_bytes: of its parameters.
        activation_bytes: of its layer with the largest activations.
    """

    id: int
    layer_indices: tuple[int, ...]
    flops: Scalar
    bytes: Scalar
    seq_len: int
    embed_dim: int
    num_heads: int
    mlp_ratio: float
    precision: str
    traffic_in_bytes: Scalar
    traffic_out_bytes: Scalar
    can_split_fine: bool = False
    fine_groups: int | None = None
    weight_bytes: Scalar = 0.0
    activation_bytes: Scalar = 0.0


def coarse_partition(
    layers: Sequence[LayerSpec],
    *,
    segment_size: int = 2,
    max_flops: float | None = None,
    fine_share: float = 0.4,
    fine_traffic_bytes: float = 0.0,
) -> tuple[Segment, ...]:
    """Cut a network into segments of `segment_size` blocks each.

    An MLP belongs to the block of the attention before it, a layer of kind "other" to the block before it, and every
    other layer is a block. A segment may be split finely where attention has at least `fine_share` of its operations
    and at least `fine_traffic_bytes` leave it.

    Args:
        layers: of the network, in the order in which they run.
        segment_size: blocks of a segment.
        max_flops: cut also once a segment has so many operations, as total over the chips that are there.
        fine_share: see above.
        fine_traffic_bytes: see above; the last segment counts the bytes of its output.

    Returns:
        Segments in order, which together hold every layer once.

    Raises:
        ConfigError: no layer, or a size below 1.

    >>> block = [LayerSpec(name="a", kind="attn", tokens=4, channels=8, heads=2),
    ...          LayerSpec(name="m", kind="mlp", tokens=4, channels=8, mlp_ratio=4)]
    >>> [s.layer_indices for s in coarse_partition(block * 3)]
    [(0, 1, 2, 3), (4, 5)]
    """
    if not layers:
        raise ConfigError("a network without layers has no segments")
    if segment_size < 1:
        raise ConfigError(f"segment_size is {segment_size}; expected 1 or more blocks")
    runs: list[list[int]] = []
    for block in _blocks(layers):
        full = not runs or len(runs[-1]) == segment_size
        if not full and max_flops is not None:
            full = sum(_number(layers[i].flops) for i in _flat(layers, runs[-1])) >= max_flops
        if full:
            runs.append([])
        runs[-1].append(block)
    groups = [_flat(layers, run) for run in runs]
    return tuple(_segment(n, groups, layers, fine_share, fine_traffic_bytes) for n in range(len(groups)))


def traffic_bytes(segments: Sequence[Segment]) -> list[Scalar]:
    """Return the bytes from each segment to the next, `[K - 1]`."""
    return [s.traffic_out_bytes for s in segments[:-1]]


def _blocks(layers: Sequence[LayerSpec]) -> list[int]:
    """Return the first layer of each block."""
    first = [0]
    for i in range(1, len(layers)):
        kind, before = layers[i].kind, layers[i - 1].kind
        if kind != "other" and not (kind == "mlp" and before in ("attn", "other")):
            first.append(i)
    return first


def _flat(layers: Sequence[LayerSpec], blocks: list[int]) -> tuple[int, ...]:
    """Return all layers of neighbouring blocks that are named by their first layers."""
    starts = _blocks(layers)
    later = [s for s in starts if s > blocks[-1]]
    return tuple(range(blocks[0], later[0] if later else len(layers)))


def _segment(
    n: int, groups: Sequence[tuple[int, ...]], layers: Sequence[LayerSpec], share: float, traffic: float
) -> Segment:
    own = [layers[i] for i in groups[n]]
    flops = sum((layer.flops for layer in own), 0.0)
    attention = sum(_number(layer.flops) for layer in own if layer.kind == "attn")
    out = own[-1].output_bytes
    return Segment(
        id=n,
        layer_indices=groups[n],
        flops=flops,
        bytes=sum((layer.bytes for layer in own), 0.0),
        seq_len=own[-1].tokens,
        embed_dim=own[-1].channels,
        num_heads=max(layer.heads for layer in own),
        mlp_ratio=max(layer.mlp_ratio for layer in own),
        precision=own[-1].precision,
        traffic_in_bytes=layers[groups[n - 1][-1]].output_bytes if n else 0.0,
        traffic_out_bytes=out if n + 1 < len(groups) else 0.0,
        can_split_fine=attention >= share * _number(flops) and attention > 0 and _number(out) >= traffic,
        weight_bytes=sum((layer.weight_bytes for layer in own), 0.0),
        activation_bytes=max((layer.activation_bytes for layer in own), key=_number),
    )


def _number(x: Scalar) -> float:
    """Return a value that only decides; gradients do not pass through where a network is cut."""
    return float(x.detach()) if isinstance(x, Tensor) else x
