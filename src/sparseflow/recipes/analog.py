"""The analog twin of a spiking network: the same weights, rates for spikes, and no time.

Deep spiking networks start chaotic: gradients of distant layers carry no signal. The twin's
neurons answer with the rate that a constant input brings about, so that it trains like any
network, in a T-th of the time; its weights then are a start for training with spikes.

Source: the idea is hybrid training (Rathi et al., ICLR 2020); the rate is that of our neurons.
"""

from torch import nn

from sparseflow.nn.layers import Repeat
from sparseflow.nn.neurons import SpikingNode

__all__ = ["AnalogTwin"]


class AnalogTwin:
    """Switches a network between spikes over all steps and rates in one step.

    Args:
        model: a network; it spikes until `use` says otherwise.
    """

    def __init__(self, model: nn.Module) -> None:
        self._neurons = [m for m in model.modules() if isinstance(m, SpikingNode)]
        self._repeats = [(m, m.steps) for m in model.modules() if isinstance(m, Repeat)]

    @property
    def steps(self) -> int:
        """T: so many images take the twin as long as one takes the network with spikes."""
        return max((steps for _, steps in self._repeats), default=1)

    def use(self, analog: bool) -> None:
        """Run the network as its analog twin, or with spikes again."""
        for neuron in self._neurons:
            neuron.reset()
            neuron.analog = analog
        for repeat, steps in self._repeats:
            repeat.steps = 1 if analog else steps
