"""Prepare a model for quantisation-aware training: fake-quantised layers, with their normalisation kept trainable."""

import copy
import math
import operator
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from sparseflow.compress.quantize.fake_quant import FakeQuantize, WeightFakeQuantize
from sparseflow.compress.quantize.fuse import Chain, Shapes, find_chains, relu_cap
from sparseflow.compress.quantize.roles import role, writes_in_place
from sparseflow.compress.quantize.spec import QuantConfig
from sparseflow.errors import CaptureError, ConfigError, UnsupportedError
from sparseflow.trace import capture

__all__ = ["QuantLayer", "calibrate", "freeze_bn", "freeze_observers", "prepare_qat", "quantizers", "set_enabled"]

_PARITY = 1e-5


class QuantLayer(nn.Module):
    """A convolution or linear layer with quantised weights, and its normalisation, ReLU and output codes.

    y = quantise(relu(bn(layer(x; quantised w)))). The weights are quantised in front of the normalisation: their
    scales are one a channel, so that quantised w times a factor of its channel is the same as quantising the product,
    and nothing is divided by a factor that may be 0.

    Args:
        layer: `nn.Conv1d`, `nn.Conv2d` or `nn.Linear`; kept, not copied.
        bn: the normalisation behind it, or None; kept.
        cap: upper end of the ReLU behind both, infinity if it has none; None for no ReLU.
        output: what rounds the result, or None to leave it in float32.
        config: range of the codes.
        path: dotted path of the layer in the model that it comes from.

    Attributes:
        bn_frozen: the statistics of the normalisation stay as they are, also in training mode.

    Shapes: as of `layer`.
    """

    def __init__(
        self,
        layer: nn.Conv1d | nn.Conv2d | nn.Linear,
        *,
        bn: nn.BatchNorm1d | nn.BatchNorm2d | None = None,
        cap: float | None = None,
        output: FakeQuantize | None = None,
        config: QuantConfig | None = None,
        path: str = "",
    ) -> None:
        super().__init__()
        self.layer, self.bn, self.cap, self.output, self.path = layer, bn, cap, output, path
        device = layer.weight.device
        if self.output is not None:
            self.output.to(device)
        self.weight = WeightFakeQuantize(config or QuantConfig(), layer.weight.shape[0]).to(device)
        self.bn_frozen = False
        self.weight.observe(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's values on the grid of their codes."""
        weight = self.weight(self.layer.weight)
        if isinstance(self.layer, nn.Linear):
            y = F.linear(x, weight, self.layer.bias)
        else:
            y = self.layer._conv_forward(x, weight, self.layer.bias)
        if self.bn is not None:
            y = self.bn(y)
        if self.cap is not None:
            y = F.relu(y) if self.cap == math.inf else y.clamp(0.0, self.cap)
        return y if self.output is None else self.output(y)

    def train(self, mode: bool = True) -> "QuantLayer":
        """Set the mode; a frozen normalisation stays in eval mode."""
        super().train(mode)
        if self.bn is not None and self.bn_frozen:
            self.bn.eval()
        return self


def prepare_qat(model: nn.Module, sample: Any, config: QuantConfig | None = None) -> fx.GraphModule:
    """Return a copy of a model that computes as its integer form will, and can be trained.

    Each convolution or linear layer becomes a `QuantLayer` with what fuses with it; inputs, sums, concatenations,
    average pools and lone ReLUs get a `FakeQuantize` behind them; max-pools, reshapes and dropout stay as they are.
    Behind the last layer nothing is rounded unless the configuration asks for it. The ranges start from the sample.
    Dropout by a function is traced in eval mode and stays off; `nn.Dropout` stays on in training mode.

    Args:
        model: any model that `sparseflow.trace.capture` can trace; left as it is.
        sample: as `capture` takes it.
        config: ranges of codes; the default ones if None.

    Returns:
        A graph in the mode of `model`; its layers keep their dotted paths.

    Raises:
        CaptureError: the model has no traced graph, or the new graph without rounding gives other outputs.
        UnsupportedError: no layer of the model can run on codes.

    >>> made = prepare_qat(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.rand(5, 4))
    >>> [type(m).__name__ for m in (made.get_submodule("0"), made.get_submodule("2"))], sorted(quantizers(made))
    (['QuantLayer', 'QuantLayer'], ['_1', 'input_1'])
    """
    copied = copy.deepcopy(model)
    found = capture(copied, sample)
    if found.graph_module is None:
        raise CaptureError(f"{found.model} has no traced graph to quantise: {'; '.join(found.notes)}")
    traced = found.graph_module
    args = _positional(traced.graph, sample)
    traced.training = copied.training
    with _evaluating(traced):
        expected = [t.clone() for t in tree_leaves(traced(*_cloned(args))) if isinstance(t, Tensor)]
        shapes = _shapes(traced, _cloned(args))
    _Preparer(traced, shapes, config or QuantConfig()).run()
    with _evaluating(traced):
        set_enabled(traced, False)
        plain = [t for t in tree_leaves(traced(*_cloned(args))) if isinstance(t, Tensor)]
        set_enabled(traced, True)
    for got, want in zip(plain, expected, strict=True):
        if not torch.allclose(got, want, rtol=0.0, atol=_PARITY * max(1.0, float(want.abs().max()))):
            raise CaptureError(
                f"{found.model} without rounding gives other outputs as a graph of quantised layers; "
                "a module may change a value in place that another one reads: write it out of place"
            )
    calibrate(traced, [args])
    # A pickled graph is traced anew, under other names; only the order of its nodes stays.
    vars(traced)["sample_shapes"] = [node.meta.get("shape") for node in traced.graph.nodes]
    return traced


def quantizers(model: nn.Module) -> dict[str, FakeQuantize]:
    """Return what rounds activations, by the name of the graph's node whose value it rounds."""
    return {m.point: m for m in model.modules() if isinstance(m, FakeQuantize)}


def set_enabled(model: nn.Module, enabled: bool) -> None:
    """Let every quantiser of a model round, or pass values on unchanged."""
    for module in model.modules():
        if isinstance(module, FakeQuantize | WeightFakeQuantize):
            module.enabled = enabled


def freeze_observers(model: nn.Module) -> None:
    """Keep the ranges of activations and the scales of weights as they are from now on."""
    for module in model.modules():
        if isinstance(module, FakeQuantize | WeightFakeQuantize):
            module.observing = False


def freeze_bn(model: nn.Module) -> None:
    """Keep the statistics of the normalisation in every `QuantLayer` as they are; its factor and shift still train."""
    for module in model.modules():
        if isinstance(module, QuantLayer):
            module.bn_frozen = True
            module.train(module.training)


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Any]) -> None:
    """Set the ranges to the mean of those of some batches, in eval mode (post-training quantisation).

    Args:
        model: from `prepare_qat`; frozen observers are set as well.
        batches: inputs; a tuple is taken as several arguments.

    Raises:
        ConfigError: there is no batch.
    """
    watched = list(quantizers(model).values())
    before = [(q.observing, q.averaging) for q in watched]
    seen = 0
    with _evaluating(model):
        try:
            for q in watched:
                q.observing = q.calibrating = True
            for seen, batch in enumerate(batches, 1):
                for q in watched:
                    q.averaging = 1.0 / seen
                model(*_cloned(batch if type(batch) is tuple else (batch,)))
        finally:
            for q, (observing, averaging) in zip(watched, before, strict=True):
                q.observing, q.averaging, q.calibrating = observing, averaging, False
    if not seen:
        raise ConfigError("calibration got no batch; give at least one")


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _positional(graph: fx.Graph, sample: Any) -> tuple[Any, ...]:
    if not isinstance(sample, Mapping):
        return sample if type(sample) is tuple else (sample,)
    wanted = [n for n in graph.nodes if n.op == "placeholder"]
    return tuple(sample[n.target] if n.target in sample else n.args[0] for n in wanted)


