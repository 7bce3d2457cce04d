"""Follows the segments of the codes through a network, to where they are read.

A tri-segment makes of each code one of 0, v1, v2 or, beyond tmax, an escape that stays as it is, or tmax. Which of
them an activation is, its tag, passes max-pools (the function never decreases, so the larger tag wins with the larger
code), reshapes and concatenations; averages and sums end it. So each layer can be told what it is really given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map

from sparseflow.compress.quantize.integer import IntegerNet
from sparseflow.compress.quantize.integer_ops import (
    IntegerCat,
    IntegerInput,
    IntegerLayer,
    IntegerMean,
    IntegerOutput,
    IntegerSum,
    same_batch,
)
from sparseflow.compress.quantize.lowering import edit_at
from sparseflow.compress.quantize.sites import Site
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import NAMES, apply_tables, tables

__all__ = ["ESCAPE", "TOP", "Reading", "follow"]

ESCAPE, TOP = 3, 4
_ENDS = (IntegerInput, IntegerOutput, IntegerMean)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one layer reads in one batch.

    Args:
        layer: dotted path of the layer.
        source: name of the value in the graph; layers that read the same value share it.
        sites: names of the sites whose codes it holds, in order; empty if none.
        codes: `[N, ...]` as the layer gets them.
        tags: uint8 in the same shape: 0 for a zero segment, 1 for v1, 2 for v2, 3 for a code that is carried whole,
            4 for tmax in mode "saturate".
        module: the layer.
    """

    layer: str
    source: str
    sites: tuple[str, ...]
    codes: Tensor
    tags: Tensor
    module: IntegerLayer


@torch.no_grad()
def follow(
    net: IntegerNet, sites: Sequence[Site], codes: Tensor | None, images: Tensor, *, mode: str = "pass"
) -> list[Reading]:
    """Run one batch and return what each layer reads, in order of execution.

    Args:
        net: the network without changes.
        sites: the L sites.
        codes: int64 `[L, 5]`; None leaves the network as it is, and every code is carried whole.
        images: `[N, C, H, W]`.
        mode: "pass", "clip" or "saturate".

    Raises:
        ConfigError: another number of codes than sites, codes out of order, or a site that the network does not have.
    """
    edits: dict[str, Any] = {}
    rows: dict[str, tuple[str, Tensor]] = {}
    if codes is not None:
        if codes.shape != (len(sites), len(NAMES)):
            raise ConfigError(f"codes have shape {tuple(codes.shape)} for {len(sites)} sites; expected [L, 5]")
        made = tables(codes, mode)
        for site, row, table in zip(sites, codes, made, strict=True):
            net.point(site.node)
            edits[site.node] = lambda q, t=table: apply_tables(q, t)
            rows[site.node] = (site.name, row)
    followed = _Follower(net.graph, rows, mode)
    followed.run(images, edits)
    return followed.readings


class _Follower(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, rows: Mapping[str, tuple[str, Tensor]], mode: str) -> None:
        super().__init__(graph)
        self.rows, self.beyond = rows, {"pass": ESCAPE, "clip": 2, "saturate": TOP}[mode]
        self.tags: dict[fx.Node, tuple[Any, tuple[str, ...]]] = {}
        self.readings: list[Reading] = []

    def run_node(self, n: fx.Node) -> Any:
        """Run a node and note the tags of its value."""
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        if isinstance(module, IntegerLayer):
            self.read(n, module)
        out = super().run_node(n)
        found = self.tagged(n, module, out)
        if found is not None:
            self.tags[n] = found
        return out

    def read(self, n: fx.Node, module: IntegerLayer) -> None:
        (source,) = n.args
        assert isinstance(source, fx.Node)
        codes: Tensor = self.env[source]
        tags, sites = self.tags.get(source, (None, ()))
        if tags is None:
            tags = torch.full_like(codes, ESCAPE, dtype=torch.uint8)
        reading = Reading(
            layer=str(n.target), source=source.name, sites=sites, codes=codes, tags=tags.to(torch.uint8), module=module
        )
        self.readings.append(reading)

    def tagged(self, n: fx.Node, module: Any, out: Any) -> tuple[Any, tuple[str, ...]] | None:
        if n.op not in ("call_module", "call_function", "call_method"):
            return None
        if n.target is edit_at:
            before, name = n.args[0], n.args[2]
            assert isinstance(before, fx.Node)
            if name not in self.rows:
                return self.tags.get(before)
            site, (t1, _, t2, _, tmax) = self.rows[str(name)]
            q = self.env[before]
            tags = (q > t1).to(torch.uint8) + (q > t2)
            return torch.where(q > tmax, self.beyond, tags), (site,)
        if isinstance(module, IntegerCat):
            return self.joined(n, module)
        if isinstance(module, IntegerSum):
            first = n.args[0]
            return self.tags.get(first) if len(n.args) == 1 and isinstance(first, fx.Node) else None
        if isinstance(module, (*_ENDS, IntegerLayer)):
            return None
        known = [a for a in n.all_input_nodes if a in self.tags]
        if not known:
            return None
        # Max-pools do not know uint8 on every device.
        args, kwargs = fx.map_arg((n.args, n.kwargs), lambda a: tree_map(Tensor.float, self.tags[a][0]))
        moved = getattr(self, n.op)(n.target, args, kwargs)
        return tree_map(lambda t: t.to(torch.uint8), moved), self.tags[known[0]][1]

    def joined(self, n: fx.Node, module: IntegerCat) -> tuple[Tensor, tuple[str, ...]] | None:
        inputs = [a for a in n.args if isinstance(a, fx.Node)]
        if not any(a in self.tags for a in inputs):
            return None
        parts = [
            self.tags[a][0] if a in self.tags else torch.full_like(self.env[a], ESCAPE, dtype=torch.uint8)
            for a in inputs
        ]
        names = dict.fromkeys(name for a in inputs if a in self.tags for name in self.tags[a][1])
        return torch.cat(same_batch(parts), module.dim), tuple(names)
