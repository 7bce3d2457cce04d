"""Mappings held against proofs, exact solvers against every mapping, and splits against not splitting."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from sparseflow.errors import BudgetError
from sparseflow.hardware.mapping import MappingProblem, MappingSolver, evaluate, try_fine_split_segment
from sparseflow.hardware.mapping.brute import solve_brute
from sparseflow.hardware.mapping.rewire import group_units, permute_heads_, permute_hidden_, split_attention, split_mlp
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.nn.models.video_vit.blocks import Block
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.codesign.mapping_instances import planted_split, random_problem, small_problem
from sparseflow.recipes.codesign.mapping_references import load_references

__all__ = ["bench"]

_SHOW = "2"
_COUNTS = {"search": 200, "exact": 100, "split": 300, "planted": 100}
# A bound is of times rounded to 1e-7; what a mapping may lie below it by rounding.
_ROUNDING = 1e-5


def bench(*, quick: bool = False, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Map random problems, and return the checks with what each came to.

    "search" on 200 problems against what CP-SAT proved of them (`mapping_references`): its optimum, or else its bound;
    Viterbi, DP and CP-SAT on 100 small problems each against every mapping; fine splits on 300 random problems and
    100 in which one is planted; a network whose heads and channels were rewired and split against itself.

    Args:
        quick: a tenth of all problems, two of a kind at least.
        say: told how far it is.

    Raises:
        DataError: the proofs are missing or of other problems.
        UnsupportedError: OR-Tools is not installed.
    """
    count = {name: max(2, n // 10 if quick else n) for name, n in _COUNTS.items()}
    rows = _against_proofs(count["search"], say)
    exact = {name: _against_all(name, count["exact"], say) for name in ("viterbi", "dp", "cp_sat")}
    worse = [_split_ratio(seed) for seed in range(count["split"])]
    say(f"splits: {sum(r < 1 for r in worse)} of {len(worse)} accepted")
    planted = [_takes_planted(seed) for seed in range(count["planted"])]
    gaps = np.array([row["gap"] for row in rows])
    seconds = [row["seconds"] for row in rows]
    share = 100 * float(np.mean(planted))
    checks = [
        _check("gap of search, mean", 100 * float(gaps.mean()), "%", "<=", 1.0),
        _check("gap of search, worst", 100 * float(gaps.max()), "%", "<=", 3.0),
        _check("mappings below a certified bound", sum(bool(row["below"]) for row in rows), "mappings", "==", 0),
        _check("violations", sum(int(row["violations"]) for row in rows), "slots", "==", 0),
        _check("time of search, longest", max(seconds), "s", "<=", 0.2),
        *(_check(f"{name} = all mappings, K <= 8, S <= 4", ok, "%", "==", 100.0) for name, ok in exact.items()),
        _check("objective after a fine split over before, worst", max(worse), "x", "<=", 1.0),
        _check("planted splits accepted", share, "%", ">=", 95.0),
        _check("output of the rewired network, largest difference", _rewired_error(), "", "<=", 1e-5),
    ]
    proved = sum(bool(row["optimal"]) for row in rows)
    more = {
        "proved_optimal": proved,
        "seconds_mean": float(np.mean(seconds)),
        "splits_accepted": sum(r < 1 for r in worse),
    }
    return checks_body(checks, suite="mapping", **more, instances=rows)


def _check(name: str, value: float, unit: str, rule: str, bound: float) -> Check:
    return Check(show=_SHOW, name=name, value=float(value), unit=unit, rule=rule, bound=bound)


def _against_proofs(count: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    solver, rows = MappingSolver("search"), []
    for proof in load_references()[:count]:
        problem = random_problem(proof["seed"])
        began = time.perf_counter()
        found = solver.solve(problem)
        seconds = time.perf_counter() - began
        best = proof["objective"] if proof["optimal"] else proof["bound"]
        cost = found.cost
        rows.append(
            {
                **{name: proof[name] for name in ("seed", "segments", "slots", "mode", "optimal", "bound")},
                "objective": cost.objective,
                "gap": cost.objective / best - 1,
                "below": cost.objective < proof["bound"] * (1 - _ROUNDING),
                "violations": cost.violations,
                "seconds": seconds,
            }
        )
        if len(rows) % 20 == 0:
            say(f"search: {len(rows)} of {count}, worst gap {100 * max(r['gap'] for r in rows):.2f} %")
    return rows


def _against_all(name: str, count: int, say: Callable[[str], None]) -> float:
    """Return the percentage of small problems on which a solver finds the optimum, or rightly that there is none."""
    right, solved, seed = 0, 0, 0
    while solved < count:
        problem = small_problem(seed)
        seed += 1
        if name == "viterbi" and problem.mode != "serial":
            continue
        solved += 1
        all_of_them = _objective(partial(solve_brute, problem, contiguous=name == "dp"))
        one = _objective(partial(MappingSolver(name).solve, problem))
        right += one is not None and all_of_them is not None and abs(one / all_of_them - 1) <= _ROUNDING
        right += one is None and all_of_them is None
    say(f"{name}: {right} of {solved} as every mapping")
    return 100 * right / solved


def _objective(solve: Callable[[], Any]) -> float | None:
    try:
        return float(solve().cost.objective)
    except BudgetError:
        return None


def _split_ratio(seed: int) -> float:
    """Return J after trying to split the longest segment of the fullest slot, over J before; 1 where it is refused."""
    problem = random_problem(seed, segments=4 + seed % 7, slots=3 + seed % 4, mode="balanced")
    before = MappingSolver("search").solve(problem)
    here = np.flatnonzero(before.mapping == before.cost.per_slot_ms.argmax())
    split = try_fine_split_segment(problem, int(here[problem.lat_ms[here].min(1).argmax()]), before)
    if split is None:
        return 1.0
    # Judged anew, by the problem that the split claims.
    return evaluate(split.problem, split.found.mapping).objective / before.cost.objective


def _takes_planted(seed: int) -> bool:
    problem, heavy = planted_split(seed)
    _check_planted(problem, heavy)
    return try_fine_split_segment(problem, heavy, MappingSolver("search").solve(problem)) is not None


def _check_planted(problem: MappingProblem, heavy: int) -> None:
    """Make sure that the split pays: each whole segment on a slot of its own, the heavy one's halves on two."""
    k = problem.segments
    others = np.delete(problem.lat_ms, heavy, 0).max()
    fine = max(problem.lat_ms[heavy].max() / 2, others)
    if not 1.05 * fine < 0.95 * problem.lat_ms[heavy].min() or problem.slots < k + 1:
        raise AssertionError("a planted split does not pay")


@torch.no_grad()
def _rewired_error() -> float:
    """Return the largest difference of outputs: heads and channels in another order, and groups that are summed."""
    worst = 0.0
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        model = VideoViT(
            img_size=32, num_frames=2, num_classes=10, embed_dim=48, depth=2, num_heads=6, mlp_ratio=4, patch_size=16
        ).eval()
        clip = torch.randn(2, 2, 3, 32, 32, generator=generator)
        before, x = model(clip), torch.randn(2, 8, 48, generator=generator)
        for block in model.blocks:
            assert isinstance(block, Block)
            heads, counts = group_units(torch.rand(6, generator=generator).tolist(), 2 + seed % 2)
            hidden, sizes = group_units(torch.rand(192, generator=generator).tolist(), 2 + seed % 2)
            parts, columns = split_attention(block.attn, heads, counts), split_mlp(block.mlp, hidden, sizes)
            worst = max(worst, _difference(sum(p(x)[0] for p in parts), block.attn(x)[0]))
            worst = max(worst, _difference(sum(p(x) for p in columns), block.mlp(x)))
            permute_heads_(block.attn, heads)
            permute_hidden_(block.mlp.fc1, block.mlp.fc2, hidden)
        worst = max(worst, _difference(model(clip), before))
    return worst


def _difference(a: Any, b: torch.Tensor) -> float:
    return float((a - b).abs().max())
