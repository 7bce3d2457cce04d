"""Sites: the activations of any traced model whose integer codes can be changed, found by what reads them.

A site is the output of a ReLU-like node that a convolution or linear layer reads, straight
or through max-pools, reshapes, concatenations and averages. Its codes start at an exact 0,
so a map of codes applied at the node is what every reader sees.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches

from torch import fx

from sparseflow.compress.quantize.roles import operation
from sparseflow.compress.quantize.walk import Walk
from sparseflow.errors import CaptureError, ConfigError
from sparseflow.ir import Refusal
from sparseflow.trace import Capture

__all__ = ["Site", "Sites", "find_sites"]

_WHAT = "site"
_ROOMS = ("features.", "classifier.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One activation whose codes can be changed.

    Args:
        name: name of the layer that makes it, as `conv1` or `layer1.0.conv1`; that of the
            activation itself where a sum or another operation makes it.
        node: name of the `fx` node whose output it is.
        layer: dotted path, or `fx` node, of the convolution or linear layer that makes it; "" if none does.
        kind: "conv", "linear", or the operation that makes it, as "add".
        readers: the convolutions and linear layers that read it.
        via: `fx` nodes that its values pass on the way there.
        averaged: whether all readers see averages of its values only, as behind a global average pool.
        beside: what else reads the changed values, as the addition of a residual.
    """

    name: str
    node: str
    layer: str
    kind: str
    readers: tuple[str, ...]
    via: tuple[str, ...] = ()
    averaged: bool = False
    beside: tuple[str, ...] = ()

    @property
    def tap(self) -> str:
        """Name under which the activation is recorded: `block_output.conv1_1`, `classifier.fc1.out`.

        >>> Site(name="fc1", node="fc1_relu", layer="fc1", kind="linear", readers=("fc2",)).tap
        'classifier.fc1.out'
        """
        return f"classifier.{self.name}.out" if self.kind == "linear" else f"block_output.{self.name}"

    @property
    def aliases(self) -> tuple[str, ...]:
        """Every name that finds the site: its own, its tap, that of the tap before fusion, its node."""
        room = "classifier" if self.kind == "linear" else "features"
        return tuple(dict.fromkeys((self.name, self.tap, f"{room}.{self.name}.relu_out", self.node)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """The sites of a model in the order of its graph, and what is none.

    Args:
        sites: the sites.
        refusals: activations that are no site; `layer` names the activation.
        model: name of the model's class, for messages.
    """

    sites: tuple[Site, ...]
    refusals: tuple[Refusal, ...] = ()
    model: str = "the model"

    def __iter__(self) -> Iterator[Site]:
        """Iterate over the sites."""
        return iter(self.sites)

    def __len__(self) -> int:
        """Return the number of sites."""
        return len(self.sites)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sites."""
        return tuple(site.name for site in self.sites)

    def __getitem__(self, name: str) -> Site:
        """Return the site that has this name or alias.

        Raises:
            ConfigError: there is none; names the nearest, or why the activation is no site.
        """
        for site in self.sites:
            if name in site.aliases:
                return site
        known = [alias for site in self.sites for alias in site.aliases[:2]]
        why = next((f"{r.layer} is none: {r.reason}" for r in self.refusals if r.layer == name), "")
        near = get_close_matches(name, known, n=3)
        mend = why or (f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(self.names) or 'none'}")
        raise ConfigError(f"{self.model} has no site {name!r}; {mend}")

    def select(self, names: Iterable[str]) -> "Sites":
        """Return only the sites of these names or aliases, in the order of the graph.

        Raises:
            ConfigError: a name has no site, or two have the same one.
        """
        wanted = [self[name].name for name in names]
        twice = [name for name, count in Counter(wanted).items() if count > 1]
        if twice:
            raise ConfigError(f"site {twice[0]!r} of {self.model} is named twice; name each once")
        return replace(self, sites=tuple(site for site in self.sites if site.name in wanted))


def find_sites(captured: Capture | fx.GraphModule) -> Sites:
    """Return the sites of a traced model, and why its other activations are none.

    Logits and whatever else the model returns are never sites. A residual stream is one
    where it is rectified: the addition then reads the changed values too (`beside`).

    Args:
        captured: from `sparseflow.trace.capture`, or a graph that was traced in eval mode.

    Raises:
        CaptureError: the capture has no traced graph, in which alone values can be changed; says why.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU())
    >>> found = find_sites(fx.symbolic_trace(net))
    >>> [(site.name, site.readers, site.via) for site in found]
    [('0', ('3',), ('_2',))]
    >>> found.refusals[0].reason
    'the model returns its values, which stay exact'
    """
    graph_module, model = _graph(captured)
    walk = Walk(graph_module)
    sites: list[Site] = []
    refusals: list[Refusal] = []
    for node, role in walk.roles.items():
        if role not in ("relu", "activation"):
            continue
        found = _site(node, walk)
        if isinstance(found, str):
            refusals.append(Refusal(layer=walk.label(node), what=_WHAT, reason=found))
        else:
            sites.append(found)
    return Sites(sites=_named_apart(sites), refusals=tuple(refusals), model=model)


def _graph(captured: Capture | fx.GraphModule) -> tuple[fx.GraphModule, str]:
    if isinstance(captured, fx.GraphModule):
        return captured, "the model"
    if captured.graph_module is None:
        why = "; ".join(note for note in captured.notes if note.startswith("no traced graph")) or "no traced graph"
        raise CaptureError(
            f"the activations of {captured.model} cannot be changed: {why};"
            " write its forward without branches on tensor values or shapes"
        )
    return captured.graph_module, captured.model


def _site(node: fx.Node, walk: Walk) -> Site | str:
    """Return the site that a node is under its full name, or why it is none."""
    if walk.roles[node] == "activation":
        return f"{operation(node, walk.modules)} is no ReLU, whose codes start at an exact 0"
    stale = walk.stale_reader(node)
    if stale is not None:
        return f"it is written in place over a tensor that {walk.label(stale)} reads too; make the ReLU out of place"
    reach = walk.reach(node)
    readers = reach.straight + reach.averaged
    if reach.returned:
        return "the model returns its values, which stay exact"
    if not readers:
        others = ", ".join(dict.fromkeys(walk.label(n) for n in reach.beside))
        return f"no convolution or linear layer reads it, only {others}" if others else "nothing reads it"
    maker = walk.maker(node)
    layer = maker if maker is not None and walk.roles[maker] == "layer" else None
    return Site(
        name=_full_name(node, layer, walk),
        node=node.name,
        layer="" if layer is None else walk.path(layer),
        kind=_kind(maker, walk),
        readers=tuple(dict.fromkeys(walk.path(n) for n in readers)),
        via=tuple(n.name for n in reach.via),
        averaged=not reach.straight,
        beside=tuple(dict.fromkeys(walk.label(n) for n in reach.beside)),
    )


def _kind(maker: fx.Node | None, walk: Walk) -> str:
    if maker is None or maker.op in ("placeholder", "get_attr"):
        return "input"
    name = operation(maker, walk.modules)
    if walk.roles[maker] == "layer":
        return "linear" if "linear" in name.lower() else "conv"
    return name


def _full_name(node: fx.Node, layer: fx.Node | None, walk: Walk) -> str:
    """Return the block that holds nothing but the layer and its activation, else the layer, else the activation."""
    if layer is None:
        return walk.label(node)
    path = walk.path(layer)
    block = path.rpartition(".")[0]
    together = block != "" and walk.label(node).rpartition(".")[0] == block
    if not together or block.rpartition(".")[2].isdigit() or walk.layers_below(block) != 1:
        return path
    return block


def _named_apart(sites: list[Site]) -> tuple[Site, ...]:
    """Leave out the room `features` or `classifier` where that is unambiguous, and number equal names."""
    counts = Counter(_short(site.name) for site in sites)
    taken: set[str] = set()
    named = []
    for site in sites:
        short = _short(site.name)
        base = short if counts[short] == 1 else site.name
        name, n = base, 1
        while name in taken:
            name, n = f"{base}_{n}", n + 1
        taken.add(name)
        named.append(replace(site, name=name))
    return tuple(named)


def _short(name: str) -> str:
    for room in _ROOMS:
        rest = name.removeprefix(room)
        if rest != name and not rest[:1].isdigit():
            return rest
    return name
