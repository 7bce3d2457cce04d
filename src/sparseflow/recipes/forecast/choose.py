"""Which of two settings does better on val, where settings are chosen while the test stays closed."""

import math
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from sparseflow.errors import ConfigError

__all__ = ["on_val"]


def on_val(runs: Iterable[Mapping[str, Any]], others: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Compare trainings with others of the same tasks and seeds by their mean absolute error on val.

    Of each task both errors are means over the seeds that both have; tasks count alike, however large their errors:
    ratio = exp(mean over tasks of ln(error / error of the others)).

    Args:
        runs: each with task, seed and val_mae, as `table_of` lists them under `runs`.
        others: the same, with the other settings.

    Returns:
        `ratio`, below 1 where the first settings do better; `pairs`, how many trainings were compared; and `tasks`,
        each with its seeds and both errors, in the order of `runs`.

    Raises:
        ConfigError: no task has a seed that both trained.

    >>> one, two = {"task": "a", "seed": 1, "val_mae": 0.9}, {"task": "a", "seed": 1, "val_mae": 1.0}
    >>> round(on_val([one], [two])["ratio"], 9)
    0.9
    """
    mine, theirs = _by_task(runs), _by_task(others)
    tasks: list[dict[str, Any]] = []
    for task in mine:
        seeds = sorted(set(mine[task]) & set(theirs.get(task, {})))
        if seeds:
            errors = [fmean(found[task][seed] for seed in seeds) for found in (mine, theirs)]
            tasks.append({"task": task, "seeds": seeds, "val_mae": errors[0], "other_val_mae": errors[1]})
    if not tasks:
        raise ConfigError("no task was trained with the same seed by both settings, so val cannot choose between them")
    return {
        "ratio": math.exp(fmean(math.log(t["val_mae"] / t["other_val_mae"]) for t in tasks)),
        "pairs": sum(len(t["seeds"]) for t in tasks),
        "tasks": tasks,
    }


def _by_task(runs: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for run in runs:
        found.setdefault(run["task"], {})[run["seed"]] = run["val_mae"]
    return found
