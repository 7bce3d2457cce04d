"""Phases B, C and D of a co-design: chips, mapping and placement in turn, each taken only where all is cheaper."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from sparseflow.errors import BudgetError, ConfigError, UnsupportedError
from sparseflow.hardware.chiplet.slots import temperature
from sparseflow.hardware.layout.descend import DescendConfig
from sparseflow.hardware.loss import HwFigures, HwWeights, compute_hw_loss
from sparseflow.hardware.mapping import MappingSolver, Segment
from sparseflow.hardware.mapping.fine_split import split_where_it_pays
from sparseflow.hardware.system import Design, System, Tables, Verdict

__all__ = ["Alternation", "Proposal", "split_tables", "start_design"]

_ROUNDING = 1e-12
# A phase of many takes a short search; it goes on from there in the next epoch.
_RESTARTS, _POLISH = 4, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a phase came to.

    Args:
        accepted: whether the design changed.
        objective: of the best design that it proposed; None where it had none.
        judged: designs that were judged.
    """

    accepted: bool
    objective: float | None
    judged: int = 0


def start_design(system: System, fixed: Sequence[str], segments: int) -> Design:
    """Return named chips in the first slots, segments in turn over them, dies on the grid.

    Raises:
        ConfigError: a name that is no type of the system, or more names than slots.
    """
    names = [t.name for t in system.types]
    if unknown := [name for name in fixed if name not in names]:
        raise ConfigError(f"no type of chip is called {', '.join(unknown)}; there are {', '.join(names)}")
    count = system.slots.logits.shape[0]
    if len(fixed) > count:
        raise ConfigError(f"{len(fixed)} chips for {count} slots; give fewer chips or more slots")
    choice = tuple(names.index(name) for name in fixed) + (len(names),) * (count - len(fixed))
    grid = system.layout.grid(*system.sizes(choice))
    return Design(choice=choice, mapping=tuple(k % len(fixed) for k in range(segments)), pos_mm=_places(grid))


