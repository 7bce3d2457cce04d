"""One layer on packed spikes against the same float32 layer run densely without rounding, in float64."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.compress.sparsify.fold import fold_bn
from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops.conv2d_spike.check import AMBIGUOUS, Case
from sparseflow.ops.lif import LIFParams
from sparseflow.ops.lif.reference import charge, discharge
from sparseflow.ops.spike_layer import Source, pack_counts, pack_layer, spike_layer, unpack_counts
from sparseflow.recipes.spike_bench.gpu.settings import strict

__all__ = ["Tally", "compare", "layer_case", "random_case"]


@dataclass(slots=True)
class Tally:
    """Spikes compared with dense float32.

    Args:
        steps: neuron-steps compared.
        equal: of these, equal.
        clear: of these, with a potential that was never within 1e-5 of the threshold.
        clear_wrong: of the clear ones, different.
        ran: cases that ran.
        unsteady: cases with other bits on repeat.
        refused: cases that the kernel rejects.
        reasons: some of its reasons.
        worst: the lowest fraction of equal spikes of a case, and which.
    """

    steps: int = 0
    equal: int = 0
    clear: int = 0
    clear_wrong: int = 0
    ran: int = 0
    unsteady: int = 0
    refused: int = 0
    reasons: tuple[str, ...] = ()
    worst: tuple[float, str] = (1.0, "")

    def add(self, other: "Tally") -> None:
        """Add the counts of another tally."""
        for name in ("steps", "equal", "clear", "clear_wrong", "ran", "unsteady", "refused"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons = tuple(dict.fromkeys((*self.reasons, *other.reasons)))[:8]
        self.worst = min(self.worst, other.worst)

    @property
    def agreement(self) -> float:
        """Fraction of equal spikes; NaN of nothing."""
        return self.equal / self.steps if self.steps else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "neuron_steps": self.steps, "different": self.steps - self.equal, "agreement": self.agreement,
            "clear_neuron_steps": self.clear, "clear_different": self.clear_wrong, "ran": self.ran,
            "not_repeatable": self.unsteady, "refused": self.refused, "reasons": list(self.reasons),
            "worst": list(self.worst),
        }  # fmt: skip


def compare(currents: Tensor, spikes: Tensor, params: LIFParams, v0: Tensor | None, label: str) -> Tally:
    """Hold spikes against the neuron's own on dense currents.

    Args:
        currents: float32 or float64 `[T, N, ...]`.
        spikes: `[T, N, ...]` floats of the kernel.
        params: constants of the neuron.
        v0: potential before the first step, or None.
        label: name of the case.
    """
    v = torch.full_like(currents[0], params.v_rest) if v0 is None else v0.to(currents.dtype)
    clear = torch.ones_like(v, dtype=torch.bool)
    wrong = torch.zeros((), dtype=torch.int64, device=v.device)
    sure, sure_wrong = wrong.clone(), wrong.clone()
    for t in range(len(currents)):
        h = charge(v, currents[t], params)
        clear &= (h - params.v_threshold).abs() >= AMBIGUOUS
        s = (h >= params.v_threshold).to(h)
        other = s != spikes[t].to(h)
        wrong += other.sum()
        sure += clear.sum()
        sure_wrong += (other & clear).sum()
        v = discharge(h, s, params)
    steps = currents.numel()
    equal = steps - int(wrong)
    share = equal / steps if steps else 1.0
    return Tally(steps=steps, equal=equal, clear=int(sure), clear_wrong=int(sure_wrong), ran=1, worst=(share, label))


def random_case(case: Case, kernel: str, precision: str, device: torch.device) -> Tally:
    """Run one random layer, with a second source, counts or an identity in some, and compare it.

    Groups are left out: no kernel on packed spikes takes them, and the optimiser keeps such layers dense.

    Args:
        case: what `draw` drew.
        kernel: kernel of `spike_layer`.
        precision: its precision.
        device: where to run.
    """
    case = replace(case, geometry=case.geometry._replace(groups=1))
    g = torch.Generator().manual_seed(case.seed)
    kind = case.seed % 5
    planes = 2 if kind == 1 else 1
    m, (h, w) = case.steps * case.samples, case.size

    def counts(channels: int, height: int, width: int, bits: int) -> Tensor:
        x = torch.zeros(m, channels, height, width)
        for p in range(bits):
            x += (torch.rand(x.shape, generator=g) < case.density).float() * 2**p
        return x.to(device)

    def weight(channels: int, k: tuple[int, int]) -> Tensor:
        fan = max(1.0, channels * k[0] * k[1] * case.density * (2**planes - 1))
        scale = 1.5 / math.sqrt(fan)
        return (torch.randn((case.out_channels, channels, *k), generator=g) * scale).to(device)

    def source(x: Tensor, bits: int, k: tuple[int, int], moves: Any) -> Source:
        return Source(pack_counts(x, bits), x.shape[1], bits, k, *moves)

    moves = (case.geometry.stride, case.geometry.padding, case.geometry.dilation)
    xs = [counts(case.channels, h, w, planes)]
    weights = [weight(case.channels, case.kernel_size)]
    sources = [source(xs[0], planes, case.kernel_size, moves)]
    bits = [planes]
    ho, wo = sources[0].output()
    if kind == 2:
        xs.append(counts(case.channels, ho, wo, 1))
        weights.append(weight(case.channels, (1, 1)))
        sources.append(source(xs[1], 1, (1, 1), ((1, 1), (0, 0), (1, 1))))
        bits.append(1)
    identity = counts(case.out_channels, ho, wo, 1) if kind == 3 else None
    bias = (torch.randn(case.out_channels, generator=g) * 0.5).to(device) if case.bias else None
    v0 = None
    if case.state:
        v0 = (torch.randn((case.samples, case.out_channels, ho, wo), generator=g) * 0.2).to(device)
    label = f"seed {case.seed}, {kernel}, {precision}"
    try:
        packed = pack_layer(
            weights, bias, case.params, identity=identity is not None,
            planes=[*bits, *([1] if identity is not None else [])], precision=precision, kernel=kernel,
        )  # fmt: skip

        def run() -> Tensor:
            extra = None if identity is None else (pack_counts(identity, 1), 1)
            words: Tensor = spike_layer(sources, packed, steps=case.steps, identity=extra, v0=v0)[0]
            return words

        first, again = run(), run()
    except (UnsupportedError, ConfigError) as e:
        return Tally(refused=1, reasons=(str(e)[:160],))
    geometry = ((case.geometry, xs[0], weights[0]), *((None, x, k) for x, k in zip(xs[1:], weights[1:], strict=True)))
    with strict():
        # In float64: the library's float32 products may be off by more than the 1e-5 that is judged here.
        y = sum(F.conv2d(x.double(), k.double(), None, *(moves if g_ is not None else ())) for g_, x, k in geometry)
    currents = torch.as_tensor(y) + (0.0 if bias is None else bias.view(1, -1, 1, 1))
    currents = currents + (0.0 if identity is None else identity)
    shape = (case.steps, case.samples, *currents.shape[1:])
    spikes = unpack_counts(first, case.out_channels, 1).reshape(shape)
    tally = compare(currents.reshape(shape), spikes, case.params, v0, label)
    tally.unsteady = int(not torch.equal(first, again))
    return tally


def layer_case(
    layer: nn.Conv2d | nn.Linear,
    bn: nn.Module | None,
    params: LIFParams,
    x: Tensor,
    kernel: str,
    precision: str,
    label: str,
) -> Tally:
    """Feed one layer with the spikes or counts of the dense network, and compare what its neurons answer.

    Args:
        layer: the layer.
        bn: its batch norm, or None.
        params: constants of the neuron behind it.
        x: its float input, `[T, N, C, H, W]` or `[T, N, K]`.
        kernel: kernel of `spike_layer`.
        precision: its precision.
        label: name of the case.
    """
    steps, samples = x.shape[:2]
    weight, bias = layer.weight, layer.bias
    if bn is not None:
        weight, bias = fold_bn(weight, bias, bn)
    conv = isinstance(layer, nn.Conv2d)
    flat = x.reshape(steps * samples, *x.shape[2:]) if conv else x.reshape(steps * samples, -1, 1, 1)
    weight = weight.detach() if conv else weight.detach()[:, :, None, None]
    moves: Any = ((1, 1), (0, 0), (1, 1))
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1 or isinstance(layer.padding, str) or layer.padding_mode != "zeros":
            return Tally(refused=1, reasons=(f"{label}: groups or padding",))
        moves = (layer.stride, layer.padding, layer.dilation)
    top = int(flat.max())
    if not torch.equal(flat, flat.round()) or float(flat.min()) < 0 or top > 15:
        return Tally(refused=1, reasons=(f"{label}: its input is neither spikes nor small counts",))
    planes = max(1, top.bit_length())
    try:
        packed = pack_layer([weight], bias, params, planes=(planes,), precision=precision, kernel=kernel)
        source = Source(pack_counts(flat, planes), flat.shape[1], planes, (weight.shape[2], weight.shape[3]), *moves)
        words = spike_layer([source], packed, steps=steps)[0]
    except (UnsupportedError, ConfigError) as e:
        return Tally(refused=1, reasons=(f"{label}: {e}"[:160],))
    with strict(), torch.no_grad():
        y = F.conv2d(flat.double(), weight.double(), None if bias is None else bias.detach().double(), *moves)
    shape = (steps, samples, *y.shape[1:])
    spikes = unpack_counts(words, weight.shape[0], 1).reshape(shape)
    return compare(y.reshape(shape), spikes, params, None, label)
