"""Correctness on the GPU: random configurations, trained layers fed with dense spikes, and whole networks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow import data
from sparseflow.compress.sparsify.fold import fold_bn
from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops.conv2d_spike.check import AMBIGUOUS, Case, draw
from sparseflow.ops.lif import LIFParams
from sparseflow.ops.lif.reference import charge, discharge
from sparseflow.ops.spike_layer import Source, pack_counts, pack_layer, spike_layer, unpack_counts
from sparseflow.recipes.checks import Check
from sparseflow.recipes.spike_bench.gpu.dense import neuron_params
from sparseflow.recipes.spike_bench.gpu.nets import NetCase, WithReset, load_trained, optimized, synthetic
from sparseflow.recipes.spike_bench.gpu.record import StageResult
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig, strict
from sparseflow.recipes.spike_bench.network import spiking_layers

__all__ = ["BOUNDS", "SHIPPED", "Tally", "compare", "correct_stage", "layer_case", "random_case"]

SHIPPED = "spiking_vgg9_cifar10"
BOUNDS = {"fp16": 0.9998, "int8": 0.997}
LEAST_TOP1 = 0.995
BATCH = 100


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
        y = sum(F.conv2d(x, k, None, *(moves if g_ is not None else ())) for g_, x, k in geometry)
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
        y = F.conv2d(flat, weight, None if bias is None else bias.detach(), *moves)
    shape = (steps, samples, *y.shape[1:])
    spikes = unpack_counts(words, weight.shape[0], 1).reshape(shape)
    return compare(y.reshape(shape), spikes, params, None, label)


def correct_stage(
    config: GpuBenchConfig,
    budget: Budget,
    device: torch.device,
    *,
    cases: Sequence[NetCase] | None = None,
    precisions: Sequence[str] = ("fp16", "exact"),
    images: int | None = None,
    result: StageResult | None = None,
) -> StageResult:
    """Compare random layers, trained layers and whole networks with dense float32.

    Args:
        config: settings.
        budget: time of this stage; random configurations stop at 40 % of it.
        device: where to run.
        cases: networks; by default the shipped one, those of the settings, and a synthetic one of each claim.
        precisions: precisions to check.
        images: images a network; all that are shipped if None.
        result: where to note what is found as it is found; a new one if None.
    """
    result = StageResult() if result is None else result
    for kernel in config.kernels:
        for precision in precisions:
            part = budget.share(0.4, len(config.kernels) * len(precisions))
            _random(kernel, precision, config, part, device, result)
    for case in _cases(config, device, result) if cases is None else cases:
        for precision in precisions:
            try:
                _layers(case, precision, config, result)
            except Exception as e:
                result.errors[f"{case.name}, layers, {precision}"] = f"{type(e).__name__}: {e}"[:500]
        try:
            _whole(case, config, budget, device, result, images)
        except Exception as e:
            result.errors[f"{case.name}, whole"] = f"{type(e).__name__}: {e}"[:500]
            name = f"{case.name}: images whose top-1 class is that of dense float32"
            result.checks.append(_check(name, math.nan, "fraction", ">=", LEAST_TOP1))
    return result


def _check(name: str, value: float, unit: str, rule: str, bound: float) -> Check:
    return Check(show="4", name=name, value=value, unit=unit, rule=rule, bound=bound)


def _spike_check(what: str, precision: str, tally: Tally) -> Check:
    if precision == "exact":
        wrong = tally.clear_wrong if tally.clear else math.nan
        return _check(f"{what}, exact: spikes unlike dense where |h-threshold| >= 1e-5", wrong, "spikes", "==", 0)
    name = f"{what}, {precision}: spikes equal to dense float32"
    return _check(name, tally.agreement, "fraction", ">=", BOUNDS[precision])


def _random(
    kernel: str, precision: str, config: GpuBenchConfig, budget: Budget, device: torch.device, result: StageResult
) -> None:
    total = Tally()
    wanted = 20 if config.quick else config.configurations
    seed = config.seed
    # A kernel may reject some; go on until enough ran.
    while total.ran < wanted and seed < config.seed + 4 * wanted and budget.left() > 0:
        try:
            total.add(random_case(draw(seed), kernel, precision, device))
        except Exception as e:
            result.errors[f"random {seed}, {kernel}, {precision}"] = f"{type(e).__name__}: {e}"[:300]
            if len(result.errors) > 8:
                break
        seed += 1
    what = f"random layers, {kernel}"
    result.details[f"{what}, {precision}"] = total.to_dict()
    result.checks.append(_check(f"{what}, {precision}: configurations that ran", total.ran, "runs", ">=", wanted))
    if total.ran:
        result.checks.append(_spike_check(what, precision, total))
        name = f"{what}, {precision}: not bit-identical on repeat"
        result.checks.append(_check(name, total.unsteady, "runs", "==", 0))


def _cases(config: GpuBenchConfig, device: torch.device, result: StageResult) -> list[NetCase]:
    found = []
    for path in (SHIPPED, *config.checkpoints):
        try:
            found.append(load_trained(path, 8, device))
        except Exception as e:
            result.errors[str(path)] = f"{type(e).__name__}: {e}"[:300]
    for builder in () if config.quick else ("sew_resnet18", "spiking_resnet50"):
        try:
            found.append(synthetic(builder, 224, 4, device, seed=config.seed))
        except Exception as e:
            result.errors[builder] = f"{type(e).__name__}: {e}"[:300]
    return found


def _layers(case: NetCase, precision: str, config: GpuBenchConfig, result: StageResult) -> None:
    with strict():
        layers = spiking_layers(case.model, case.x[:8])
    for kernel in config.kernels:
        total, each = Tally(), {}
        for name, found in layers.items():
            if found.neuron is None:
                continue
            tally = layer_case(found.layer, found.bn, neuron_params(found.neuron), found.x, kernel, precision, name)
            total.add(tally)
            each[name] = tally.agreement
        what = f"{case.name}, {kernel}"
        result.details[f"{what}, {precision}"] = {**total.to_dict(), "layers": each}
        result.checks.append(_spike_check(f"{what}, layers fed with dense spikes", precision, total))


def _whole(
    case: NetCase, config: GpuBenchConfig, budget: Budget, device: torch.device, result: StageResult, images: int | None
) -> None:
    side = case.x.shape[-1]
    batch = min(BATCH if side <= 64 else 16, images or BATCH)
    subset = data.cifar10_subset()
    if images is not None or side > 64 or config.quick:
        subset = subset.take(images or (200 if side > 64 else 500))
    optimised: nn.Module | None = None
    dense = WithReset(case.model)
    same = right = right_dense = unsteady = seen = 0
    for pixels, labels in subset.batches(batch):
        x = pixels.to(device)
        if len(x) != batch or (seen and budget.left() <= 0):
            break
        if side != x.shape[-1]:
            x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
        if optimised is None:
            optimised = WithReset(optimized(case.model, x, config.precision)[0])
        with torch.no_grad():
            with strict():
                expected = dense(x).argmax(-1)
            first = optimised(x).clone()
            unsteady += int(not torch.equal(first, optimised(x)))
        labels = labels.to(device)
        same += int((first.argmax(-1) == expected).sum())
        right += int((first.argmax(-1) == labels).sum())
        right_dense += int((expected == labels).sum())
        seen += len(x)
    figures = {"images": seen, "accuracy": right / max(seen, 1), "accuracy_dense": right_dense / max(seen, 1)}
    result.details[f"{case.name}, whole"] = {**figures, **case.record}
    name = f"{case.name}: images of {seen} whose top-1 class is that of dense float32"
    result.checks.append(_check(name, same / seen if seen else math.nan, "fraction", ">=", LEAST_TOP1))
    result.checks.append(_check(f"{case.name}: batches not bit-identical on repeat", unsteady, "runs", "==", 0))
