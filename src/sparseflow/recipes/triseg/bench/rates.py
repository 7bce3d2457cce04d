"""Candidates a second, against the loop of one at a time, and the time of a policy's update."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from sparseflow.compress.approximate import reference_scores, sample_codes
from sparseflow.data import ImageSet
from sparseflow.errors import DataError
from sparseflow.recipes.checks import Check
from sparseflow.recipes.triseg.methods import METHODS
from sparseflow.recipes.triseg.problem import Problem, inputs_of, remasked
from sparseflow.recipes.triseg.search_config import SearchConfig
from sparseflow.search import Score

__all__ = ["BOUNDS", "Rate", "images_for", "rate_checks", "time_scores", "time_update"]

BOUNDS = {("alexnet", "cpu"): 12.0, ("alexnet", "cuda"): 1000.0, ("vgg16", "cuda"): 200.0}
"""Candidates a second that are asked for: at 64 images on two cores, at 256 on an H200."""
_UPDATE_BOUND_S = 0.3
_TRANSITIONS = 350


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How fast configurations are scored; medians of interleaved rounds.

    Args:
        model: name of the network.
        device: "cpu" or "cuda".
        images: of a score.
        candidates: scored at a time in a round.
        batched: candidates a second, many at a time.
        alone: the same scores asked for one by one: what is cached stays cached.
        loop: candidates a second of the loop that runs the teacher for its logits, the teacher for its maps, and the
            student, whole and in float32, for each.
        over_loop: median of the rounds' ratios batched over loop.
        over_alone: likewise over alone.
        macs: multiplications of one image's pass.
        seconds: of each round, batched.
    """

    model: str
    device: str
    images: int
    candidates: int
    batched: float
    alone: float
    loop: float
    over_loop: float
    over_alone: float
    macs: float
    seconds: tuple[float, ...]

    @property
    def tera_ops(self) -> float:
        """Operations that the passes take, two a multiplication, in 10¹² a second."""
        return 2e-12 * self.macs * self.images * self.batched

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "tera_ops": self.tera_ops}


def images_for(problem: Problem, count: int) -> ImageSet:
    """Return the first images for calibration, and those for selection where there are too few.

    Raises:
        DataError: even both together are too few.
    """
    for part in (problem.splits.calib, problem.splits.val):
        if len(part) >= count:
            return part.take(count)
    raise DataError(f"no part of the images has {count} of them; name the whole of CIFAR-10 by data")


def time_scores(
    problem: Problem, images: ImageSet, *, candidates: int = 64, few: int = 4, rounds: int = 5, seed: int = 0
) -> Rate:
    """Time scores of random configurations, none of which begins like another.

    Args:
        problem: the network.
        images: what a score is taken on.
        candidates: scored together in a round.
        few: scored one by one in a round.
        rounds: how often all three forms take turns.
        seed: seed of the configurations.
    """
    net, device = problem.teacher.net, next(problem.teacher.net.buffers()).device
    evaluator = problem.evaluator(images)
    x, y = inputs_of(problem.teacher, images), images.labels.to(device)
    codes = sample_codes(
        problem.space.tmax, candidates * rounds + few * rounds * 2, seed=seed, masks=problem.space.masks
    )
    some = iter(codes.split(few))  # type: ignore[no-untyped-call]

    def seconds(work: Any) -> float:
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        return time.perf_counter() - began

    def loop(given: Tensor) -> None:
        reference_scores(
            net, problem.sites, x, given, y, taps=evaluator.taps, config=problem.reward, mode=problem.overflow
        )  # fmt: skip

    evaluator.score(codes[:candidates])
    evaluator.score(codes[:1])
    loop(codes[:1])
    batched, alone, one = [], [], []
    for i in range(rounds):
        evaluator.forget()
        many = codes[i * candidates : (i + 1) * candidates]
        batched.append(seconds(lambda many=many: evaluator.score(many)) / len(many))
        evaluator.forget()
        given = next(some)
        alone.append(seconds(lambda given=given: [evaluator.score(c[None]) for c in given]) / few)
        one.append(seconds(lambda given=given: loop(given)) / few)
    ratios = sorted(o / b for o, b in zip(one, batched, strict=True))
    singles = sorted(a / b for a, b in zip(alone, batched, strict=True))
    return Rate(
        model=problem.teacher.name,
        device=device.type,
        images=len(images),
        candidates=candidates,
        batched=1 / _median(batched),
        alone=1 / _median(alone),
        loop=1 / _median(one),
        over_loop=_median(ratios),
        over_alone=_median(singles),
        macs=_macs(problem, x[:1]),
        seconds=tuple(candidates * b for b in batched),
    )


def time_update(problem: Problem, config: SearchConfig, *, repeats: int = 5) -> float:
    """Return the median seconds of an update of the original PPO from 350 transitions, or the next more.

    Args:
        problem: gives the layers.
        config: settings.
        repeats: updates.
    """
    given = remasked(problem, METHODS["ppo-original"].masks)
    searcher: Any = METHODS["ppo-original"].make(given.task(config))
    searcher._every = -(-_TRANSITIONS // len(problem.names))
    found = []
    for _ in range(repeats):
        asked = searcher.ask(searcher._every)
        done = [(trial, Score(value=float(trial.id % 7))) for trial in asked]
        before = searcher._updates
        began = time.perf_counter()
        searcher.tell(done)
        found.append(time.perf_counter() - began)
        assert searcher._updates > before
    return _median(found)


def rate_checks(rate: Rate, update_s: float | None = None) -> list[Check]:
    """Hold rates against what is asked; a network or device that nothing is asked of gives the ratio alone."""
    what = f"{rate.model}, {rate.images} images, {rate.device}"
    checks = []
    bound = BOUNDS.get((rate.model, rate.device))
    if bound is not None:
        checks.append(
            Check(show="3", name=f"candidates a second, {what}", value=rate.batched, unit="1/s", rule=">=", bound=bound)
        )
    checks.append(
        Check(
            show="3",
            name=f"over one at a time (teacher twice, student once), {what}",
            value=rate.over_loop,
            unit="x",
            rule=">=",
            bound=5.0,
        )
    )
    if update_s is not None:
        checks.append(
            Check(
                show="3",
                name=f"update of PPO from {_TRANSITIONS} transitions",
                value=update_s,
                unit="s",
                rule="<=",
                bound=_UPDATE_BOUND_S,
            )
        )
    return checks


def _macs(problem: Problem, x: Tensor) -> float:
    total = 0.0

    def count(layer: Any, args: Any, out: Tensor) -> None:
        nonlocal total
        total += out[0].numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(count) for layer in problem.teacher.net.layers.values()]
    try:
        problem.teacher.net(x)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
