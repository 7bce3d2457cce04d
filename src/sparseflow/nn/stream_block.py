"""A stream of floats that grows from layer to layer, and the neurons that read it: MS-ResNet and its kin."""

from torch import Tensor, nn

from sparseflow.nn._membrane import Constants, Membrane
from sparseflow.nn.spikes import Spikes
from sparseflow.ops.lif import add_lif_pack

__all__ = ["StreamBlock"]


class StreamBlock(nn.Module):
    """Stream + what a layer adds → the new stream, and its packed spikes, over all steps.

    Args:
        neuron: an IF, LIF or parametric LIF module in step mode "m"; every call starts at rest and leaves no state.
        constants: reads the constants of such a module.
    """

    def __init__(self, neuron: nn.Module, constants: Constants) -> None:
        super().__init__()
        self._membrane = Membrane(neuron, constants, keep=False)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Spikes, Tensor]:
        """Return the spikes of the sum of two `[T, N, C, H, W]` or `[T, N, C, L]`, and the sum.

        Where one of the two lies channels last, as layers of spikes give it, so does the sum.
        """
        if x.dtype != y.dtype:
            x, y = x.float(), y.float()
        lead, tokens = tuple(x.shape[:2]), x.dim() == 4
        first, second = (t.flatten(0, 1)[..., None] if tokens else t.flatten(0, 1) for t in (x, y))
        words, total = add_lif_pack(first, second, self._membrane.refresh(), steps=lead[0])
        total = total.squeeze(-1) if tokens else total
        return Spikes(words, x.shape[2], lead), total.view(*lead, *total.shape[1:])
