"""Medians and checks of a comparison of searchers."""

import pytest

from sparseflow.recipes.triseg.bench.rates import images_for
from sparseflow.recipes.triseg.bench.rivals import SearchRow, medians, rival_checks, run_apart, run_rivals
from sparseflow.recipes.triseg.problem import pose
from sparseflow.recipes.triseg.search_config import SearchConfig
from tests.triseg_teachers import save_teacher


def row(method: str, seed: int, *best: float) -> SearchRow:
    counts = (100, 300, 600)
    return SearchRow(
        method=method, seed=seed, budget=600, masks="relative", best=dict(zip(counts, best, strict=True)), seconds=1.0
    )


ROWS = [
    row("default", 0, -2.0, -1.5, -1.0), row("default", 1, -2.5, -1.4, -1.2), row("default", 2, -9.0, -9.0, -9.0),
    row("cmaes", 0, -3.0, -2.4, -1.1), row("cmaes", 1, -3.0, -2.6, -1.3), row("cmaes", 2, -3.0, -2.9, -1.25),
    row("random", 0, -4.0, -4.0, -0.5), row("random", 1, -4.0, -4.0, -0.5), row("random", 2, -4.0, -4.0, -3.0),
]  # fmt: skip


def test_medians() -> None:
    assert medians(ROWS) == {"default": -1.2, "cmaes": -1.25, "random": -0.5}
    assert medians(ROWS, 100)["default"] == -2.5
    assert medians(ROWS, 50) == {}


def test_a_rival_that_wins_fails_the_check() -> None:
    checks = {check.name: check.ok for check in rival_checks(ROWS)}
    assert [ok for name, ok in checks.items() if "that of cmaes," in name] == [True]
    assert [ok for name, ok in checks.items() if "that of random," in name] == [False]
    assert [ok for name, ok in checks.items() if "at 100" in name] == [True]


def test_searches_in_processes_find_what_searches_in_turn_find(tmp_path) -> None:
    pytest.importorskip("cmaes")
    save_teacher(tmp_path, steps=2)
    config = SearchConfig(model="lenet5", out=str(tmp_path), device="cpu", episodes=4, batch_size=8, calib_batches=1)
    tasks = [(config, "default", 0), (config, "random", 1), (config, "ppo-original", 2)]
    problem = pose(config)
    here = run_rivals(problem, problem.evaluator(images_for(problem, 8)), tasks, progress=False)
    apart = run_apart(tasks, jobs=2, progress=False)
    assert [(row.method, row.seed, row.masks) for row in apart] == [
        ("default", 0, "relative"), ("random", 1, "relative"), ("ppo-original", 2, "seed"),
    ]  # fmt: skip
    assert [row.best for row in apart] == [pytest.approx(row.best) for row in here]