def _cloned(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.clone() if isinstance(a, Tensor) else a for a in args)


class _ShapeNotes(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        floats = isinstance(result, Tensor) and result.is_floating_point()
        n.meta["shape"] = tuple(result.shape) if floats else None
        return result


def _shapes(traced: fx.GraphModule, args: tuple[Any, ...]) -> Shapes:
    _ShapeNotes(traced, garbage_collect_values=True).run(*args)
    return {node: node.meta["shape"] for node in traced.graph.nodes}


class _Preparer:
    def __init__(self, traced: fx.GraphModule, shapes: Shapes, config: QuantConfig) -> None:
        self.traced, self.shapes, self.config = traced, shapes, config
        self.modules = dict(traced.named_modules(remove_duplicate=False))
        self.chains = find_chains(traced, shapes)
        if not self.chains:
            raise UnsupportedError("the model calls no convolution or linear layer as a module; nothing to quantise")
        self.inner = self.in_front_of_layers()
        self.device = next(traced.parameters()).device

    def in_front_of_layers(self) -> set[fx.Node]:
        """Return the nodes whose values reach a layer; those of the others stay in float32."""
        layers = {chain.layer for chain in self.chains}
        found: set[fx.Node] = set()
        for node in reversed(self.traced.graph.nodes):
            if any(user in layers or user in found for user in node.users):
                found.add(node)
        return found

    def run(self) -> None:
        graph = self.traced.graph
        for node in graph.nodes:
            self.write_elsewhere(node)
        fused = {node for chain in self.chains for node in chain.nodes}
        for node in list(graph.nodes):
            if node not in fused and self.rounds(node):
                self.insert(node)
        for chain in self.chains:
            self.replace(chain)
        graph.lint()
        self.drop_fused(fused)
        self.traced.delete_all_unused_submodules()
        self.traced.recompile()

    def drop_fused(self, fused: set[fx.Node]) -> None:
        """Delete the old places of modules that now belong to a layer, which would still switch their mode."""
        used = {str(node.target) for node in self.traced.graph.nodes if node.op == "call_module"}
        for target in {str(node.target) for node in fused if node.op == "call_module"} - used:
            self.traced.delete_submodule(target)

    def write_elsewhere(self, node: fx.Node) -> None:
        """Make an operation that overwrites its input write to a tensor of its own."""
        if node.op == "call_module" and writes_in_place(node, self.modules):
            self.modules[str(node.target)].inplace = False
        elif node.target is operator.iadd:
            node.target = operator.add
        elif node.op == "call_method" and str(node.target) in ("add_", "relu_", "clamp_"):
            node.target = str(node.target)[:-1]
        elif node.target is torch.relu_:
            node.target = torch.relu
        elif node.op == "call_function" and node.target in (F.relu, F.relu6) and writes_in_place(node, self.modules):
            node.args, node.kwargs = node.args[:1], {}

    def rounds(self, node: fx.Node) -> bool:
        """Tell whether a node outside the chains makes values that need codes of their own."""
        if node not in self.inner or self.shapes[node] is None or node.op == "output":
            return False
        if role(node, self.modules) in ("carry", "shape"):
            return False
        readers = list(node.users)
        to_relu = len(readers) == 1 and relu_cap(readers[0], self.modules) is not None
        return not (to_relu and node.op in ("call_function", "call_method", "call_module"))

    def insert(self, node: fx.Node) -> None:
        graph, name = self.traced.graph, self.free(f"{node.name}_quant")
        quantiser = FakeQuantize(self.config, node.name)
        quantiser.training = self.traced.training
        self.traced.add_submodule(name, quantiser.to(self.device))
        with graph.inserting_after(node):
            made = graph.call_module(name, (node,))
        made.meta["shape"] = self.shapes[node]
        node.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made)

    def replace(self, chain: Chain) -> None:
        head, graph = chain.head, self.traced.graph
        layer = self.modules[str(chain.layer.target)]
        bn = self.modules[str(chain.bn.target)] if chain.bn is not None else None
        cap = relu_cap(chain.relu, self.modules) if chain.relu is not None else None
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)
        assert bn is None or isinstance(bn, nn.BatchNorm1d | nn.BatchNorm2d)
        rounded = head in self.inner or self.config.quantize_logits
        output = FakeQuantize(self.config, head.name) if rounded else None
        path = str(chain.layer.target)
        made = QuantLayer(layer, bn=bn, cap=cap, output=output, config=self.config, path=path)
        for part in (made, made.weight, output):
            if part is not None:
                part.training = layer.training
        place = path if self.traced.get_submodule(path) is layer else self.free(path)
        self.traced.add_submodule(place, made)
        with graph.inserting_after(head):
            node = graph.call_module(place, (chain.layer.args[0],))
        node.meta["shape"] = self.shapes[head]
        head.replace_all_uses_with(node)
        for old in reversed(chain.nodes):
            graph.erase_node(old)

    def free(self, name: str) -> str:
        """Return a module's name that is not taken: the name itself, or with a number behind it."""
        taken = {n for n, _ in self.traced.named_modules()}
        tries = (name if n == 0 else f"{name}_{n}" for n in range(len(taken) + 1))
        return next(n for n in tries if n not in taken)
