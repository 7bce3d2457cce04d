"""Searchers by name: every one finds its way in the ranges of codes, and the warm ones begin at the start."""

import pytest

from sparseflow.compress.approximate import CodeSpace, initial_codes, masks_named
from sparseflow.errors import ConfigError
from sparseflow.recipes.triseg.methods import METHODS, Method, Task, method_named
from sparseflow.search import Budget, run

NAMES = ("conv1", "fc1")


def task(method: Method, *, reach: int = 0, budget: int = 24, lr: float | None = None) -> Task:
    space = CodeSpace(names=NAMES, tmax=(30, 40), masks=masks_named(method.masks), reach=reach)
    start = space.params(initial_codes([30, 40], masks=masks_named(method.masks)))
    states = {name: [0.1 * i, 0.2, 0.3, 0.4] for i, name in enumerate(NAMES)}
    return Task(space=space, start=start, states=states, budget=budget, seed=1, lr=lr)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda m: m.name)
@pytest.mark.parametrize("reach", [0, 3])
def test_every_method_stays_in_its_ranges_and_repeats(method: Method, reach: int) -> None:
    if method.name in ("tpe", "gp"):
        pytest.importorskip("optuna")
    if "cmaes" in method.name or method.name == "default":
        pytest.importorskip("cmaes")

    def go() -> list[dict[str, object]]:
        given = task(method, reach=reach, budget=12)
        found = run(
            method.make(given), lambda p: float(p["fc1.v2"]), Budget(trials=12), batch=method.batch(given),
            remeasure=False, progress=False,
        )  # fmt: skip
        given.space.codes([trial.params for trial, _ in found.history])
        return [dict(trial.params) for trial, _ in found.history]

    tried = go()
    assert len(tried) == 12
    assert tried == go()
    assert (tried[0] == dict(task(method, reach=reach).start)) == method.warm


def test_learning_rates_reach_ppo() -> None:
    for name, default in (("ppo", 1e-2), ("ppo-original", 3e-4)):
        method = METHODS[name]
        assert method.make(task(method)).settings.lr == default  # type: ignore[attr-defined]
        assert method.make(task(method, lr=0.5)).settings.lr == 0.5  # type: ignore[attr-defined]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of default, cmaes-dp"):
        method_named("annealing")
