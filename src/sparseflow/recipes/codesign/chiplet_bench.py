"""The choice of chiplets held against finite differences and against every choice there is."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sparseflow.hardware.chiplet import ChipletSlots
from sparseflow.hardware.chiplet.slots import temperature
from sparseflow.hardware.loss import HwFigures, HwWeights, compute_hw_loss
from sparseflow.hardware.system import Design, System, Tables, Verdict
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.codesign.alternate import Alternation, start_design
from sparseflow.recipes.codesign.chiplet_instances import best_of_all, random_layers, random_weights, small_system

__all__ = ["bench"]

_SHOW = "3"
_SEEDS, _QUICK_SEEDS = 20, 3
_PROBES = 10
_EPOCHS, _STEPS, _BUDGET = 6, 20, 8
_NEAR = 1.02
_STEP = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One network: cost found over the best, choices tried, segments on empty slots among them, error of slopes."""

    ratio: float
    tried: int
    on_empty: int
    slope_error: float


def bench(*, quick: bool = False, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Choose chips for random networks, and return the checks with what every run came to.

    Slopes of L_hw by the logits, noise held, are compared with central
    differences, the largest error over the largest slope; then four slots
    choose among a big core, a small core and nothing from a random start,
    and exp(L_hw) is compared with the least of all 80 choices that hold a
    chip, each with its best mapping of all. The search maps exactly as well,
    so that only the choice is tried.

    Args:
        quick: three networks.
        say: told how far it is.
    """
    runs = []
    for seed in range(_QUICK_SEEDS if quick else _SEEDS):
        runs.append(_run(seed))
        say(f"chiplets {seed}: {runs[-1].ratio:.4f} of the best, {runs[-1].tried} choices tried")
    checks: list[tuple[str, Any, str, str, float]] = [
        ("slope of L_hw by logits against finite differences, worst", max(r.slope_error for r in runs), "share", "<=",
         1e-3),
        ("seeds within 2 % of the best of 81 choices", np.mean([r.ratio <= _NEAR for r in runs]), "share", ">=", 0.9),
        ("segments on an empty slot, of all designs judged", sum(r.on_empty for r in runs), "segments", "==", 0.0),
    ]  # fmt: skip
    return checks_body(
        [Check(show=_SHOW, name=n, value=float(v), unit=u, rule=r, bound=b) for n, v, u, r, b in checks],
        runs=[{"over_best": r.ratio, "tried": r.tried, "slope_error": r.slope_error} for r in runs],
    )


class _Watched(System):
    """A system that remembers what it judged."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.tried: set[tuple[int, ...]] = set()
        self.on_empty = 0

    def judge(self, tables: Tables, design: Design) -> Verdict:
        """Judge, and look where segments lie."""
        verdict = super().judge(tables, design)
        self.tried.add(design.choice)
        self.on_empty += sum(design.choice[slot] == len(self.types) for slot in design.mapping)
        return verdict


def _run(seed: int) -> _Run:
    system = small_system(_Watched)
    layers, weights = random_layers(seed), random_weights(seed)
    tables = system.tables(layers)
    one_big = start_design(system, ["big_core"], len(tables.segments))
    reference = system.judge(tables, one_big).figures
    design = _random_start(system, len(tables.segments), seed)
    slope_error = max(_slope_error(system, tables, design, weights, reference, probe) for probe in range(_PROBES))
    search = Alternation(system, weights, reference, design, tables, strategy="brute", seed=seed)
    for epoch in range(_EPOCHS):
        search.chips(epoch, steps=_STEPS, budget=_BUDGET)
        search.mapping()
    best = best_of_all(system, tables, weights, reference)
    return _Run(
        ratio=math.exp(search.objective - best),
        tried=len(system.tried),
        on_empty=system.on_empty,
        slope_error=slope_error,
    )


def _random_start(system: System, segments: int, seed: int) -> Design:
    slots, empty = len(system.slots.logits), len(system.types)
    r = np.random.default_rng(seed)
    choice = tuple(r.integers(0, empty + 1, slots).tolist())
    if all(c == empty for c in choice):
        choice = (0, *choice[1:])
    used = [s for s, c in enumerate(choice) if c < empty]
    pos = system.layout.grid(*system.sizes(choice)).tolist()
    return Design(
        choice=choice,
        mapping=tuple(used[k % len(used)] for k in range(segments)),
        pos_mm=tuple((x, y) for x, y in pos),
    )


def _slope_error(
    system: System, tables: Tables, design: Design, weights: HwWeights, reference: HwFigures, probe: int
) -> float:
    generator = torch.Generator().manual_seed(probe)
    slots = ChipletSlots(system.types, slots=len(design.choice))
    noise = slots.noise(generator)
    logits = torch.randn(slots.logits.shape, generator=generator, dtype=torch.float64)

    def loss(values: torch.Tensor) -> torch.Tensor:
        alpha = torch.softmax((values + noise) / temperature(probe), -1)
        return torch.as_tensor(
            compute_hw_loss(system.relaxed(tables, alpha, design), weights, reference)["total"], dtype=torch.float64
        )

    leaf = logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf), leaf)
    steps = _STEP * torch.eye(logits.numel(), dtype=torch.float64).reshape(-1, *logits.shape)
    with torch.no_grad():
        finite = torch.stack([loss(logits + step) - loss(logits - step) for step in steps]) / (2 * _STEP)
    return float((finite - slope.flatten()).abs().max() / slope.abs().max())
