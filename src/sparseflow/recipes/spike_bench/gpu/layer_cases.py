"""One layer on packed spikes against the same float32 layer run densely without rounding, in float64."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
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

__all__ = ["Tally", "compare", "layer_case", "layer_room", "random_case"]

# Outputs of a layer that are held against the references at once: float64 currents and all that is made of them.
CHUNK = 2**23
# Bytes that an output of a chunk takes at most, and an input or output of the kernel.
COMPARED_BYTES, FED_BYTES = 96, 12
# Images for a kernel that refuses more of them.
FEW = 8


@dataclass(slots=True)
class Tally:
    """Spikes compared with dense ones.

    Args:
        steps: neuron-steps compared.
        equal: of these, equal to those of float64.
        clear: of these, with a float64 potential that was never within 1e-5 of the threshold.
        clear_wrong: of the clear ones, different from float64's.
        float32_wrong: different from those of dense float32, whose potential was never within 1e-5 of the threshold.
        float32_own: of the clear ones, those in which dense float32 itself is unlike float64.
        distinct: neuron-steps, where neurons of one case that get the same currents count as one.
        distinct_equal: of these, equal in all of those neurons.
        ran: cases that ran.
        unsteady: cases with other bits on repeat.
        refused: cases that the kernel rejects.
        reasons: some of its reasons.
        worst: the lowest fraction of equal spikes of a case, and which.
        wrong: some of the cases with spikes that count in `clear_wrong` or `float32_wrong`.
    """

    steps: int = 0
    equal: int = 0
    clear: int = 0
    clear_wrong: int = 0
    float32_wrong: int = 0
    float32_own: int = 0
    distinct: int = 0
    distinct_equal: int = 0
    ran: int = 0
    unsteady: int = 0
    refused: int = 0
    reasons: tuple[str, ...] = ()
    worst: tuple[float, str] = (1.0, "")
    wrong: tuple[str, ...] = ()

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Tally":
        """Return the tally whose fields came as JSON, lists in place of tuples."""
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
        return cls(**given)

    def add(self, other: "Tally") -> None:
        """Add the counts of another tally."""
        for field in fields(self):
            mine = getattr(self, field.name)
            if isinstance(mine, int):
                setattr(self, field.name, mine + getattr(other, field.name))
        self.reasons = tuple(dict.fromkeys((*self.reasons, *other.reasons)))[:8]
        self.wrong = (*self.wrong, *other.wrong)[:16]
        self.worst = min(self.worst, other.worst)

    @property
    def agreement(self) -> float:
        """Fraction of equal spikes; NaN of nothing."""
        return self.equal / self.steps if self.steps else math.nan

    @property
    def distinct_agreement(self) -> float:
        """Fraction of equal spikes, neurons with the same currents as one; NaN of nothing."""
        return self.distinct_equal / self.distinct if self.distinct else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "neuron_steps": self.steps, "different": self.steps - self.equal, "agreement": self.agreement,
            "clear_neuron_steps": self.clear, "clear_different": self.clear_wrong,
            "different_from_float32": self.float32_wrong, "float32_different_from_float64": self.float32_own,
            "distinct_neuron_steps": self.distinct, "distinct_agreement": self.distinct_agreement, "ran": self.ran,
            "not_repeatable": self.unsteady, "refused": self.refused, "reasons": list(self.reasons),
            "worst": list(self.worst), "wrong_in": list(self.wrong),
        }  # fmt: skip


def compare(
    currents: Tensor, spikes: Tensor, params: LIFParams, v0: Tensor | None, label: str, single: Tensor | None = None
) -> Tally:
    """Hold spikes against the neuron's own on dense currents.

    Two references stand side by side: float64, which is the truth, and dense
    float32, which a user has. Each has its own potentials h, and in each a
    neuron is clear until |h - threshold| < 1e-5 for the first time.

    Args:
        currents: float64 `[T, N, ...]`.
        spikes: `[T, N, ...]` floats of the kernel.
        params: constants of the neuron.
        v0: potential before the first step, or None.
        label: name of the case.
        single: the same currents computed in float32; those of float64, rounded, if None.
    """
    want, clear = _dense_spikes(currents, params, v0)
    plain, plain_clear = _dense_spikes(currents.float() if single is None else single, params, v0)
    got = spikes.flatten(1) != 0
    other = got != want
    index, count = _alike(currents, v0)
    whole = torch.zeros(len(want), count, dtype=torch.int32, device=want.device).index_add_(1, index, other.int())
    steps, equal = want.numel(), want.numel() - int(other.sum())
    clear_wrong, float32_wrong = int((other & clear).sum()), int(((got != plain) & plain_clear).sum())
    share = equal / steps if steps else 1.0
    return Tally(
        steps=steps,
        equal=equal,
        clear=int(clear.sum()),
        clear_wrong=clear_wrong,
        float32_wrong=float32_wrong,
        float32_own=int(((plain != want) & clear).sum()),
        distinct=whole.numel(),
        distinct_equal=int((whole == 0).sum()),
        ran=1,
        worst=(share, label),
        wrong=(f"{label}: {clear_wrong}, {float32_wrong}",) if clear_wrong or float32_wrong else (),
    )


def _dense_spikes(currents: Tensor, params: LIFParams, v0: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return spikes and whether they are clear, both `[T, neurons]`."""
    v = torch.full_like(currents[0], params.v_rest) if v0 is None else v0.to(currents.dtype)
    clear = torch.ones_like(v, dtype=torch.bool)
    spikes, sure = [], []
    for x in currents:
        h = charge(v, x, params)
        clear = clear & ((h - params.v_threshold).abs() >= AMBIGUOUS)
        s = h >= params.v_threshold
        v = discharge(h, s.to(h), params)
        spikes.append(s.flatten())
        sure.append(clear.flatten())
    return torch.stack(spikes), torch.stack(sure)


