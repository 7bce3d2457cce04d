"""A traced network as layers that a cost model knows: blocks where their parts are found, single operators else."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.hardware.proxy.layer_spec import LayerSpec
from sparseflow.ir import Layer, Workload

__all__ = ["layers_of"]

_NORMS = ("layer_norm", "rms_norm", "group_norm", "batch_norm")
_ACTIVATIONS = ("relu", "gelu", "silu", "clamp", "sigmoid", "tanh", "hardswish")
_COPIES = ("reshape", "permute", "copy", "contiguous", "unfold")
_ATTENTIONS = ("attention", "multihead_attention")


def layers_of(workload: Workload, *, batch: int | None = None, precision: str | None = None) -> tuple[LayerSpec, ...]:
    """Return what a cost model takes of a traced network, in the order in which it runs.

    From a norm to the sum that closes over it lies one layer: `attn`, `scan` or `mlp` by what it holds. A convolution
    takes the norm, the sum and the activation behind it along. The first matrix product or convolution before such
    blocks is a `patch_embed`; other products and operators that move data are `other`.

    Args:
        workload: of `sparseflow.trace`.
        batch: samples; None for those of the trace, else all layers are scaled from the trace's first input.
        precision: of all layers; None for that of each layer's first input.

    Raises:
        ConfigError: the workload moves nothing.
    """
    found = _Grouping(workload).specs()
    if not found:
        raise ConfigError(f"workload {workload.name!r} has no layer that computes or moves data")
    if batch is not None:
        first = next((o.shape[0] for s in workload for o in s.operands if o.role == "input" and o.shape), 1)
        found = [replace(s, batch=max(1, round(s.batch * batch / first))) for s in found]
    if precision is not None:
        found = [replace(s, precision=precision) for s in found]
    return tuple(found)


class _Grouping:
    """Finds blocks in a workload by its edges, seen through layers that move nothing."""

    def __init__(self, workload: Workload) -> None:
        self.layers = list(workload)
        self.place = {s.name: i for i, s in enumerate(self.layers)}
        self.sources: list[set[int]] = []
        for i, s in enumerate(self.layers):
            found: set[int] = set()
            for name in s.uses:
                j = self.place[name]
                found |= self.sources[j] if self._moves_nothing(j) and j < i else {j}
            self.sources.append(found)
        self.users: dict[int, list[int]] = {}
        for i, from_ in enumerate(self.sources):
            for j in from_:
                if not self._moves_nothing(i):
                    self.users.setdefault(j, []).append(i)

    def _moves_nothing(self, i: int) -> bool:
        return bool(self.layers[i].attr("view"))

    def specs(self) -> list[LayerSpec]:
        blocks = {}
        for i, s in enumerate(self.layers):
            if s.op in ("layer_norm", "rms_norm") and (block := self._block(i)) is not None:
                blocks[i] = block
        found: list[LayerSpec] = []
        taken: set[int] = set()
        first = min(blocks, default=None)
        for i, s in enumerate(self.layers):
            if i in taken or self._moves_nothing(i):
                continue
            if i in blocks:
                spec, end = blocks[i]
                taken |= set(range(i, end + 1))
            elif s.op in ("conv1d", "conv2d", "conv3d"):
                chain = self._behind(i)
                taken |= set(chain)
                spec = _conv(s, residual=any(self.layers[j].op == "add" for j in chain))
            else:
                spec = _single(s)
            if first is not None and i < first and spec.kind in ("conv", "other") and _is_patches(s):
                spec = replace(spec, kind="patch_embed", attrs=(("in_features", _fan_in(s)),))
                # Cutting a picture into patches is a copy of its own in a trace, and part of the embedding here.
                if found and found[-1].attr("op") in _COPIES:
                    found.pop()
            found.append(replace(spec, batch=spec.batch * s.repeat, name=_stem(s.name, spec.kind)))
        return list(_numbered(found))

    def _block(self, norm: int) -> tuple[LayerSpec, int] | None:
        """Return the layer from a norm to the sum that reads what the norm reads, and the sum's place."""
        for end in range(norm + 1, len(self.layers)):
            s = self.layers[end]
            if s.op == "add" and self.sources[norm] and self.sources[norm] <= self.sources[end]:
                inside = [x for x in self.layers[norm : end + 1] if not x.attr("view")]
                spec = _block_spec(self.layers[norm], inside)
                return None if spec is None else (spec, end)
            if s.op in ("layer_norm", "rms_norm"):
                return None
        return None

    def _behind(self, conv: int) -> list[int]:
        """Return a convolution and what runs on its output alone: norm, sum, activation, in this order."""
        chain = [conv]
        for allowed in (_NORMS, ("add",), _ACTIVATIONS):
            users = self.users.get(chain[-1], [])
            if len(users) == 1 and self.layers[users[0]].op in allowed and self._is_last_input(chain[-1], users[0]):
                chain.append(users[0])
        return chain

    def _is_last_input(self, source: int, user: int) -> bool:
        # A sum belongs to the later of the two layers that it adds.
        return max(self.sources[user]) == source


def _shape(s: Layer, role: str = "input") -> tuple[int, ...]:
    found = s.operand(role)
    return found.shape if found is not None else s.operands[0].shape if s.operands else (1,)


