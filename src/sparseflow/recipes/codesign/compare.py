"""A joint design against its rivals, from one trained start a seed: two stages, and four fixed chips."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from sparseflow.hardware.system import Predictor
from sparseflow.recipes.codesign.config import CodesignConfig
from sparseflow.recipes.codesign.log import read_stats
from sparseflow.recipes.codesign.run import codesign
from sparseflow.recipes.commit import commit
from sparseflow.recipes.video.train import train_video

__all__ = ["ARMS", "compare", "largest_rise"]

ARMS = ("full", "two_stage", "fixed4", "two_stage_matched")
"""What is compared; the last one is told the shares that the full design found."""


def compare(
    config: CodesignConfig,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    predictor: Predictor | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run all arms over seeds, each from the same dense network of that seed, and return what they came to.

    Runs that are there with the same settings, made at the same commit, are read and not repeated.

    * full: A to D in turn, the hardware's bill in the loss.
    * two_stage: the same steps of A without that bill, then chips, mapping and placement for what came out.
    * fixed4: A, C and D in turn with the bill, on four big cores.
    * two_stage_matched: as two_stage, its target for tokens set to the share that full kept. It is no rival that exists
      before full has run; it shows what of the gain is that share.

    Args:
        config: of the full arm; its folder holds all runs.
        seeds: of everything.
        predictor: see `codesign`.
        say: told about progress.

    Returns:
        `rows`, one for each arm and seed with EDP (mJ·ms), accuracy, shares, chips and area; `means` by arm, EDP as
        the geometric mean; `rise`, the largest rise of the objective over B, C and D in any log; `oscillation`, the
        largest.
    """
    rows: list[dict[str, Any]] = []
    rises, swings = [], []
    for seed in seeds:
        start = _start(config, seed, say)
        base = replace(config, seed=seed, video=replace(config.video, init_from=start))
        keep: float | None = None
        for arm in ARMS:
            chosen = _arm(base, arm, keep)
            body = _run(chosen, predictor, say)
            if arm == "full":
                keep = body["keeps"]["token"]
            rises.append(largest_rise(body["log"]))
            swings.append(body["oscillation"])
            rows.append(
                {
                    "arm": arm, "seed": seed, "edp": body["figures"]["edp"], "top1": body["test"]["top1"],
                    "latency_ms": body["figures"]["latency_ms"], "energy_mj": body["figures"]["energy_mj"],
                    "area_mm2": body["figures"]["area_mm2"], "chips": round(body["figures"]["chips"]),
                    "keeps": body["keeps"],
                }
            )  # fmt: skip
            say(f"seed {seed}, {arm}: EDP {rows[-1]['edp']:.4g} mJ·ms, top-1 {rows[-1]['top1']:.4f}")
    means = {
        arm: {
            "edp": statistics.geometric_mean(r["edp"] for r in rows if r["arm"] == arm),
            "top1": statistics.fmean(r["top1"] for r in rows if r["arm"] == arm),
        }
        for arm in ARMS
    }
    return {"rows": rows, "means": means, "rise": max(rises), "oscillation": max(swings)}


def largest_rise(log: str | Path) -> float:
    """Return the largest rise of the hard objective from one line to the next within B, C and D; 0 without any."""
    lines = read_stats(log)
    return max((b.objective - a.objective for a, b in pairwise(lines) if b.phase in ("B", "C", "D")), default=0.0)


def _arm(base: CodesignConfig, arm: str, keep: float | None) -> CodesignConfig:
    if arm == "full":
        return replace(base, name=arm)
    if arm == "fixed4":
        return replace(base, mode="multi_chip_fixed", name=arm)
    if arm == "two_stage_matched":
        cfg = {**base.video.ast_cfg, "keep": keep}
        return replace(base, two_stage=True, name=arm, video=replace(base.video, ast_cfg=cfg))
    return replace(base, two_stage=True, name=arm)


def _start(config: CodesignConfig, seed: int, say: Callable[[str], None]) -> str:
    """Return the file of the dense network of a seed, trained as long as its settings say."""
    dense = replace(
        config.video, mode="dense_baseline", ast_cfg={}, seed=seed, out=config.out, name="dense", init_from=None
    )  # fmt: skip
    file = dense.folder / "video.safetensors"
    if not _same(dense.folder / "record.json", dense.to_dict(all=True)):
        say(f"seed {seed}: training the dense start")
        train_video(dense, progress=False)
    return str(file)


def _run(config: CodesignConfig, predictor: Predictor | None, say: Callable[[str], None]) -> dict[str, Any]:
    file = config.folder / "codesign.json"
    if predictor is None and _same(file, config.to_dict()):
        body: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return body
    return codesign(config, predictor=predictor, say=say)


def _same(file: Path, settings: dict[str, Any]) -> bool:
    """Return whether a finished run with these settings is there, of this very commit."""
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        return bool(body["config"] == settings and body["commit"] == commit())
    except (OSError, ValueError, KeyError):
        return False
