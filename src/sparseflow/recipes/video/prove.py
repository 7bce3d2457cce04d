"""`sparseflow video prove`: what pruning promises beside speed and accuracy, checked in minutes on any machine."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import torch

from sparseflow.nn.prune import ASTPruner, PruneConfig, TokenScore, naive
from sparseflow.nn.prune.keep import kept_count
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.commit import commit
from sparseflow.recipes.video.agree import agreement, agreement_checks
from sparseflow.recipes.video.config import VideoConfig
from sparseflow.recipes.video.faults import FAULTS, told
from sparseflow.recipes.video.slice import slice_video
from sparseflow.recipes.video.train import train_video
from sparseflow.report.environment import describe

__all__ = ["prove"]

_LOOPS, _NEAR, _MINUTES = 1e-6, 0.02, 5.0
# Neither times nor patches a side are divided by the windows of 2 and 4.
_TIMES, _GRID, _WIDTH = 5, (3, 5), 6


def prove(
    config: VideoConfig | None = None, *, say: Callable[[Check], None] = lambda _: None, progress: bool = True
) -> dict[str, Any]:
    """Hold scores against loops over numbers, networks against each other, and clips against damaged files.

    Args:
        config: of a training that is timed too, from the beginning, and whose shares are held against their targets;
            its network has gates, which are sliced out after it. None leaves that out.
        say: is told each check as it comes.
        progress: show a bar for the training.

    Returns:
        `{"checks": [...], "ok": ..., "record": the training's or None, ...}`.

    Raises:
        ConfigError: the configuration has no gates, or its folder holds another run.
        DataError: its data cannot be read.
    """
    began, checks, record, sliced = time.perf_counter(), [], None, None
    for check in _golden():
        checks.append(check)
        say(check)
    if config is not None:
        fresh = replace(config, name=f"{config.title}_proof")
        for name in ("state.safetensors", "metrics.jsonl"):
            (fresh.folder / name).unlink(missing_ok=True)
        record = train_video(fresh, progress=progress)
        checks += _trained(fresh, record)
        sliced = slice_video(record["file"], fresh.folder / "sliced.safetensors")
    body = checks_body(
        checks, bench="video_prove", record=record, sliced=sliced, environment=describe(), commit=commit(),
        wall_s=time.perf_counter() - began,
    )  # fmt: skip
    if sliced is not None:
        body["checks"], body["ok"] = body["checks"] + sliced["checks"], body["ok"] and sliced["ok"]
    return body


def _golden() -> Iterator[Check]:
    torch.manual_seed(0)
    for mode, score in product(("levels", "sliding"), ("entropy", "motion")):
        c = PruneConfig(
            patch_grid_h=_GRID[0], patch_grid_w=_GRID[1], entropy_mode=mode, score=score, motion_weight=0.25,
            time_overlap=0.5, entropy_tau=0.7,
        )  # fmt: skip
        x = torch.randn(2, _TIMES, _GRID[0] * _GRID[1], _WIDTH, dtype=torch.float64)
        want = torch.tensor([naive.score(sample, c, _GRID) for sample in x.tolist()], dtype=torch.float64)
        value = float((TokenScore(c, _WIDTH)(x) - want).abs().max())
        name = f"{score} scores, {mode}, against loops in float64, largest difference"
        yield Check(show="1", name=name, value=value, unit="", rule="<=", bound=_LOOPS)
    wrong, total = 0, _TIMES * _GRID[0] * _GRID[1]
    for keep, mode in product((0.01, 0.25, 0.37, 0.5, 0.99, 1.0), ("levels", "sliding")):
        cfg = {"patch_grid_h": _GRID[0], "patch_grid_w": _GRID[1], "keep": keep, "entropy_mode": mode}
        mask, _ = ASTPruner(cfg, _WIDTH, 1, 2, total // _TIMES).eval().forward_token_gating(x.float())
        wrong += int((mask.flatten(1).sum(1) != kept_count(keep, total)).sum())
    yield Check(show="1", name="clips whose mask keeps another number than k", value=wrong, unit="", rule="==", bound=0)
    yield from agreement_checks(agreement())
    for name in FAULTS:
        yield Check(show="6", name=name, value=float(told(name)), unit="", rule="==", bound=1)


def _trained(config: VideoConfig, record: dict[str, Any]) -> list[Check]:
    minutes, share = record["wall_s"] / 60, record["test"]["keeps"]["token"]
    apart = abs(share - min(PruneConfig.from_dict(config.ast_cfg).schedule.values()))
    name = "token: share kept in the test, distance from the target"
    return [
        Check(show="6", name="the training, with its test", value=minutes, unit="min", rule="<=", bound=_MINUTES),
        Check(show="5", name=name, value=apart, unit="share", rule="<=", bound=_NEAR),
    ]