def _precision(s: Layer) -> str:
    found = s.operand("input") or (s.operands[0] if s.operands else None)
    name = "float32" if found is None else found.precision.name
    name = {"bfloat": "bfloat16"}.get(name, name)
    return name if name in ("float32", "float16", "bfloat16", "int8") else "float32"


def _block_spec(norm: Layer, inside: Sequence[Layer]) -> LayerSpec | None:
    batch, tokens, channels = _rows(_shape(norm))
    base: dict[str, Any] = {
        "name": norm.name, "tokens": tokens, "channels": channels, "batch": batch, "precision": _precision(norm),
    }  # fmt: skip
    ops = [s.op for s in inside]
    linears = [s for s in inside if s.op == "linear"]
    attentions = [s for s in inside if s.op in _ATTENTIONS]
    if len(attentions) == 1:
        s = attentions[0]
        if s.op == "multihead_attention":
            return LayerSpec(kind="attn", heads=int(s.attr("num_heads")), **base)
        _, heads, _, width = (1, 1, 1, 1, *_shape(s))[-4:]
        own = () if heads * width == channels else (("head_dim", width),)
        return LayerSpec(kind="attn", heads=heads, attrs=own, **base)
    if "selective_scan" in ops and linears:
        return _scan_spec(inside, linears, base)
    if len(linears) == 2 and any(op in _ACTIVATIONS for op in ops):
        return LayerSpec(kind="mlp", mlp_ratio=_shape(linears[0], "output")[-1] / channels, **base)
    return None


def _scan_spec(inside: Sequence[Layer], linears: Sequence[Layer], base: dict[str, Any]) -> LayerSpec:
    scan = next(s for s in inside if s.op == "selective_scan")
    # The step sizes come from the product that ends as wide as the scan and begins narrowest.
    inner = _shape(scan)[-1]
    ranks = [_shape(s)[-1] for s in linears if _shape(s, "output")[-1] == inner]
    attrs = {"inner": inner, "state": _shape(scan, "weight")[-1], "rank": min(ranks, default=1)}
    mixers = [s for s in linears if len(_shape(s)) == 4]
    if mixers:
        attrs |= {"mixed": min(_shape(s, "output")[-1] for s in mixers), "series": max(_shape(s)[-1] for s in mixers)}
    return LayerSpec(kind="scan", attrs=tuple(attrs.items()), **base)


def _conv(s: Layer, *, residual: bool) -> LayerSpec:
    inputs, outputs = _shape(s), _shape(s, "output")
    groups = int(s.attr("groups", 1))
    attrs = {
        "in_channels": inputs[1], "in_tokens": math.prod(inputs[2:]), "groups": groups, "residual": int(residual),
        "stride": int(_largest(s.attr("stride", 1))), "taps": math.prod(_shape(s, "weight")[2:]),
    }  # fmt: skip
    return LayerSpec(
        name=s.name, kind="conv", tokens=math.prod(outputs[2:]), channels=outputs[1], batch=outputs[0],
        precision=_precision(s), attrs=tuple(attrs.items()),
    )  # fmt: skip


def _single(s: Layer) -> LayerSpec:
    outputs = _shape(s, "output")
    batch, tokens, channels = _rows(outputs)
    base: dict[str, Any] = {
        "name": s.name, "kind": "other", "tokens": tokens, "channels": channels, "batch": batch,
        "precision": _precision(s),
    }  # fmt: skip
    if s.op == "linear":
        return LayerSpec(attrs=(("in_features", _shape(s)[-1]),), **base)
    reads = sum(o.numel for o in s.operands if o.role in ("input", "residual", "state", "key", "value"))
    weights = sum(o.numel for o in s.operands if o.role in ("weight", "bias"))
    attrs = {"flops": s.flops / batch, "op": s.op, "reads": reads / batch, "weights": weights}
    return LayerSpec(attrs=tuple(attrs.items()), **base)


def _rows(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return batch, tokens and channels of a tensor whose last dimension is channels."""
    batch, *middle, channels = (1, *shape) if len(shape) < 2 else shape
    return max(1, batch), max(1, math.prod(middle)), max(1, channels)


def _is_patches(s: Layer) -> bool:
    if s.op == "linear":
        return math.prod(_shape(s, "output")[1:-1]) > 1
    return s.op.startswith("conv") and s.attr("stride") == s.attr("kernel_size")


def _fan_in(s: Layer) -> int:
    return math.prod(_shape(s, "weight")[1:])


def _largest(value: Any) -> Any:
    return max(value) if isinstance(value, tuple) else value


def _stem(name: str, kind: str) -> str:
    """Return the name of a block for that of its norm, as "blocks.0.attn" for "blocks.0.norm1"."""
    head, dot, _ = name.partition(".norm")
    return f"{head}.{kind}" if dot and kind in ("attn", "mlp", "scan") else name


def _numbered(specs: Sequence[LayerSpec]) -> Iterator[LayerSpec]:
    seen: dict[str, int] = {}
    for s in specs:
        seen[s.name] = seen.get(s.name, 0) + 1
        yield s if seen[s.name] == 1 else replace(s, name=f"{s.name}#{seen[s.name]}")
