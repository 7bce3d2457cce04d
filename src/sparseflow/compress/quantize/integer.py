"""Integer form of a quantisation-aware model: whole numbers from the first layer to the logits."""

import copy
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, fx, nn

from sparseflow.compress.quantize.integer_ops import Bias, IntegerLayer
from sparseflow.compress.quantize.lowering import Edit, Point, lower
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import apply_tables

__all__ = ["Edit", "IntegerNet", "Point", "to_integer"]


class IntegerNet(nn.Module):
    """A network on codes: every sum is a whole number that float32 holds exactly.

    It has no state and no training mode: the same input gives the same output. Nothing in it has a gradient.

    Args:
        graph: a traced graph on codes; its last argument is the mapping of edits.
        points: the places where codes can be read or changed, by name, in order of execution.
    """

    def __init__(self, graph: fx.GraphModule, points: Mapping[str, Point]) -> None:
        super().__init__()
        self.graph, self.points = graph, dict(points)
        self.eval()

    def train(self, mode: bool = True) -> "IntegerNet":
        """Stay in eval mode, whatever is asked."""
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, *inputs: Tensor, edits: Mapping[str, Edit] | None = None, tables: Mapping[str, Tensor] | None = None
    ) -> Any:
        """Return the real outputs, with codes changed on the way.

        Until the first point that has tables, the N images are computed once for all candidates.

        Args:
            inputs: as of the model, `[N, ...]`.
            edits: functions on codes, by point.
            tables: uint8 `[K, 256]` by point, one row a candidate, applied after an edit of the same point.

        Returns:
            As of the model: `[N, classes]`, or `[K·N, classes]` with candidates outermost.

        Raises:
            ConfigError: no such point, or tables of different K.
        """
        chosen = dict(edits or {})
        if tables:
            batch = len(inputs[0])
            if len({len(t) for t in tables.values()}) > 1:
                sizes = ", ".join(f"{name}: {len(t)}" for name, t in tables.items())
                raise ConfigError(f"tables are of different K: {sizes}; give as many candidates everywhere")
            chosen |= {name: _table_edit(t, batch, chosen.get(name)) for name, t in tables.items()}
        for name in chosen:
            self.point(name)
        return self.graph(*inputs, edits=chosen)

    def point(self, name: str) -> Point:
        """Return a point by name.

        Raises:
            ConfigError: there is none; names the nearest.
        """
        if name not in self.points:
            near = get_close_matches(name, self.points, n=3) or list(self.points)
            raise ConfigError(f"the network has no point {name!r}; did you mean {' or '.join(near)}?")
        return self.points[name]

    def codes(self, *inputs: Tensor, points: tuple[str, ...] | None = None) -> dict[str, Tensor]:
        """Return the codes at some points, or at all."""
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Edit:
            def edit(codes: Tensor) -> Tensor:
                found[name] = codes
                return codes

            return edit

        self(*inputs, edits={name: keep(name) for name in (self.points if points is None else points)})
        return found

    @property
    def layers(self) -> dict[str, IntegerLayer]:
        """The convolutions and linear layers by dotted path in the graph."""
        return {name: m for name, m in self.graph.named_modules() if isinstance(m, IntegerLayer)}

    @torch.no_grad()
    def sum_errors(self, *inputs: Tensor) -> dict[str, float]:
        """Return by layer how far its sums are from those in float64 on the same codes; 0 everywhere, or a fault.

        A GPU's library may pick an algorithm that transforms codes (Winograd) or drops bits, which the bound on the
        sums cannot rule out; this tells.
        """
        errors: dict[str, float] = {}

        def compare(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
                assert isinstance(layer, IntegerLayer)
                exact = copy.copy(layer)
                exact.sums_dtype = torch.float64
                difference = (layer.sums(args[0]).double() - exact.sums(args[0]).double()).abs()
                errors[name] = float(difference.max()) if difference.numel() else 0.0

            return hook

        hooks = [layer.register_forward_pre_hook(compare(name)) for name, layer in self.layers.items()]
        try:
            self(*inputs)
        finally:
            for handle in hooks:
                handle.remove()
        return errors

    def reference(self) -> "IntegerNet":
        """Return the same network with its sums in float64: slow, and exact on any device with any algorithm."""
        made = copy.deepcopy(self)
        for layer in made.layers.values():
            layer.sums_dtype = torch.float64
        return made


def _table_edit(table: Tensor, batch: int, first: Edit | None) -> Edit:
    def edit(codes: Tensor) -> Tensor:
        codes = codes if first is None else first(codes)
        return apply_tables(codes, table, shared=len(codes) == batch).flatten(0, 1)

    return edit


def to_integer(qat: fx.GraphModule, *, bias: Bias = "float32", largest_code: int = 127) -> IntegerNet:
    """Return the integer form of a quantisation-aware model, as it is in eval mode.

    Args:
        qat: from `prepare_qat`, trained or calibrated; left as it is.
        bias: "float32" as fbgemm, or "int32" as hardware; see `IntegerLayer`.
        largest_code: largest code that an edit may return; sums stay exact up to it.

    Raises:
        UnsupportedError: an operation between layers has no integer form; names it.
        DataError: a quantiser saw no batch, or values that are not finite; names it.

    >>> from sparseflow.compress.quantize.qat import prepare_qat
    >>> net = to_integer(prepare_qat(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.rand(5, 4)))
    >>> list(net.points), net(torch.rand(2, 4)).shape
    (['input_1', '_1'], torch.Size([2, 2]))
    """
    device = next((p.device for p in qat.parameters()), torch.device("cpu"))
    # Scales are divided on the CPU, so that every device gets the same network to the bit.
    copied = copy.deepcopy(qat).cpu()
    vars(copied)["sample_shapes"] = getattr(qat, "sample_shapes", [])
    graph, points = lower(copied, bias=bias, largest_code=largest_code)
    return IntegerNet(graph, points).to(device)
