"""The first layer of a lowered network: an image in, packed spikes of all steps out."""

from typing import Any

from torch import Tensor, nn

from sparseflow.nn._membrane import Constants, Membrane
from sparseflow.nn.spike_layer_block import Part, _Stamped
from sparseflow.nn.spikes import Spikes
from sparseflow.ops.stem import StemWeights, Window, pack_stem, stem

__all__ = ["StemBlock"]


class StemBlock(_Stamped):
    """Image → convolution (+ folded normalisation) → repeated over T → neuron → packed spikes.

    The currents reach the neuron in float32 whatever the network's precision: they are computed
    once for all steps, and every later layer depends on their spikes.

    Args:
        part: the convolution, without groups.
        neuron: an IF, LIF or parametric LIF module; every call starts at rest and leaves no state.
        constants: reads the constants of such a module.
        repeat: T.
        kernel: "triton", or "library" for torch's convolution in float32.
    """

    kernels = ("triton", "library")
    most_terms = 512

    def __init__(
        self, part: Part, neuron: nn.Module, constants: Constants, *, repeat: int, kernel: str = "library"
    ) -> None:
        super().__init__([part])
        self.repeat, self.kernel = repeat, kernel
        self._membrane = Membrane(neuron, constants, keep=False)
        self.window = Window(stride=part.stride, padding=part.padding, dilation=part.dilation)

    @classmethod
    def takes(cls, layer: Any) -> bool:
        """Tell whether a layer is a convolution that such a block can stand for."""
        if not isinstance(layer, nn.Conv2d) or layer.groups != 1:
            return False
        return layer.weight[0].numel() <= cls.most_terms

    def behind(self) -> list[Tensor | None]:
        """Return every tensor that the block was packed from."""
        return [*super().behind(), *self._membrane.neuron._parameters.values()]

    def forward(self, x: Tensor) -> Spikes:
        """Return the spikes of every step of an image `[N, C, H, W]`."""
        weights: StemWeights = self.fresh("stem", self._pack)
        kernel = "dense" if self.kernel == "library" else self.kernel
        params = self._membrane.refresh()
        words = stem(x, weights, params, steps=self.repeat, window=self.window, kernel=kernel)
        return Spikes(words, weights.weight.shape[0], (self.repeat, x.shape[0]))

    def _pack(self) -> StemWeights:
        return pack_stem(*self.parts[0].plain())

    def extra_repr(self) -> str:
        """Return sizes and kernel."""
        return f"{tuple(self.parts[0].layer.weight.shape)}, repeat={self.repeat}, kernel={self.kernel!r}"
