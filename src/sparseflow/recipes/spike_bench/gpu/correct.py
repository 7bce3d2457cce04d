"""Correctness on the GPU: random configurations, trained layers fed with dense spikes, and whole networks."""

import gc
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from sparseflow import data
from sparseflow.recipes.checks import Check
from sparseflow.recipes.spike_bench.gpu.layer_cases import Tally
from sparseflow.recipes.spike_bench.gpu.nets import (
    CLAIMS,
    NetCase,
    WithReset,
    load_trained,
    optimized,
    synthetic,
)
from sparseflow.recipes.spike_bench.gpu.random_layers import STRUCTURES, Deck, run_task
from sparseflow.recipes.spike_bench.gpu.record import StageResult
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig, strict
from sparseflow.recipes.spike_bench.gpu.tasks import share_out
from sparseflow.recipes.spike_bench.gpu.trained_layers import (
    BATCH,
    IMAGES,
    SMALL,
    LayerDeck,
    fed_layers,
    run_layers,
    save_layers,
)

__all__ = ["BOUNDS", "SHIPPED", "combinations", "correct_stage"]

SHIPPED = "spiking_vgg9_cifar10"
BOUNDS = {"fp16": 0.9998, "int8": 0.997}
# Kernels that have int8 at all; the others multiply in half precision only.
INT8 = ("cuda",)
LEAST_TOP1 = 0.995
LEAST_IMAGES = 512
LARGE_BATCH = 32
# Of the device's free memory, what processes side by side may have.
SHARE = 0.8


def combinations(config: GpuBenchConfig, precisions: Sequence[str]) -> list[tuple[str, str]]:
    """Return every kernel with every precision that it has.

    >>> combinations(GpuBenchConfig(kernels=("cuda", "event")), ("fp16", "int8"))
    [('cuda', 'fp16'), ('cuda', 'int8'), ('event', 'fp16')]
    """
    return [(k, p) for k in config.kernels for p in precisions if p != "int8" or k in INT8]


def correct_stage(
    config: GpuBenchConfig,
    budget: Budget,
    device: torch.device,
    *,
    cases: Sequence[NetCase] | None = None,
    precisions: Sequence[str] = ("fp16", "exact", "int8"),
    images: int | None = None,
    result: StageResult | None = None,
) -> StageResult:
    """Compare random layers, trained layers and whole networks with dense float32.

    Args:
        config: settings.
        budget: time of this stage; random configurations stop at half of it.
        device: where to run.
        cases: networks; by default the shipped one, those of the settings, and a synthetic one of each claim.
        precisions: precisions to check.
        images: images a network; 512 large or 2000 small ones if None.
        result: where to note what is found as it is found; a new one if None.
    """
    result = StageResult() if result is None else result
    pairs = combinations(config, precisions)
    _random(pairs, config, budget.share(0.5, 1), device, result)
    found = _cases(config, device, result) if cases is None else list(cases)

    def whole(case: NetCase, precision: str) -> None:
        try:
            _whole(case, precision, config, budget, device, result, images)
        except Exception as e:
            result.errors[f"{case.name}, whole, {precision}"] = f"{type(e).__name__}: {e}"[:500]
            if precision == config.precision:
                name = f"{case.name}: images whose top-1 class is that of dense float32"
                result.checks.append(_check(name, math.nan, "fraction", ">=", LEAST_TOP1))

    # What is held to a bound first; the other precisions of whole networks are beside it.
    _layers(found, pairs, config, budget.share(0.5, 1), device, result)
    for case in found:
        whole(case, config.precision)
    for case in found:
        for precision in precisions:
            if precision != config.precision and budget.left() > 0:
                whole(case, precision)
    return result


def _check(name: str, value: float, unit: str, rule: str, bound: float) -> Check:
    return Check(show="4", name=name, value=value, unit=unit, rule=rule, bound=bound)