def _alike(currents: Tensor, v0: Tensor | None) -> tuple[Tensor, int]:
    """Return for each neuron the number of its sequence of currents, and how many sequences there are.

    Currents are the same up to 2^-36: sums of the same inputs in another order are.
    """
    rows = currents.double().flatten(1)
    if v0 is not None:
        rows = torch.cat([rows, v0.double().flatten()[None]])
    whole = (rows * 2.0**36).round().to(torch.int64)
    odd = torch.randint(2**62, (len(rows), 1), generator=torch.Generator().manual_seed(0)) * 2 + 1
    found, index = torch.unique((whole * odd.to(rows.device)).sum(0), return_inverse=True)
    return index, len(found)


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
    currents, single = (
        _currents(xs, weights, moves, bias, identity, dtype) for dtype in (torch.float64, torch.float32)
    )
    shape = (case.steps, case.samples, *currents.shape[1:])
    spikes = unpack_counts(first, case.out_channels, 1).reshape(shape)
    tally = compare(currents.reshape(shape), spikes, case.params, v0, label, single.reshape(shape))
    tally.unsteady = int(not torch.equal(first, again))
    return tally


def _currents(
    xs: Sequence[Tensor],
    weights: Sequence[Tensor],
    moves: Any,
    bias: Tensor | None,
    identity: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """Return the currents of all sources; those after the first are read without a window."""
    with strict(), torch.no_grad():
        parts = [
            F.conv2d(x.to(dtype), k.detach().to(dtype), None, *(moves if i == 0 else ()))
            for i, (x, k) in enumerate(zip(xs, weights, strict=True))
        ]
    y = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
    y = y if bias is None else y + bias.detach().to(dtype).view(1, -1, 1, 1)
    return y if identity is None else y + identity.to(dtype)


def layer_room(layer: nn.Conv2d | nn.Linear, shape: Sequence[int]) -> int:
    """Return about how many bytes `layer_case` takes beside the weights.

    Args:
        layer: the layer.
        shape: of its input, time and images first.
    """
    fed = math.prod(shape)
    if isinstance(layer, nn.Conv2d):
        area = math.prod(shape[3:]) / math.prod(layer.stride)
        made = int(math.prod(shape[:2]) * layer.out_channels * area)
    else:
        made = math.prod(shape[:2]) * layer.out_features
    # One image is the smallest chunk.
    return FED_BYTES * (fed + made) + COMPARED_BYTES * min(made, max(CHUNK, made // max(1, shape[1])))


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

    The kernel gets all images at once; a kernel that takes no such batch gets the first 8. References are
    computed for a few images at a time.

    Args:
        layer: the layer.
        bn: its batch norm, or None.
        params: constants of the neuron behind it.
        x: its input, `[T, N, C, H, W]` or `[T, N, K]`, floats or uint8.
        kernel: kernel of `spike_layer`.
        precision: its precision.
        label: name of the case.
    """
    weight, bias = layer.weight, layer.bias
    if bn is not None:
        weight, bias = fold_bn(weight, bias, bn)
    weight = weight.detach() if isinstance(layer, nn.Conv2d) else weight.detach()[:, :, None, None]
    moves: Any = ((1, 1), (0, 0), (1, 1))
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1 or isinstance(layer.padding, str) or layer.padding_mode != "zeros":
            return Tally(refused=1, reasons=(f"{label}: groups or padding",))
        moves = (layer.stride, layer.padding, layer.dilation)
    # Maps of one pixel where the layer is linear.
    x = x.float() if isinstance(layer, nn.Conv2d) else x.float().flatten(2)[..., None, None]
    top = int(x.max())
    if not torch.equal(x, x.round()) or float(x.min()) < 0 or top > 15:
        return Tally(refused=1, reasons=(f"{label}: its input is neither spikes nor small counts",))
    planes = max(1, top.bit_length())

    def run(x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        packed = pack_layer([weight], bias, params, planes=(planes,), precision=precision, kernel=kernel)
        source = Source(pack_counts(flat, planes), flat.shape[1], planes, (weight.shape[2], weight.shape[3]), *moves)
        words: Tensor = spike_layer([source], packed, steps=len(x))[0]
        return words

    reasons = []
    for count in dict.fromkeys((x.shape[1], min(FEW, x.shape[1]))):
        given = x[:, :count]
        try:
            words = run(given)
        except (UnsupportedError, ConfigError) as e:
            reasons.append(f"{label}: {e}"[:160])
            continue
        return _compare_images(given, words, weight, bias, moves, params, label)
    return Tally(refused=1, reasons=tuple(reasons))


def _compare_images(
    x: Tensor, words: Tensor, weight: Tensor, bias: Tensor | None, moves: Any, params: LIFParams, label: str
) -> Tally:
    """Compare the spikes `words` of a layer, some images of `x` at a time; their tally is that of one case."""
    steps, samples = x.shape[:2]
    words = words.reshape(steps, samples, *words.shape[1:])
    total, few, start = Tally(), 1, 0
    while start < samples:
        part = x[:, start : start + few]
        currents, single = (
            _currents([part.flatten(0, 1)], [weight], moves, bias, None, dtype)
            for dtype in (torch.float64, torch.float32)
        )
        shape = (steps, part.shape[1], *currents.shape[1:])
        spikes = unpack_counts(words[:, start : start + few].flatten(0, 1), weight.shape[0], 1).reshape(shape)
        total.add(compare(currents.reshape(shape), spikes, params, None, label, single.reshape(shape)))
        start += part.shape[1]
        # The first image tells how many go at once.
        few = max(1, CHUNK * part.shape[1] // max(1, currents.numel()))
    wrong = (f"{label}: {total.clear_wrong}, {total.float32_wrong}",) if total.wrong else ()
    return replace(total, ran=1, worst=(total.agreement if total.steps else 1.0, label), wrong=wrong)
