"""`sparseflow triseg bench`: every figure of the claims on search, speed and exactness, from one command."""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sparseflow.data.splits import Splits
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import tables
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.triseg.bench.engine import engine_checks, time_engine
from sparseflow.recipes.triseg.bench.exact import exact_checks
from sparseflow.recipes.triseg.bench.faults import fault_checks
from sparseflow.recipes.triseg.bench.rates import images_for, rate_checks, time_scores, time_update
from sparseflow.recipes.triseg.bench.rivals import medians, rival_checks, run_apart, run_rivals
from sparseflow.recipes.triseg.checkpoint import network_name
from sparseflow.recipes.triseg.methods import method_named
from sparseflow.recipes.triseg.problem import Problem, inputs_of, pose
from sparseflow.recipes.triseg.search_config import SearchConfig
from sparseflow.recipes.triseg.teacher import load_teacher
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic

__all__ = ["SUITES", "TriSegBenchConfig", "bench"]

SUITES = ("exact", "rate", "search", "engine", "faults")
RIVALS = ("default", "cmaes-dp", "cmaes", "tpe", "evolution", "nsga2", "random", "ppo", "ppo-original")
PROTOCOL = (
    "All searchers score configurations on the same images with the same evaluator, in the ranges 'relative', the "
    "earlier project's PPO in its own; a reward is the best of all that were scored, and the median is taken over the "
    "seeds. Each is asked for as many trials at a time as it can use at once, those that learn from every score for "
    "one. Rates are of random configurations, which share no layer behind the first site; batched, alone and loop take "
    "turns in every round, and a ratio is the median of the rounds' ratios."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TriSegBenchConfig:
    """What to measure.

    Args:
        model: name of the zoo, `file.py:function`, or the path of a checkpoint.
        out: folder of the checkpoints.
        data: CIFAR-10, as `data.cifar10` takes it; None for the images that ship with sparseflow.
        suites: any of "exact", "rate", "search", "engine" and "faults"; "engine" is left out on CUDA.
        methods: searchers that are compared; "default" has to win.
        seeds: how many seeds each gets.
        episodes: evaluations of each.
        original_episodes: evaluations of the earlier project's PPO beside them, with one seed; 0 leaves it out.
        batch_size: images of a score in the comparison.
        rate_images: images of a score where rates are taken; None for 64 on CPUs and 256 on CUDA.
        rate_candidates: configurations scored together there; None for 64 and 256.
        rate_models: more networks whose rates are taken.
        rounds: rounds of rates.
        histograms: random histograms for the optimum.
        maps: random segment functions that kernels are compared on.
        exported: images that exported files are compared on.
        device: "auto", "cpu" or "cuda".
        threads: of torch on CPUs; None leaves them.
        jobs: searches of the comparison that run at a time, each in a process of its own that has its part of the
            threads; their scores are the same, their seconds are not.
        report: file for the JSON, or None.

    Raises:
        ConfigError: an unknown suite or method, or a number below 1.
    """

    model: str = "alexnet"
    out: str = "outputs"
    data: str | None = None
    suites: tuple[str, ...] = SUITES
    methods: tuple[str, ...] = RIVALS
    seeds: int = 5
    episodes: int = 600
    original_episodes: int = 10_000
    batch_size: int = 64
    rate_images: int | None = None
    rate_candidates: int | None = None
    rate_models: tuple[str, ...] = ()
    rounds: int = 5
    histograms: int = 1000
    maps: int = 10_000
    exported: int = 1000
    device: str = "auto"
    threads: int | None = None
    jobs: int = 1
    report: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.suites or set(self.suites) - set(SUITES):
            raise ConfigError(f"suites are {self.suites}; expected some of {', '.join(SUITES)}")
        for name in self.methods:
            method_named(name)
        if "default" not in self.methods or len(self.methods) < 2:
            raise ConfigError(f"methods are {', '.join(self.methods)}; expected 'default' and a rival at least")
        for name in (
            "seeds",
            "episodes",
            "batch_size",
            "rounds",
            "histograms",
            "maps",
            "exported",
            "rate_images",
            "rate_candidates",
            "threads",
            "jobs",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; expected at least 1")
        if self.original_episodes < 0:
            raise ConfigError(f"original_episodes is {self.original_episodes}; expected 0 or more")

    @property
    def search(self) -> SearchConfig:
        """Settings of the searches."""
        return SearchConfig(
            model=self.model, out=self.out, data=self.data, episodes=self.episodes, batch_size=self.batch_size,
            device=self.device,
        )  # fmt: skip


def bench(config: TriSegBenchConfig, *, splits: Splits | None = None, progress: bool = True) -> dict[str, Any]:
    """Measure and hold every figure against its target.

    Args:
        config: what to measure.
        splits: images already opened; None opens `config.data`.
        progress: show progress bars.

    Returns:
        `{"checks": [...], "ok": ..., "searches": [...], "rates": ..., ...}`.

    Raises:
        ConfigError: no such network or device.
        DataError: the checkpoint or the images cannot be read.
    """
    if splits is not None and config.jobs > 1:
        raise ConfigError("every one of several processes opens its images; give data in place of splits")
    began = time.perf_counter()
    if config.report is not None:
        prepare_folder(Path(config.report).parent)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    problem = pose(config.search, splits=splits)
    checks: list[Check] = []
    more: dict[str, Any] = {}
    if "rate" in config.suites:
        found, more["rate"] = _rates(config, problem)
        checks += found
        for name in config.rate_models:
            found, more[f"rate_{network_name(name)}"] = _rates(config, pose(replace(config.search, model=name)))
            checks += found[:-1]
    if "exact" in config.suites:
        small = replace(config.search, episodes=min(60, config.episodes), top=4, halving=2)
        found, more["exact"] = exact_checks(
            problem, images_for(problem, config.batch_size), small, histograms=config.histograms, maps=config.maps,
            exported=config.exported,
        )  # fmt: skip
        checks += found
    if "search" in config.suites:
        found, more["search"] = _searches(config, problem, progress)
        checks += found
    if "engine" in config.suites and not next(problem.teacher.net.buffers()).is_cuda:
        found, more["engine"] = _engine(config, problem)
        checks += found
    if "faults" in config.suites:
        found, more["faults"] = fault_checks(problem.teacher)
        checks += found
    body = checks_body(
        checks,
        bench="triseg",
        protocol=PROTOCOL,
        config=asdict(config),
        model={"name": problem.teacher.name, "sites": list(problem.names), "source": str(problem.teacher.source)},
        environment=describe(),
        wall_s=time.perf_counter() - began,
        **more,
    )
    if config.report is not None:
        write_atomic(config.report, json.dumps(body, indent=1, allow_nan=False) + "\n")
    return body


def _rates(config: TriSegBenchConfig, problem: Problem) -> tuple[list[Check], dict[str, Any]]:
    on_cuda = next(problem.teacher.net.buffers()).is_cuda
    images = images_for(problem, config.rate_images or (256 if on_cuda else 64))
    rate = time_scores(
        problem, images, candidates=config.rate_candidates or (256 if on_cuda else 64), rounds=config.rounds
    )  # fmt: skip
    update_s = time_update(problem, config.search)
    return rate_checks(rate, update_s), {**rate.to_dict(), "ppo_update_s": update_s}


def _engine(config: TriSegBenchConfig, problem: Problem) -> tuple[list[Check], dict[str, Any]]:
    """Time the engine at the codes that searches start from."""
    teacher = load_teacher(config.model, config.out)
    x = inputs_of(teacher, images_for(problem, config.rate_images or 64))
    rows = zip(teacher.points, problem.start.cpu(), strict=True)
    times, unequal = time_engine(teacher, x, {point: tables(row[None]) for point, row in rows}, rounds=config.rounds)
    return engine_checks(times, unequal), times.to_dict()


def _searches(config: TriSegBenchConfig, problem: Problem, progress: bool) -> tuple[list[Check], dict[str, Any]]:
    evaluator = problem.evaluator(images_for(problem, config.batch_size))
    tasks = [(config.search, method, seed) for seed in range(config.seeds) for method in config.methods]
    if config.original_episodes:
        long = replace(config.search, episodes=config.original_episodes)
        tasks.insert(0, (long, "ppo-original", 0))
    if config.jobs > 1:
        found = run_apart(tasks, jobs=config.jobs, progress=progress)
    else:
        found = run_rivals(problem, evaluator, tasks, progress=progress)
    rows = found[len(found) - config.seeds * len(config.methods) :]
    checks = rival_checks(rows)
    start = float(evaluator.score(problem.start[None]).reward)
    body: dict[str, Any] = {
        "medians": medians(rows),
        "start_reward": start,
        "rows": [row.to_dict() for row in rows],
    }
    if config.original_episodes:
        body["documented"] = [found[0].to_dict()]
    return checks, body
