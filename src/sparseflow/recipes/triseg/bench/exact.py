"""Exactness of a search: scores many at a time and one by one, bytes of results, and the optimum of histograms."""

import copy
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseflow.compress.approximate import RELATIVE, optimal_codes, reference_scores, sample_codes, segment_error
from sparseflow.data import ImageSet
from sparseflow.ops.triseg import tables
from sparseflow.recipes.checks import Check
from sparseflow.recipes.triseg.bench.parity import parity_checks
from sparseflow.recipes.triseg.problem import Problem, inputs_of
from sparseflow.recipes.triseg.search import search
from sparseflow.recipes.triseg.search_config import SearchConfig

__all__ = ["brute_force", "exact_checks", "random_histograms"]

_TOP = 22


def exact_checks(
    problem: Problem,
    images: ImageSet,
    config: SearchConfig,
    *,
    histograms: int = 1000,
    configurations: int = 8,
    maps: int = 10_000,
    exported: int = 1000,
) -> tuple[list[Check], dict[str, Any]]:
    """Compare scores, optima, files and kernels.

    Args:
        problem: the network.
        images: what scores are taken on.
        config: settings of the searches whose files are compared.
        histograms: how many the optimum is compared on.
        configurations: how many are scored in both ways.
        maps: random segment functions that kernels are compared on.
        exported: images that exported files are compared on.

    Returns:
        The checks, and figures beside them.
    """
    codes = sample_codes(problem.space.tmax, configurations, seed=7, masks=problem.space.masks)
    evaluator = problem.evaluator(images)
    got = evaluator.score(codes)
    # The reference stays on the CPU, where float32 holds every sum: so this compares devices too.
    net = copy.deepcopy(problem.teacher.net).cpu()
    want = reference_scores(
        net, problem.sites, inputs_of(problem.teacher, images).cpu(), codes, images.labels, taps=evaluator.taps,
        config=problem.reward, mode=problem.overflow,
    )  # fmt: skip
    counts = random_histograms(histograms, _TOP, seed=1)
    tops = torch.full((histograms,), _TOP)
    found = optimal_codes(counts, tmax=tops)
    best, tried = brute_force(counts, _TOP)
    dp_s = statistics.median(_optimum_s(problem) for _ in range(5))
    wrong = int((segment_error(counts, found.codes) != best).sum())
    rows = [
        ("4", "largest difference of a batched score from the same one by one on the CPU",
         float((got.reward - want.reward).abs().max()), "reward", "<=", 1e-5),
        ("2", f"of {histograms} histograms, optima unlike brute force over {tried} configurations", wrong, "histograms",
         "==", 0.0),
        ("2", f"optimum of all {len(problem.names)} histograms of a network", dp_s, "s", "<=", 0.1),
        ("4", "bytes in which results of two searches with one seed differ", _unlike(problem, config), "bytes", "==",
         0.0),
    ]  # fmt: skip
    checks = [Check(show=s, name=n, value=v, unit=u, rule=r, bound=b) for s, n, v, u, r, b in rows]
    kernels, more = parity_checks(problem, images, maps=maps, exported=exported)
    return checks + kernels, {"agreement": float((got.agreement - want.agreement).abs().max()), "dp_s": dp_s, **more}


def brute_force(counts: Tensor, top: int) -> tuple[Tensor, int]:
    """Return the least squared error of each histogram over every configuration that the relative masks allow.

    Args:
        counts: `[S, 256]`.
        top: tmax of all.

    Returns:
        float64 `[S]`, and how many configurations there are.
    """
    axis = torch.arange(top + 1)
    every = torch.cartesian_prod(axis, axis, axis, axis)
    codes = torch.cat((every, torch.full((len(every), 1), top)), 1)
    codes = codes[RELATIVE.holds(codes)]
    moved = (tables(codes).double() - torch.arange(256, dtype=torch.float64)).square()
    best = [(part.double() @ moved.T).amin(1) for part in counts.split(100)]  # type: ignore[no-untyped-call]
    return torch.cat(best), len(codes)


def random_histograms(count: int, top: int, *, seed: int) -> Tensor:
    """Return counts of codes up to twice `top`, flat or steep, whole or with holes, int64 `[count, 256]`."""
    g = torch.Generator().manual_seed(seed)
    q = torch.arange(2 * top)
    steep = torch.exp(-torch.rand(count, 1, generator=g) * q)
    drawn = (torch.rand(count, 2 * top, generator=g) * steep * 10**6).long()
    drawn[::3] *= (torch.rand(len(drawn[::3]), 2 * top, generator=g) < 0.3).long()
    drawn[:, 1] += 1
    found = torch.zeros(count, 256, dtype=torch.int64)
    found[:, : 2 * top] = drawn
    return found


def _optimum_s(problem: Problem) -> float:
    began = time.perf_counter()
    optimal_codes(problem.histograms.fisher, tmax=problem.space.tmax, masks=problem.space.masks)
    return time.perf_counter() - began


def _unlike(problem: Problem, config: SearchConfig) -> int:
    contents = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.json", "b.json"):
            settings = replace(
                config, model=str(problem.teacher.source), out=folder, result_file=name, resume=False, eval_every=None,
            )  # fmt: skip
            contents.append(search(settings, splits=problem.splits, progress=False).path.read_bytes())
        assert Path(folder).is_dir()
    a, b = contents
    return sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))
