"""Spike edges: which spiking neurons feed each convolution and linear layer, and in what form."""

from collections.abc import Iterable
from dataclasses import dataclass

from sparseflow.trace.graph import Call, Capture, Ref

__all__ = ["SpikeEdge", "spike_edges", "structures"]

# Zeros stay zeros and ones stay ones. A batch norm is not among them: it shifts zeros away.
_BITS_SURVIVE = frozenset(
    {
        "max_pool", "max_pool1d", "max_pool2d", "adaptive_max_pool2d", "max", "identity", "dropout", "flatten",
        "reshape", "view", "permute", "transpose", "squeeze", "unsqueeze", "repeat", "expand", "contiguous", "copy",
        "cast", "split", "chunk", "slice", "select", "roll", "flip", "fold_time", "unfold", "pixel_shuffle",
        "pixel_unshuffle", "channel_shuffle", "relu", "gather",
    }
)  # fmt: skip
_JOINS = frozenset({"cat", "stack"})
_ADDS = frozenset({"add", "sum"})
_ZEROS_SURVIVE = frozenset(
    {"avg_pool", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool2d", "mean", "random_dropout", "neg", "abs", "tanh"}
)  # fmt: skip
# Tensors of zeros are spikes of no neuron.
_ZEROS = frozenset({"zeros", "zeros_like", "new_zeros"})
_LAYERS = ("conv", "linear")
_RANK = {"spikes": 0, "counts": 1, "sparse": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeEdge:
    """One spiking neuron that one convolution or linear layer reads.

    Args:
        source: node of the neuron; a dotted module path.
        layer: node of the layer; a dotted module path, or a function's node name.
        via: nodes in between, in the order that spikes pass them.
        structure: what arrives at the layer: "spikes" (0 and 1), "counts" (sums of
            spikes) or "sparse" (zeros survive, values are any). All edges of one
            layer have the same.
    """

    source: str
    layer: str
    via: tuple[str, ...] = ()
    structure: str = "spikes"


@dataclass(frozen=True, slots=True)
class _Form:
    """What a tensor is known to hold: its structure, and the way from each source."""

    structure: str
    ways: tuple[tuple[str, tuple[str, ...]], ...]

    def through(self, node: str, structure: str | None = None) -> "_Form":
        ways = ((source, via if via[-1:] == (node,) else (*via, node)) for source, via in self.ways)
        return _Form(structure or self.structure, tuple(dict(ways).items()))


def _weakest(forms: Iterable[_Form]) -> str:
    return max((f.structure for f in forms), key=lambda s: _RANK.get(s, 0))


def _union(forms: Iterable[_Form], node: str, structure: str) -> _Form:
    ways: dict[str, tuple[str, ...]] = {}
    for form in forms:
        for source, via in form.through(node).ways:
            ways.setdefault(source, via)
    return _Form(structure, tuple(ways.items()))


def spike_edges(capture: Capture) -> tuple[SpikeEdge, ...]:
    """Return every spiking neuron that feeds a convolution or linear layer through transparent nodes.

    Followed are the tensors of each call, never the order of execution. Bits
    survive max-pooling, reshaping, indexing, concatenation, padding with zeros
    and evaluation-mode dropout; sums of spikes are "counts", products of spikes
    are "spikes", averages keep zeros only and are "sparse". Anything else ends
    the search: batch norm after a spike is not transparent. A layer that runs
    several times has edges only if all its runs read spikes.

    Args:
        capture: from `sparseflow.trace.capture`.

    Returns:
        Edges in order of the layers' first execution.
    """
    forms = _forms(capture)
    reading: dict[str, list[_Form | None]] = {}
    for call in capture.calls:
        if call.op.startswith(_LAYERS):
            reading.setdefault(call.node, []).append(forms.get(call.inputs[0]) if call.inputs else None)
    edges = []
    for layer, runs in reading.items():
        real = [form for form in runs if form is not None and form.structure in _RANK]
        if len(real) < len(runs):
            continue
        structure = _weakest(real)
        ways = dict(way for form in reversed(real) for way in form.ways)
        edges += [SpikeEdge(source=s, layer=layer, via=via, structure=structure) for s, via in ways.items()]
    return tuple(edges)


def structures(capture: Capture) -> dict[Ref, str]:
    """Return what each tensor that descends from spikes holds: "spikes", "counts" or "sparse"."""
    return {ref: form.structure for ref, form in _forms(capture).items() if form and form.structure in _RANK}


def _forms(capture: Capture) -> dict[Ref, _Form | None]:
    forms: dict[Ref, _Form | None] = {}
    for call in capture.calls:
        given = [forms.get(ref) for ref in call.inputs]
        if call.source:
            form: _Form | None = _Form("spikes", ((call.node, ()),))
        elif call.op in _ZEROS and not call.nonzero[0]:
            form = _Form("spikes", ())
        else:
            form = _passed(call, given)
        for slot in range(1 if call.source else len(call.output_shapes)):
            forms[(call.index, slot)] = _checked(form, call, slot)
    return forms


def _checked(form: _Form | None, call: Call, slot: int) -> _Form | None:
    """Weaken a form that the recorded values contradict, as of a neuron that emits more than bits."""
    if form is None:
        return None
    held = call.values[slot]
    if form.structure == "spikes" and held != "spikes":
        return _Form("counts" if held == "counts" else "sparse", form.ways)
    if form.structure == "counts" and held == "any":
        return _Form("sparse", form.ways)
    return None if form.structure == "bits" and held != "spikes" else form


def _passed(call: Call, given: list[_Form | None]) -> _Form | None:
    """Return what comes out of a call, or None where neither zeros nor bits are sure to survive."""
    if call.kind not in ("function", "module"):
        return None
    real = [form for form in given if form is not None]
    whole = len(real) == len(given) and bool(given) and not any(form.structure == "bits" for form in real)
    op, node, scalar = call.op, call.node, call.attrs.get("scalar")
    if not real:
        return None
    if call.written and op not in ("add", "mul", "relu", "sub", "dropout", "write"):
        return None
    if op == "rsub" and scalar == 1.0 and whole and real[0].structure == "spikes":
        return real[0].through(node, "bits")
    if op in ("mul", "logical_and"):
        return _product(call, given, real)
    if not whole:
        return None
    first = real[0]
    if op == "relu" and first.structure == "sparse":
        return first.through(node)
    if op == "max" and "spikes" not in {f.structure for f in real} and "counts" not in {f.structure for f in real}:
        return first.through(node, "sparse")
    if op in _BITS_SURVIVE and len(given) == 1:
        return first.through(node)
    if op == "pad" and call.attrs.get("mode") != "constant":
        return first.through(node)
    if op in ("pad", "zeropad2d") and call.attrs.get("fill", 0.0) == 0.0:
        return first.through(node)
    if op == "upsample":
        return first.through(node, None if "nearest" in str(call.attrs.get("mode")) else "sparse")
    if op in _JOINS or (op == "write" and len(given) == 2):
        return _union(real, node, _weakest(real))
    if op in ("maximum", "logical_or") and len(given) == 2:
        return _union(real, node, _weakest(real))
    if op in _ADDS and scalar in (None, 0.0):
        return _union(real, node, "counts" if _weakest(real) != "sparse" else "sparse")
    if op == "sub" and len(given) == 2:
        return _union(real, node, "sparse")
    if op in ("matmul", "einsum") and len(given) == 2:
        return _union(real, node, "counts" if _weakest(real) != "sparse" else "sparse")
    if op == "div" and scalar not in (None, 0.0):
        return first.through(node, "sparse")
    if op in _ZEROS_SURVIVE:
        return first.through(node, "sparse")
    return None


def _product(call: Call, given: list[_Form | None], real: list[_Form]) -> _Form | None:
    """A product is zero where any factor is: bits if all factors are, else only zeros survive."""
    zeros = [form for form in real if form.structure != "bits"]
    if not zeros:
        return None
    if len(real) == len(given) and len(given) > 1:
        return _union(real, call.node, _weakest(real))
    scalar = call.attrs.get("scalar")
    if len(given) == 1 and scalar == 1.0:
        return zeros[0].through(call.node)
    return _union(zeros, call.node, "sparse")
