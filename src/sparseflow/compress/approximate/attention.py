"""Attention transfer: how far the maps of some layers have moved, on codes and in exact sums."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.errors import ConfigError

__all__ = ["TAPS", "AttentionWeights", "TeacherMap", "attention_loss", "taps_for"]

TAPS: Mapping[str, tuple[str, ...]] = {
    "alexnet": ("conv3", "conv4", "conv5"),
    "lenet5": ("conv1", "conv2"),
    "mobilenetv1": ("dw4", "dw8", "dw12"),
    "nin": ("conv1", "conv2", "conv3"),
    "vgg16": ("conv3_1", "conv4_1", "conv5_1"),
    "vgg19": ("conv3_2", "conv4_2", "conv5_2"),
}
"""Layers whose maps the earlier project compared, by network."""
_EXACT = 2**24


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionWeights:
    """Weights of the parts of the attention loss, that of the squared difference being 1.

    Args:
        l1: of the mean absolute difference of the attention.
        cosine: of 1 − cosine of the attention.
        features: of the squared difference of the normalised maps.

    Raises:
        ConfigError: a weight is negative.
    """

    l1: float = 0.5
    cosine: float = 0.3
    features: float = 0.5

    def __post_init__(self) -> None:
        """Check the weights."""
        for name in ("l1", "cosine", "features"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"attention weight {name} is {getattr(self, name)}; expected 0 or more")


class Tap(Protocol):
    """What is known of a layer that may be compared: its name, and whether its codes have places."""

    @property
    def name(self) -> str:
        """Name of the layer."""

    @property
    def kind(self) -> str:
        """The operation that makes the values, "linear" for a layer without places."""


def taps_for(sites: Sequence[Tap], *, model: str = "", names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the layers whose maps are compared.

    Args:
        sites: those of the network, in order.
        model: name of the network; what the earlier project took there is taken where the network has it.
        names: layers asked for.

    Returns:
        The names asked for; else those of `TAPS`; else three convolutions, at 1/2, 3/4 and the end of those there are.

    Raises:
        ConfigError: a name is no site; says which is near.
    """
    known = [site.name for site in sites]
    if names is not None:
        for name in names:
            if name not in known:
                near = get_close_matches(name, known, n=3) or known
                raise ConfigError(f"no site {name!r} to compare; did you mean {' or '.join(near)}?")
        return tuple(dict.fromkeys(names))
    usual = TAPS.get(model, ())
    if usual and set(usual) <= set(known):
        return usual
    maps = [site.name for site in sites if site.kind != "linear"] or known
    n = len(maps)
    return tuple(dict.fromkeys(maps[max(0, -(-n * k // 4) - 1)] for k in (2, 3, 4)))


def attention_loss(student: Tensor, teacher: Tensor, weights: AttentionWeights | None = None) -> Tensor:
    """Return the loss of each image, written as it is defined.

    MSE(a_s, a_t) + l1·|a_s − a_t| + cosine·(1 − cos(a_s, a_t)) + features·MSE(F̂_s, F̂_t), with a = softmax over the
    places of √Σ_c F², F̂ = each channel over its L2 norm, all means over one image. Features without places, `[N, C]`,
    are a map of one channel with C places.

    Args:
        student: real `[N, C, ...]`.
        teacher: the same shape.
        weights: of the parts; the earlier project's if None.

    Returns:
        float64 `[N]`.

    Source: the earlier project's attention transfer, which is not that of Zagoruyko and Komodakis, ICLR 2017.
    """
    w = weights or AttentionWeights()
    s, t = (_places(x.double()) for x in (student, teacher))
    a, b = (x.square().sum(1).sqrt().softmax(-1) for x in (s, t))
    features = (F.normalize(s, dim=-1) - F.normalize(t, dim=-1)).square().mean((1, 2))
    cosine = 1 - F.cosine_similarity(a, b, dim=-1)
    return (a - b).square().mean(-1) + w.l1 * (a - b).abs().mean(-1) + w.cosine * cosine + w.features * features


class TeacherMap:
    """One layer's codes on fixed images, to which those of candidates are compared without a copy in real numbers.

    Normalised maps do not depend on the scale, and |F̂_s − F̂_t|² = 2 − 2·cos by channel; so it takes sums of squares
    and of products of codes, whole numbers that float32 holds exactly in any order, and the rest in float64.

    Args:
        codes: `[N, C, ...]`, zero point 0.
        scale: real value of a step.
        weights: of the parts; the earlier project's if None.
        largest: largest code that can occur.
    """

    def __init__(
        self, codes: Tensor, scale: float, weights: AttentionWeights | None = None, *, largest: int = 255
    ) -> None:
        self.codes, self.scale, self.weights = codes, scale, weights or AttentionWeights()
        terms = max(_places(codes).shape[1:])
        self._sum_type = torch.float32 if terms * largest**2 < _EXACT else torch.float64
        by_place, self._channel, _ = self._sums(codes)
        self._attention = self._soft(by_place)

    def loss(self, codes: Tensor) -> Tensor:
        """Return the loss of each image and candidate.

        Args:
            codes: `[K·N, C, ...]`, candidates outermost.

        Returns:
            float64 `[K, N]`; that of `attention_loss` up to its rounding.
        """
        n = len(self.codes)
        by_place, channel, products = self._sums(codes)
        a = _by_candidate(self._soft(by_place), n)
        b, w = self._attention, self.weights
        channel = _by_candidate(channel, n)
        norms = (channel * self._channel).sqrt()
        there = (channel > 0).double() + (self._channel > 0).double()
        cosines = products / norms.where(norms > 0, 1.0)
        places = max(1, by_place.shape[-1])
        features = (there - 2 * cosines).mean(-1) / places
        lengths = (a.square().sum(-1) * b.square().sum(-1)).sqrt()
        cosine = 1 - (a * b).sum(-1) / lengths
        far = (a - b).abs()
        return far.square().mean(-1) + w.l1 * far.mean(-1) + w.cosine * cosine + w.features * features

    def _sums(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return Σ_c q² `[M, P]`, Σ_p q² `[M, C]` and Σ_p q·q_t `[K, N, C]`, float64."""
        x, t = _places(codes), _places(self.codes)
        x, t = x.to(self._sum_type), t.to(self._sum_type)
        squares = x * x
        products = (_by_candidate(x, len(t)) * t).sum(-1)
        return squares.sum(1).double(), squares.sum(2).double(), products.double()

    def _soft(self, by_place: Tensor) -> Tensor:
        return (by_place.sqrt() * self.scale).softmax(-1)


def _places(x: Tensor) -> Tensor:
    return x.unsqueeze(1) if x.dim() == 2 else x.flatten(2)


def _by_candidate(x: Tensor, images: int) -> Tensor:
    """Return `[K·N, ...]` as `[K, N, ...]`."""
    return x.as_strided((len(x) // images, images, *x.shape[1:]), (images * x.stride(0), *x.stride()))
