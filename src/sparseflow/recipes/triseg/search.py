"""`sparseflow triseg search`: find the codes of a network, and choose among the best on images held out for that."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sparseflow.compress.approximate import (
    Evaluator,
    Finalist,
    Metrics,
    Selection,
    Top,
    TriSegResult,
    select,
)
from sparseflow.compress.approximate.result import FOLDER
from sparseflow.data.splits import Splits
from sparseflow.ir.files import write_atomic
from sparseflow.recipes.triseg.methods import method_named
from sparseflow.recipes.triseg.problem import Problem, pose
from sparseflow.recipes.triseg.records import open_records, run_folder, score_key
from sparseflow.recipes.triseg.search_config import SearchConfig
from sparseflow.records import Key, Store
from sparseflow.search import Budget, Result, Score, run
from sparseflow.search.space import Params

__all__ = ["SearchConfig", "SearchReport", "explore", "finish", "improvements", "search"]

_UNIT = "reward"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReport:
    """What a search found, and how it came there.

    Args:
        result: the codes that were kept, as in the file.
        path: that file.
        config: what was searched.
        report: file that holds `to_dict`.
        rewards: reward of each evaluation, in order.
        start_reward: reward of the optimum of the histograms.
        finalists: codes `[L][5]`, rewards on the search's images and on those of the halving, accuracy in percent, in
            the order of the latter rewards.
        curve: accuracy in percent of the best after so many evaluations, where `eval_every` asks for it.
        evaluations: configurations scored in the search.
        reused: how many of these came from the records.
        rates: candidates a second of the search, and seconds of its parts.
    """

    result: TriSegResult
    path: Path
    report: Path
    config: SearchConfig
    rewards: tuple[float, ...]
    start_reward: float
    finalists: tuple[dict[str, Any], ...]
    curve: tuple[tuple[int, float], ...]
    evaluations: int
    reused: int
    rates: dict[str, float]

    @property
    def histories(self) -> dict[str, list[list[float]]]:
        """Evaluations and best reward so far where it rose, and at the end, by method, as a picture draws it."""
        return {self.config.method: improvements(self.rewards)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "result": json.loads(self.result.to_json()),
            "path": str(self.path),
            "report": str(self.report),
            "histories": self.histories,
            "seconds": sum(seconds for name, seconds in self.rates.items() if name.endswith("_s")),
            "config": self.config.to_dict(),
            "start_reward": self.start_reward,
            "best_reward": max(self.rewards, default=None),
            "evaluations": self.evaluations,
            "reused": self.reused,
            "finalists": list(self.finalists),
            "curve": [list(point) for point in self.curve],
            "rates": self.rates,
        }


def improvements(rewards: Sequence[float]) -> list[list[float]]:
    """Return where the running maximum rises, and its end.

    >>> improvements([-3.0, -1.0, -2.0])
    [[1, -3.0], [2, -1.0], [3, -1.0]]
    """
    out: list[list[float]] = []
    for count, reward in enumerate(rewards, 1):
        if not out or reward > out[-1][1]:
            out.append([count, reward])
    if out and out[-1][0] < len(rewards):
        out.append([len(rewards), out[-1][1]])
    return out


def search(config: SearchConfig, *, splits: Splits | None = None, progress: bool = True) -> SearchReport:
    """Search, choose on the images for selection, and write the result.

    The searcher's configurations are scored on `batch_size` images. Those that rank best are scored again on other
    images, and `top` of them are measured on all images for selection; the most accurate whose drop is allowed is kept.
    Test images are not read. With the same settings the result is the same to the byte, also if the search was killed
    and started again, which goes on from its records.

    Args:
        config: what is searched.
        splits: images already opened; None opens `config.data`.
        progress: show progress bars.

    Raises:
        ConfigError: no such network, layers or device.
        DataError: no checkpoint, or images that cannot be read, or a folder that cannot be written.
    """
    run_folder(config)
    began = time.perf_counter()
    problem = pose(config, splits=splits)
    ready = time.perf_counter()
    images = problem.splits.calib.take(min(config.batch_size, len(problem.splits.calib)))
    evaluator = problem.evaluator(images)
    start_reward = float(evaluator.score(problem.start[None]).reward)
    with open_records(config) as store:
        key = score_key(problem, images, run="" if config.resume else str(time.time_ns()))
        found = explore(problem, evaluator, config, store=store, key=key, progress=progress)
    searched = time.perf_counter()
    codes, rewards = _scored(problem, found)
    report = finish(
        problem, config, codes, rewards, start_reward=start_reward, reused=found.reused, progress=progress
    )  # fmt: skip
    fresh = max(0, len(rewards) - found.reused)
    rates = {
        "prepare_s": ready - began,
        "search_s": searched - ready,
        "candidates_per_s": fresh / found.elapsed_s if found.elapsed_s else 0.0,
        "finish_s": time.perf_counter() - searched,
    }
    report.rates.update(rates)
    report.result.write(report.path)
    write_atomic(report.report, json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n")
    return report


def explore(
    problem: Problem,
    evaluator: Evaluator,
    config: SearchConfig,
    *,
    store: Store | None = None,
    key: Key | None = None,
    progress: bool = True,
) -> Result:
    """Run the searcher for its budget.

    Args:
        problem: what is searched.
        evaluator: scores it.
        config: method, budget and seed.
        store: where scores are kept and looked for.
        key: what is scored; needed with a store.
        progress: show a bar.
    """
    method, task = method_named(config.method), problem.task(config)

    def many(params: Sequence[Params]) -> list[Score]:
        scores = evaluator.score(problem.space.codes(params))
        columns = (scores.reward, scores.kd, scores.at, scores.agreement)
        return [
            Score(value=-reward, metrics={"kd": kd, "at": at, "agreement": agreement})
            for reward, kd, at, agreement in zip(*(c.tolist() for c in columns), strict=True)
        ]

    return run(
        method.make(task),
        lambda params: many([params])[0],
        Budget(trials=config.episodes),
        store=store,
        key=key,
        name=f"{problem.teacher.name}, {method.name}",
        unit=_UNIT,
        batch=method.batch(task),
        evaluate_many=many,
        remeasure=False,
        progress=progress,
    )


def finish(
    problem: Problem,
    config: SearchConfig,
    codes: Tensor,
    rewards: Tensor,
    *,
    start_reward: float = float("nan"),
    reused: int = 0,
    progress: bool = True,
) -> SearchReport:
    """Choose among what a search scored: halving by reward on other images, then accuracy on those for selection.

    Args:
        problem: what was searched.
        config: how many are kept.
        codes: int64 `[K, L, 5]`, in the order of the search.
        rewards: float64 `[K]`.
        start_reward: for the report.
        reused: for the report.
        progress: show a bar.
    """
    pool = Top(config.top * config.halving)
    pool.add(codes, rewards)
    before = {entry.codes: entry.reward for entry in pool.best()}
    again = _again(problem, config, list(before))
    kept = sorted(zip(before, before.values(), again, strict=True), key=lambda row: -row[2])[: config.top]
    judge = problem.evaluator(problem.splits.val, attention=False)
    bar = tqdm(kept, desc=f"{len(kept)} finalists on {judge.images} images", disable=None if progress else True)
    measured = [100 * float(judge.score(row[0][None]).accuracy) for row in bar]
    teacher = 100 * judge.teacher_accuracy
    chosen = select(
        [Finalist(codes=row[0], accuracy=a, split="val") for row, a in zip(kept, measured, strict=True)],
        acc_teacher=teacher,
        max_acc_drop=config.max_acc_drop,
    )
    return SearchReport(
        result=_result(problem, config, chosen, teacher),
        path=Path(config.out) / FOLDER / config.result_file,
        report=run_folder(config) / "report.json",
        config=config,
        rewards=tuple(rewards.tolist()),
        start_reward=start_reward,
        finalists=tuple(
            {"codes": row[0].tolist(), "reward": row[1], "reward_halving": row[2], "accuracy": a}
            for row, a in zip(kept, measured, strict=True)
        ),
        curve=_curve(config, codes, rewards, judge),
        evaluations=len(rewards),
        reused=reused,
        rates={},
    )


def _result(problem: Problem, config: SearchConfig, chosen: Selection, teacher: float) -> TriSegResult:
    return TriSegResult.of(
        problem.names,
        chosen.finalist.codes,
        backend=config.backend,
        model=problem.teacher.name,
        selection=chosen.text,
        metrics=Metrics.of(teacher, chosen.finalist.accuracy),
        overflow=problem.overflow,
        split="val",
    )


def _again(problem: Problem, config: SearchConfig, codes: list[Tensor]) -> list[float]:
    """Return the rewards on the last images for calibration, which the search does not see where there are enough."""
    calib = problem.splits.calib
    count = min(config.halving_images, len(calib))
    index = torch.arange(len(calib) - count, len(calib))
    some = type(calib)(
        name=calib.name, split=calib.split, images=calib.images[index], labels=calib.labels[index],
        classes=calib.classes, mean=calib.mean, std=calib.std,
    )  # fmt: skip
    rewards: list[float] = problem.evaluator(some).score(torch.stack(codes)).reward.tolist()
    return rewards


def _curve(config: SearchConfig, codes: Tensor, rewards: Tensor, judge: Evaluator) -> tuple[tuple[int, float], ...]:
    if config.eval_every is None:
        return ()
    points = []
    for count in range(config.eval_every, len(rewards) + 1, config.eval_every):
        best = int(rewards[:count].argmax())
        points.append((count, 100 * float(judge.score(codes[best][None]).accuracy)))
    return tuple(points)


def _scored(problem: Problem, found: Result) -> tuple[Tensor, Tensor]:
    """Return what a search scored, in order."""
    pairs = [(trial.params, outcome.value) for trial, outcome in found.history if isinstance(outcome, Score)]
    codes = problem.space.codes([params for params, _ in pairs])
    return codes, -torch.tensor([value for _, value in pairs], dtype=torch.float64)