def _spike_checks(what: str, precision: str, tally: Tally, once: bool = False) -> list[Check]:
    """Return the checks of a tally; with `once`, neurons of a case that get the same currents count as one.

    A random layer without padding whose inputs all fire has one current a channel: a single rounding at the
    threshold is then a spike of every pixel, and would outweigh all other cases.
    """
    if precision == "exact":
        return [
            _check(
                f"{what}, exact: spikes unlike dense {reference} where |h-threshold| >= 1e-5",
                wrong if tally.clear else math.nan,
                "spikes",
                "==",
                0,
            )
            for reference, wrong in (("float32", tally.float32_wrong), ("float64", tally.clear_wrong))
        ]
    name = f"{what}, {precision}: spikes equal to dense float32" + (", each current once" if once else "")
    share = tally.distinct_agreement if once else tally.agreement
    return [_check(name, share, "fraction", ">=", BOUNDS[precision])]


def _random(
    pairs: Sequence[tuple[str, str]],
    config: GpuBenchConfig,
    budget: Budget,
    device: torch.device,
    result: StageResult,
) -> None:
    wanted = min(20, config.configurations) if config.quick else config.configurations
    deck = Deck(pairs, wanted, structures=min(STRUCTURES, -(-wanted // 5) * 5), first=config.seed)
    share_out(deck, run_task, budget, device, *_crew(config, device))
    for i, (where, reason) in enumerate(deck.errors.items()):
        if i < 12:
            result.errors[where] = reason
    for kernel, precision in pairs:
        total, what = deck.totals[kernel, precision], f"random layers, {kernel}"
        result.details[f"{what}, {precision}"] = {**total.to_dict(), "structures": deck.structures}
        result.checks.append(_check(f"{what}, {precision}: configurations that ran", total.ran, "runs", ">=", wanted))
        if total.ran:
            result.checks += _spike_checks(what, precision, total, once=True)
            name = f"{what}, {precision}: not bit-identical on repeat"
            result.checks.append(_check(name, total.unsteady, "runs", "==", 0))
    broken = len(deck.errors)
    result.checks.append(_check("random layers that broke", broken, "runs", "==", 0))


def _crew(config: GpuBenchConfig, device: torch.device, need: int = 0) -> tuple[int, tuple[str, ...]]:
    """Return which processes run layers: on a GPU each compiles a share of them, else one is as fast.

    Args:
        config: settings.
        device: where they run.
        need: bytes of the device that each takes; no more run than there is room for.
    """
    if device.type != "cuda":
        return 0, ()
    count, prefix = config.crew()
    return room(torch.cuda.mem_get_info(device)[0], need, count), prefix


def room(free: int, need: int, wanted: int) -> int:
    """Return how many of the wanted processes, at least one, a device with so many bytes free has room for.

    >>> room(free=40 * 2**30, need=4 * 2**30, wanted=24)
    8
    """
    return max(1, min(wanted, int(SHARE * free) // max(1, need)))


def _cases(config: GpuBenchConfig, device: torch.device, result: StageResult) -> list[NetCase]:
    found = []
    for path in (SHIPPED, *config.checkpoints):
        try:
            found.append(load_trained(path, BATCH if device.type == "cuda" else IMAGES, device))
        except Exception as e:
            result.errors[str(path)] = f"{type(e).__name__}: {e}"[:300]
    there = {case.builder for case in found}
    for builder in () if config.quick else [c.builder for c in CLAIMS if c.builder not in there]:
        try:
            found.append(synthetic(builder, 224, 4, device, seed=config.seed))
        except Exception as e:
            result.errors[builder] = f"{type(e).__name__}: {e}"[:300]
    return found


def _layers(
    cases: Sequence[NetCase],
    pairs: Sequence[tuple[str, str]],
    config: GpuBenchConfig,
    budget: Budget,
    device: torch.device,
    result: StageResult,
) -> None:
    names: dict[str, list[str]] = {}
    files: dict[str, list[str]] = {}
    need = 0
    with tempfile.TemporaryDirectory() as folder:
        for i, case in enumerate(cases):
            key = case.path or case.name
            try:
                layers = fed_layers(case.model, case.x)
                names[key], files[key] = list(layers), save_layers(layers, Path(folder) / str(i))
                need = max([need, *(layer.room for layer in layers.values())])
            except Exception as e:
                names.pop(key, None)
                result.errors[f"{case.name}, layers"] = f"{type(e).__name__}: {e}"[:500]
            layers = {}
            _release(device)
        deck = LayerDeck(names, pairs, files)
        count, prefix = _crew(config, device, need)
        result.details["layer_processes"] = {"processes": count, "bytes_each": need}
        share_out(deck, run_layers, budget, device, count, prefix)
    for i, (where, reason) in enumerate(deck.errors.items()):
        if i < 12:
            result.errors[where] = reason
    for case in cases:
        path = case.path or case.name
        for kernel, precision in pairs:
            total, what = Tally(), f"{case.name}, {kernel}"
            each = deck.tallies.get((path, kernel, precision), {})
            for tally in each.values():
                total.add(tally)
            agreements = {name: tally.agreement for name, tally in each.items()}
            result.details[f"{what}, {precision}"] = {**total.to_dict(), "layers": agreements}
            result.checks += _spike_checks(f"{what}, layers fed with dense spikes", precision, total)
            late = len(names.get(path, ())) - len(each)
            name = f"{what}, {precision}: layers that did not come to it"
            result.checks.append(_check(name, late, "layers", "==", 0))


def _release(device: torch.device) -> None:
    """Give memory of the device that nothing holds back to other processes."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _whole(
    case: NetCase,
    precision: str,
    config: GpuBenchConfig,
    budget: Budget,
    device: torch.device,
    result: StageResult,
    images: int | None,
) -> None:
    """Compare whole networks image by image; only the precision of the settings is held to the bound."""
    side = case.x.shape[-1]
    # As many as the network stage runs at once: the kernels are built for it already.
    batch = min(BATCH if side <= SMALL else LARGE_BATCH, images or BATCH)
    subset = data.cifar10_subset()
    if images is not None or side > SMALL or config.quick:
        subset = subset.take(images or LEAST_IMAGES)
    optimised: nn.Module | None = None
    form: dict[str, Any] = {}
    dense = WithReset(case.model)
    same = right = right_dense = unsteady = seen = 0
    for pixels, labels in subset.batches(batch):
        x = pixels.to(device)
        if len(x) != batch or (seen and budget.left() <= 0):
            break
        if side != x.shape[-1]:
            x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
        if optimised is None:
            fast, report = optimized(case.model, x, precision)
            optimised = WithReset(fast)
            # A dense form in half precision may have been faster: then it is that one which is compared.
            form = {
                "kernels": {layer.name: layer.kernel for layer in report.layers},
                "parity": report.parity,
                "forms_refused": [f"{r.what}: {r.reason}"[:200] for r in report.refusals if not r.layer],
            }
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
    share = same / seen if seen else math.nan
    result.details[f"{case.name}, whole, {precision}"] = {
        "images": seen,
        "same_top1": share,
        "batches_not_repeatable": unsteady,
        "accuracy": right / max(seen, 1),
        "accuracy_dense": right_dense / max(seen, 1),
        **form,
        **case.record,
    }
    if precision != config.precision:
        return
    name = f"{case.name}: images whose top-1 class is that of dense float32"
    result.checks.append(_check(name, share, "fraction", ">=", LEAST_TOP1))
    least = min(images or LEAST_IMAGES, LEAST_IMAGES)
    result.checks.append(_check(f"{case.name}: images compared", seen, "images", ">=", least))
    result.checks.append(_check(f"{case.name}: batches not bit-identical on repeat", unsteady, "runs", "==", 0))
