"""The truth of a linear layer on spikes, in plain torch."""

import torch.nn.functional as F
from torch import Tensor

from sparseflow.ops.lif import reference as neuron
from sparseflow.ops.lif.reference import LIFParams

__all__ = ["linear_lif", "linear_words", "spike_linear"]


def spike_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Dense linear layer; see `sparseflow.ops.linear_spike.spike_linear`."""
    return F.linear(x, weight, bias)


def linear_words(words: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Linear layer on packed spikes with a plain weight; see `sparseflow.ops.linear_spike.linear_words`."""
    return F.linear(neuron.unpack_spikes(words, weight.shape[1], weight.dtype).flatten(1), weight, bias)


def linear_lif(
    words: Tensor, weight: Tensor, bias: Tensor | None, params: LIFParams, *, steps: int, v0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Linear layer, then neurons, packed; see `sparseflow.ops.linear_spike.linear_lif`."""
    spikes, v = neuron.lif(linear_words(words, weight, bias), params, steps=steps, v0=v0)
    return neuron.pack_spikes(spikes), v