class Alternation:
    """A design that only becomes cheaper.

    Args:
        system: slots, wafer and costs.
        weights: of L_hw.
        reference: figures that ratios are taken of.
        design: to start from.
        strategy: of the mapping solver; "round_robin" never maps anew.
        alpha_lr: rate of the logits of slots.
        seed: of noise and solvers; noise is drawn once, so that steps compare.

    Attributes:
        design: in force.
        verdict: what it costs.
        objective: its L_hw.
        seen: figures of every design that was judged, by name, in order.
        rewire_meta: of each segment that was split, see `try_fine_split_segment`.
    """

    def __init__(
        self,
        system: System,
        weights: HwWeights,
        reference: HwFigures,
        design: Design,
        tables: Tables,
        *,
        strategy: str = "search",
        alpha_lr: float = 0.3,
        seed: int = 0,
    ) -> None:
        self.system, self.weights, self.reference, self.seed = system, weights, reference, seed
        self.solver = None if strategy == "round_robin" else MappingSolver(strategy)
        self.design = design
        self.seen: list[dict[str, float]] = []
        self.rewire_meta: list[dict[str, Any]] = []
        self.system.slots.set_choice(design.choice)
        self.noise = system.slots.noise(torch.Generator().manual_seed(seed))
        self.optimizer = torch.optim.Adam([system.slots.logits], lr=alpha_lr)
        self.refresh(tables)

    def refresh(self, tables: Tables) -> None:
        """Judge the design in force by other layers, as phase A leaves them."""
        self.tables = tables.detach()
        self.objective, self.verdict = self._judge(self.design)

    def _judge(self, design: Design) -> tuple[float, Verdict]:
        """Return L_hw and figures of a design."""
        verdict = self.system.judge(self.tables, design)
        value = float(compute_hw_loss(verdict.figures, self.weights, self.reference)["total"])
        self.seen.append({"objective": value, **verdict.figures.to_dict()})
        return value, verdict

    def chips(self, epoch: int, *, steps: int, budget: int) -> Proposal:
        """Phase B: learn α by gradient with mapping and places held, then judge what it chose and designs near by.

        Judged are the choice of α and all designs that differ from the one in force in one slot, those first whose
        slot and type the gradient favours, each mapped anew; the best is taken if it is cheaper, and the search goes on
        from it while `budget` lasts. Slots that hold the same type and nothing else are one candidate.

        Args:
            epoch: sets the temperature.
            steps: of the gradient.
            budget: designs to judge at most.
        """
        slots = self.system.slots
        slots.train()
        tau = temperature(epoch)
        gradient = torch.zeros_like(slots.logits)
        for _ in range(steps):
            self.optimizer.zero_grad()
            figures = self.system.relaxed(self.tables, slots.alpha(noise=self.noise, tau=tau), self.design)
            total = compute_hw_loss(figures, self.weights, self.reference)["total"]
            total.backward()  # type: ignore[union-attr]
            assert slots.logits.grad is not None
            gradient = slots.logits.grad.clone()
            self.optimizer.step()
        slots.eval()
        best, judged, taken = math.inf, 0, False
        learned = slots.choice()
        while judged < budget:
            found: list[tuple[float, Verdict, Design]] = []
            nearby = self._nearby(gradient)
            for choice in ([learned] if judged == 0 and learned != self.design.choice else []) + nearby:
                if judged >= budget:
                    break
                judged += 1
                design = self._mapped(choice)
                if design is not None:
                    found.append((*self._judge(design), design))
            if not found:
                break
            value, verdict, design = min(found, key=lambda row: row[0])
            best = min(best, value)
            if not self._take(design, value, verdict):
                break
            taken = True
        slots.set_choice(self.design.choice)
        return Proposal(accepted=taken, objective=best if math.isfinite(best) else None, judged=judged)

    def mapping(self) -> Proposal:
        """Phase C: map segments to slots anew, chips and places held."""
        design = self._mapped(self.design.choice, keep_places=True)
        return self._propose(design)

    def split(self) -> Proposal:
        """Divide segments of the fullest slot over several where L_hw falls; the last of all, as segments change by it.

        What each split divides and where it goes is in `rewire_meta`.
        """
        problem = self.system.problem(self.tables, self.design.choice, self.design.pos_mm, **self._slopes())
        found = MappingSolver("search").solve(problem, seed=self.seed, start=np.array(self.design.mapping))
        fine, segments, found, metas = split_where_it_pays(problem, found, self.tables.segments)
        if not metas:
            return Proposal(accepted=False, objective=None)
        before = self.tables
        self.tables = split_tables(before, segments, metas, fine.traffic_bytes)
        done = self._propose(replace(self.design, mapping=tuple(int(m) for m in found.mapping)))
        if done.accepted:
            self.rewire_meta = metas
        else:
            self.tables = before
        return done

    def placement(self, *, steps: int) -> Proposal:
        """Phase D: move dies, chips and mapping held."""
        system = self.system
        if not system.layout.optimize_layout:
            return Proposal(accepted=False, objective=None)
        traffic, watts = system.demand(self.tables, self.design)
        widths, heights = system.sizes(self.design.choice)
        with torch.no_grad():
            system.layout.pos_mm.copy_(torch.tensor(self.design.pos_mm))
        config = DescendConfig(steps=steps, restarts=_RESTARTS, polish_steps=_POLISH * steps, seed=self.seed)
        found = system.layout.optimize(widths, heights, traffic, watts, config=config)
        return self._propose(replace(self.design, pos_mm=_places(torch.from_numpy(found.pos_mm))))

    def _propose(self, design: Design | None) -> Proposal:
        if design is None:
            return Proposal(accepted=False, objective=None)
        value, verdict = self._judge(design)
        return Proposal(accepted=self._take(design, value, verdict), objective=value, judged=1)

    def _take(self, design: Design, value: float, verdict: Verdict) -> bool:
        """Put a design in force if it is cheaper by more than rounding."""
        if not value < self.objective - _ROUNDING * max(1.0, abs(self.objective)):
            return False
        self.design, self.objective, self.verdict = design, value, verdict
        return True

    def _nearby(self, gradient: torch.Tensor) -> list[tuple[int, ...]]:
        """Return choices that differ in one slot, those first that the gradient favours."""
        choice, empty = self.design.choice, len(self.system.types)
        seen: set[tuple[Any, ...]] = set()
        ranked: list[tuple[float, tuple[int, ...]]] = []
        for s, now in enumerate(choice):
            held = tuple(sorted(k for k, slot in enumerate(self.design.mapping) if slot == s))
            for t in range(empty + 1):
                # Idle slots of one type are alike, wherever they lie.
                if t == now or (now, held, t) in seen:
                    continue
                seen.add((now, held, t))
                candidate = (*choice[:s], t, *choice[s + 1 :])
                if any(c < empty for c in candidate):
                    ranked.append((float(gradient[s, t] - gradient[s, now]), candidate))
        return [candidate for _, candidate in sorted(ranked, key=lambda pair: pair[0])]

    def _mapped(self, choice: tuple[int, ...], *, keep_places: bool = False) -> Design | None:
        """Return the design of chosen chips, legally placed and mapped; None where there is none."""
        system = self.system
        try:
            pos = self.design.pos_mm if keep_places else self._placed(choice)
            problem = system.problem(self.tables, choice, pos, **self._slopes())
            if self.solver is None:
                used = [s for s, c in enumerate(choice) if c < len(system.types)]
                mapping: Sequence[int] = [used[k % len(used)] for k in range(problem.segments)]
            else:
                mapping = self.solver.solve_mapping(problem, seed=self.seed)["mapping"]
            design = Design(choice=choice, mapping=tuple(int(m) for m in mapping), pos_mm=pos)
            system.judge(self.tables, design)
        except (BudgetError, UnsupportedError):
            return None
        return design

    def _placed(self, choice: tuple[int, ...]) -> tuple[tuple[float, float], ...]:
        system = self.system
        widths, heights = system.sizes(choice)
        if not system.layout.optimize_layout:
            return _places(system.layout.grid(widths, heights))
        with torch.no_grad():
            system.layout.pos_mm.copy_(torch.tensor(self.design.pos_mm))
        system.layout.legalise(widths, heights)
        return _places(system.layout.pos_mm)

    def _slopes(self) -> dict[str, float]:
        """Return the weights that make the solver's objective the tangent of L_hw at the design in force."""
        f, w = self.verdict.figures, self.weights
        figures: dict[str, Any] = {
            name: torch.tensor(float(getattr(f, name)), dtype=torch.float64, requires_grad=True)
            for name in ("latency_ms", "energy_mj", "comm_ms")
        }
        compute_hw_loss(replace(f, **figures), w, self.reference)["total"].backward()  # type: ignore[union-attr]
        slope = {name: 0.0 if x.grad is None else float(x.grad) for name, x in figures.items()}
        waits = self.system.idle_share * sum(
            self.system.types[c].tdp_w for c in self.design.choice if c < len(self.system.types)
        )
        per_ms = slope["latency_ms"] + slope["energy_mj"] * waits
        if not per_ms > 0:
            return {}
        return {"energy_weight": slope["energy_mj"] / per_ms, "comm_weight": slope["comm_ms"] / per_ms}


def split_tables(
    tables: Tables, segments: Sequence[Segment], metas: Sequence[Mapping[str, Any]], traffic_bytes: ArrayLike
) -> Tables:
    """Return tables in which each split segment has a row for each group, of its share of heads.

    Args:
        tables: before the splits.
        segments: behind them.
        metas: of the splits in turn; positions are those before each.
        traffic_bytes: `[K' - 1]` behind them.
    """
    rows = {name: list(getattr(tables, name)) for name in ("lat_ms", "energy_mj", "weight_mb", "activation_mb")}
    for meta in metas:
        k, counts = meta["segment_id"], meta["counts"]
        for name, values in rows.items():
            # Each group holds the whole input and output, so its activations are no smaller.
            whole = name == "activation_mb"
            values[k : k + 1] = [values[k] * (1.0 if whole else n / sum(counts)) for n in counts]
    return Tables(
        segments=tuple(segments),
        traffic_bytes=torch.tensor(np.asarray(traffic_bytes)),
        **{name: torch.stack(values) for name, values in rows.items()},
    )


def _places(pos: torch.Tensor) -> tuple[tuple[float, float], ...]:
    values = np.asarray(pos.detach(), dtype=np.float64)
    return tuple((float(x), float(y)) for x, y in values)
