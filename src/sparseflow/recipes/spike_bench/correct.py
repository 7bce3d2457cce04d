"""Correctness figures: random configurations, and the shipped network on all shipped images."""

from typing import Any

import torch
from tqdm import tqdm

from sparseflow import data
from sparseflow.compress import optimize_spiking
from sparseflow.hardware import load_target
from sparseflow.nn import models
from sparseflow.nn.functional import reset_net
from sparseflow.ops.conv2d_spike.check import RELATIVE, check, draw
from sparseflow.recipes.checks import Check

__all__ = ["KERNELS", "correctness_checks"]

KERNELS = ("event", "amx")
BATCH = 50


def correctness_checks(
    checkpoint: str, configurations: int, seed: int, *, progress: bool = True
) -> tuple[list[Check], dict[str, Any]]:
    """Compare every kernel with dense float32, and the optimised network with the dense one.

    Args:
        checkpoint: shipped name or path of the trained network.
        configurations: random configurations a kernel.
        seed: the first configuration.
        progress: show progress bars.

    Returns:
        The checks, and the figures behind them by kernel and for the network.
    """
    checks: list[Check] = []
    details: dict[str, Any] = {}
    for kernel in KERNELS:
        more, figures = _configurations(kernel, configurations, seed, progress)
        checks += more
        details[kernel] = figures
    more, details["network"] = _network(checkpoint, progress)
    return checks + more, details


def _configurations(kernel: str, count: int, seed: int, progress: bool) -> tuple[list[Check], dict[str, Any]]:
    seeds = tqdm(range(seed, seed + count), desc=f"{kernel} configurations", disable=None if progress else True)
    outcomes = [check(draw(s), kernel) for s in seeds]
    ran = [o for o in outcomes if o.refusal is None]
    figures: dict[str, Any] = {
        "configurations": len(ran),
        "refused": len(outcomes) - len(ran),
        "reasons": sorted({o.refusal for o in outcomes if o.refusal})[:5],
        "neuron_steps": sum(o.spikes for o in ran),
        "ambiguous": sum(o.ambiguous for o in ran),
    }
    checks = []
    if ran:
        values = (
            ("spikes unlike dense outside |h-threshold| < 1e-5", sum(o.wrong for o in ran), "spikes", "==", 0.0),
            ("largest relative error of a float output", max(o.error for o in ran), "relative", "<=", RELATIVE),
            ("configurations not bit-identical on repeat", sum(not o.repeatable for o in ran), "runs", "==", 0.0),
        )
        prefix = f"{kernel}, {len(ran)} configurations: "
        checks = [
            Check(show="3", name=prefix + what, value=value, unit=unit, rule=rule, bound=bound)
            for what, value, unit, rule, bound in values
        ]
    if kernel == "event":
        name = "random configurations that the event kernel ran"
        checks.append(Check(show="3", name=name, value=len(ran), unit="runs", rule=">=", bound=count))
    return checks, figures


def _network(checkpoint: str, progress: bool) -> tuple[list[Check], dict[str, Any]]:
    model, record = models.load_checkpoint(checkpoint)
    model.eval()
    images = data.cifar10_subset()
    first = images.normalize(images.images[:BATCH])
    optimized, report = optimize_spiking(model, first, target=load_target("cpu"))
    changed = right = wrong_repeat = 0
    batches = list(images.batches(BATCH))
    for x, y in tqdm(batches, desc="shipped network", disable=None if progress else True):
        with torch.no_grad():
            reset_net(model)
            dense = model(x)
            reset_net(optimized)
            ours = optimized(x)
            reset_net(optimized)
            again = optimized(x)
        changed += int((dense.argmax(-1) != ours.argmax(-1)).sum())
        right += int((ours.argmax(-1) == y).sum())
        wrong_repeat += int(not torch.equal(ours, again))
    reset_net(model)
    replaced = sum(layer.kernel != "dense" for layer in report.layers)
    figures = {
        "images": len(images),
        "accuracy": right / len(images),
        "replaced": replaced,
        "test_accuracy": record.get("test_accuracy"),
        "density": record.get("density"),
    }
    densities, nothing = record.get("density", {}).values(), float("nan")
    accuracy = float(record.get("test_accuracy", nothing))
    checks = [
        Check(show=show, name=name, value=value, unit=unit, rule=rule, bound=bound)
        for show, name, value, unit, rule, bound in (
            ("3", "shipped images whose top-1 class changed", changed, "images", "==", 0),
            ("3", "batches not bit-identical on repeat", wrong_repeat, "runs", "==", 0),
            ("3", "layers replaced", replaced, "layers", ">=", 1),
            ("build", "accuracy of the shipped network, all test images", accuracy, "fraction", ">=", 0.90),
            ("build", "lowest layer density", min(densities, default=nothing), "fraction", ">=", 0.02),
            ("build", "highest layer density", max(densities, default=nothing), "fraction", "<=", 0.40),
        )
    ]
    return checks, figures
