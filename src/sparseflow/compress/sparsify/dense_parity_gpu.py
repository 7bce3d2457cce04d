"""Compare a dense form with its model, every neuron fed what the true spikes before it make."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from sparseflow.compress.sparsify.fuse import neuron_constants
from sparseflow.compress.sparsify.parity import Parity
from sparseflow.compress.sparsify.parity_gpu import Unlike, plain_convolutions
from sparseflow.compress.sparsify.rivals import DenseForm
from sparseflow.ops.lif import LIFParams
from sparseflow.trace import is_spike_source, neuron_params
from sparseflow.trace._state import quiet

__all__ = ["compare_dense"]

Hook = Callable[[nn.Module, tuple[Any, ...], Any], Any]


def compare_dense(model: nn.Module, form: DenseForm, args: tuple[Any, ...]) -> Parity:
    """Return how many spikes a dense form's rounding changes, each neuron on the true spikes of those before it.

    The model runs first, in float32, and what its neurons get and fire is kept. Then the form's copy runs, eagerly
    if it is compiled (inductor rounds no more often), and behind every neuron the true spikes go on. What a neuron
    fires otherwise than in the model is thus what was rounded since the neurons before it, as for packed layers.
    Neurons whose maths is not known count every difference, also one on the threshold.

    Args:
        model: the model that the form was made of.
        form: runs it densely, without blocks and from rest.
        args: arguments of its forward.

    Memory: what all neurons get and fire, 5 bytes a spike.
    """
    first = _Record()
    with quiet(model), plain_convolutions(), _hooked(model, first.hook):
        model(*args)
    second = _Compare(model, first.kept)
    with quiet(model), _hooked(form.twin, second.hook):
        form.eager(*args)
    return Parity(spikes=second.spikes, mismatches=second.mismatches, near=second.near)


class _Record:
    """Keeps what every neuron gets and fires, call by call; what it gets only where its maths is known."""

    def __init__(self) -> None:
        self.kept: dict[int, list[tuple[Tensor | None, Tensor]]] = {}

    def hook(self, number: int) -> Hook:
        def keep(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
            current = given[0].clone() if neuron_params(module) is not None else None
            self.kept.setdefault(number, []).append((current, _spikes(made) != 0))

        return keep


class _Compare:
    """Compares what neurons fire with what was kept, and puts the latter in its place."""

    def __init__(self, model: nn.Module, kept: dict[int, list[tuple[Tensor | None, Tensor]]]) -> None:
        self.kept = kept
        modules = enumerate(model.modules())
        self.constants: dict[int, LIFParams] = {
            n: neuron_constants(m) for n, m in modules if n in kept and neuron_params(m) is not None
        }
        self.potentials: dict[int, Tensor] = {}
        self.spikes = self.mismatches = self.near = 0

    def hook(self, number: int) -> Hook:
        def compare(module: nn.Module, _: tuple[Any, ...], made: Any) -> Any:
            # Freed once it is compared: what is kept is larger than the network.
            current, fired = self.kept[number].pop(0)
            found = _spikes(made)
            self.spikes += found.numel()
            if current is None:
                self.mismatches += int(((found != 0) != fired).sum())
            else:
                multi = getattr(module, "step_mode", "s") == "m"
                steps = current if multi else current[None]
                unlike = Unlike.of(steps, found.float(), self.constants[number], self.potentials.get(number))
                self.potentials[number] = unlike.v
                self.mismatches += unlike.mismatches
                self.near += unlike.near
            return tree_map_only(Tensor, lambda t: fired.to(t.dtype) if t is found else t, made)

        return compare


def _spikes(made: Any) -> Tensor:
    """Return the spikes of what a neuron returns: its first tensor, as the registry of neurons has it."""
    first: Tensor = next(leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor))
    return first


@contextmanager
def _hooked(model: nn.Module, hook: Callable[[int], Hook]) -> Iterator[None]:
    neurons = [(n, m) for n, m in enumerate(model.modules()) if is_spike_source(m)]
    handles = [m.register_forward_hook(hook(n)) for n, m in neurons]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
