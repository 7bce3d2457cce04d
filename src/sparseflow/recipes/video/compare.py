"""What pruning costs in accuracy: dense, pruned and rivals, trained equally long over several seeds, in one table."""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.prune import PruneConfig
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.device import device_of, multiply_as
from sparseflow.recipes.video.checkpoint import load_trained
from sparseflow.recipes.video.config import VideoConfig
from sparseflow.recipes.video.speed import clips_per_s
from sparseflow.recipes.video.train import train_video

__all__ = ["PLAN", "Arm", "compare", "parse_arm", "plan_of", "read_records", "speeds_of", "table_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One side of the comparison.

    Args:
        score: of the pruner; None for the dense network.
        keep: share of the tokens.
        before: block before which the others are left behind; None for that of the settings, or for the first that
            "evit" and "tome" can, which read the attention of the block before.
    """

    score: str | None = None
    keep: float = 1.0
    before: int | None = None

    @property
    def name(self) -> str:
        """What the arm is called, as "motion 0.25 before block 1" or "dense"."""
        if self.score is None:
            return "dense"
        return f"{self.score} {self.keep:g}" + ("" if self.before is None else f" before block {self.before}")


PLAN = (
    Arm(),
    Arm(score="motion", keep=0.25),
    Arm(score="random", keep=0.25),
    Arm(score="motion", keep=0.5),
    Arm(score="motion", keep=0.25, before=1),
    Arm(score="evit", keep=0.25),
    Arm(score="tome", keep=0.25),
    Arm(score="entropy", keep=0.25),
    Arm(score="uniform", keep=0.25),
    Arm(score="random", keep=0.25, before=1),
)
"""What is compared unless asked otherwise, the weightiest first; before block 1 all run equally fast."""
# The part of the entropies that is change: ahead of the others on digits held back, the test still closed.
_OURS = "motion"
_READ_ATTENTION = ("evit", "tome")
# One score for each token, not one a place and one a frame; regions would spread what moves over what does not.
_OWN: dict[str, dict[str, Any]] = {
    "motion": {"entropy_mode": "sliding", "region_weight": 0.0},
    "entropy": {"entropy_mode": "sliding"},
}
_TIMED = 64
_DENSE, _DROPS, _BEATS, _SEEDS = 0.90, {0.5: 0.01, 0.25: 0.03}, 0.03, 3


def parse_arm(text: str) -> Arm:
    """Return the arm of a text as "dense", "motion:0.25", or "motion:0.25:1" with the block.

    Raises:
        ConfigError: it is neither.

    >>> parse_arm("motion:0.25").name, parse_arm("motion:0.25:1").name
    ('motion 0.25', 'motion 0.25 before block 1')
    """
    if text == "dense":
        return Arm()
    try:
        score, share, *block = text.split(":")
        (before,) = map(int, block) if block else (None,)
        return Arm(score=score, keep=float(share), before=before)
    except ValueError as e:
        raise ConfigError(f"{text!r} is no arm; write dense, or a score and a share as motion:0.25") from e


def plan_of(config: VideoConfig, arms: Sequence[Arm], seeds: Sequence[int]) -> list[VideoConfig]:
    """Return the trainings of a comparison, all arms of a seed after one another; each is as long as the dense one.

    Pruned networks train as they run later, with hard gates, unless `ast_cfg` of `config` says otherwise. Of "jhmdb"
    seed s trains on split s modulo 3, plus 1.

    Args:
        config: what all have in common.
        arms: what is compared.
        seeds: of weights and clips.

    Raises:
        ConfigError: no arm, no dense one, no seed, or one twice.
    """
    if Arm() not in arms or len(set(arms)) != len(arms) or not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError("a comparison needs the arm dense, others, and seeds, none of them twice")
    runs = []
    for seed in seeds:
        split = seed % 3 + 1 if config.dataset == "jhmdb" else config.split
        for arm in arms:
            given: dict[str, Any] = {"mode": "dense_baseline", "ast_cfg": {}, "name": None}
            if arm.score is not None:
                given = {"mode": "single_device_ast", "ast_cfg": _cfg(arm, config), "name": None}
                if arm.before is not None:
                    given["name"] = f"{config.dataset}_{arm.score}_keep{arm.keep:g}_before{arm.before}"
            runs.append(replace(config, seed=seed, split=split, **given))
    return runs


def _cfg(arm: Arm, config: VideoConfig) -> dict[str, Any]:
    before = config.ast_cfg.get("prune_before", PruneConfig().prune_before) if arm.before is None else arm.before
    if arm.before is None and arm.score in _READ_ATTENTION:
        before = max(before, 1)
    own = _OWN.get(arm.score or "", {})
    return {"gate": "hard", **own, **config.ast_cfg, "prune_before": before, "score": arm.score, "keep": arm.keep}


def compare(
    config: VideoConfig,
    *,
    arms: Sequence[Arm] = PLAN,
    seeds: Sequence[int] = (0, 1, 2),
    say: Callable[[str], None] = lambda _: None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train what is not trained yet, and return `table_of` all records.

    Args:
        config: what all trainings have in common.
        arms: what is compared.
        seeds: of weights and clips.
        say: is told each result as it comes.
        progress: show a bar for each training.

    Raises:
        ConfigError: see `plan_of`, or a folder holds another run.
        DataError: data, or a record that is there, cannot be read.
        MeasurementError: a loss is no longer finite.
    """
    records = []
    for run in plan_of(config, arms, seeds):
        done = run.folder / "record.json"
        record = read_records([done])[0] if done.is_file() else None
        if record is None or VideoConfig.from_dict(record["config"]).to_dict() != run.to_dict():
            record = train_video(run, progress=progress)
        records.append(record)
        test = record["test"]
        say(f"{run.title}, seed {run.seed}: {100 * test['top1']:.2f} % of {test['videos']}, {record['train_s']:.0f} s")
    return table_of(records, speeds_of(records, device=config.device))


def speeds_of(
    records: Sequence[Mapping[str, Any]], *, device: str = "auto", batch: int = _TIMED
) -> dict[str, dict[str, float]]:
    """Return clips a second by data set and arm: a network of each, in the precision of its training, side by side.

    Args:
        records: of trainings whose checkpoints still lie where they were written.
        device: "auto", "cpu" or "cuda".
        batch: clips a call.

    Raises:
        DataError: a checkpoint cannot be read; names it.
    """
    where, found = device_of(device), {}
    for dataset in dict.fromkeys(r["dataset"] for r in records):
        files = {_arm(r).name: r["file"] for r in reversed(records) if r["dataset"] == dataset}
        nets = {arm: load_trained(files[arm]) for arm in sorted(files)}
        a = next(iter(nets.values())).model.args
        clips = torch.randn(batch, a.num_frames, a.in_chans, a.img_size, a.img_size, device=where)
        with multiply_as(next(iter(nets.values())).config.precision, where, auto="bfloat16") as cast:
            found[dataset] = clips_per_s({arm: t.model.to(where) for arm, t in nets.items()}, clips, cast=cast)
    return found


def read_records(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Return the records of files, or of all runs in folders, in the order of their paths.

    Raises:
        DataError: nothing there, or a file that is no record of a training; names it.
    """
    records = []
    for path in map(Path, paths):
        files = sorted(path.glob("**/record.json")) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path} holds no record.json; make some with: sparseflow video compare")
        for file in files:
            try:
                record = json.loads(file.read_text(encoding="utf-8"))
                record["test"]["top1"], record["config"]["ast_cfg"], record["mode"]
            except (OSError, ValueError, KeyError, TypeError) as e:
                raise DataError(f"{file} is no record of a video training: {e}") from e
            records.append(record)
    return records


def table_of(
    records: Sequence[Mapping[str, Any]], speeds: Mapping[str, Mapping[str, float]] | None = None
) -> dict[str, Any]:
    """Return rows by arm, and the checks of the comparison, of each data set.

    A drop is the mean over the seeds that both have; its interval of 95 % is Student's over the seeds' differences
    where there are two or more. All videos of all seeds together give each arm's Wilson interval.

    Args:
        records: of trainings that are equal but for arm and seed.
        speeds: of `speeds_of`.

    Returns:
        `rows`, one an arm and data set: name, seeds, top1, stdev, low, high, drop, keep, seconds, clips a second or
        None; `checks` and `ok`; `runs`, the records without their lines by epoch.

    Raises:
        ConfigError: no record, or no dense one of a data set.
    """
    checks: list[Check] = []
    rows: list[dict[str, Any]] = []
    for dataset in dict.fromkeys(r["dataset"] for r in records):
        arms: dict[Arm, dict[int, Mapping[str, Any]]] = {}
        for r in records:
            if r["dataset"] == dataset:
                arms.setdefault(_arm(r), {})[int(r["seed"])] = r
        if Arm() not in arms:
            raise ConfigError(f"there is no dense training of {dataset} to compare with")
        found = {arm: _row(dataset, arm, runs, arms[Arm()]) for arm, runs in arms.items()}
        for row in found.values():
            row["clips_per_s"] = (speeds or {}).get(dataset, {}).get(row["arm"])
        rows += found.values()
        if dataset == "digits":
            checks += _checks(found)
    if not rows:
        raise ConfigError("there is no record to compare")
    shared = {name: sorted({str(r[name]) for r in records}) for name in ("device", "commit")}
    body = checks_body(checks) if checks else {"checks": [], "ok": True}
    runs = [{k: v for k, v in r.items() if k != "history"} for r in records]
    # Of the trainings, which may have run elsewhere than the comparison does.
    where = {"device": ", ".join(shared["device"])}
    for name in sorted({name for r in records for name in r.get("versions", {})}):
        where[name] = ", ".join(sorted({str(r["versions"][name]) for r in records if name in r.get("versions", {})}))
    return {**body, "bench": "video_compare", "environment": where, "rows": rows, **shared, "runs": runs}


def _arm(record: Mapping[str, Any]) -> Arm:
    if record["mode"] == "dense_baseline":
        return Arm()
    cfg = PruneConfig.from_dict(record["config"]["ast_cfg"])
    return Arm(score=cfg.score, keep=cfg.keep, before=cfg.prune_before)


def _row(
    dataset: str, arm: Arm, runs: Mapping[int, Mapping[str, Any]], dense: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    tops = [r["test"]["top1"] for r in runs.values()]
    right, videos = (sum(r["test"][k] for r in runs.values()) for k in ("right", "videos"))
    interval = binomtest(right, videos).proportion_ci(0.95, method="wilson")
    drops = [dense[s]["test"]["top1"] - r["test"]["top1"] for s, r in runs.items() if s in dense]
    return {
        "dataset": dataset,
        "synthetic": all(r["synthetic"] for r in runs.values()),
        "arm": arm.name,
        "seeds": sorted(runs),
        "top1": statistics.mean(tops),
        "stdev": statistics.stdev(tops) if len(tops) > 1 else None,
        "low": float(interval.low),
        "high": float(interval.high),
        "drop": statistics.mean(drops) if drops else None,
        "drop_interval": _student(drops),
        "keep": statistics.mean(r["test"]["keeps"]["token"] for r in runs.values()),
        "train_s": statistics.mean(r["train_s"] for r in runs.values()),
    }


def _student(values: Sequence[float]) -> list[float] | None:
    """Return the interval of 95 % of a mean of normal values, or None of fewer than two."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.mean(values)
    return [mean - half, mean + half]


def _checks(rows: Mapping[Arm, Mapping[str, Any]]) -> list[Check]:
    dense, held = rows[Arm()]["top1"], [Arm()]
    lost = {arm: float("nan") if row["drop"] is None else 100 * row["drop"] for arm, row in rows.items()}
    checks = [Check(show="4", name="digits: dense, top-1", value=100 * dense, unit="%", rule=">=", bound=100 * _DENSE)]
    # Of several blocks the first: it saves most.
    before = min((a.before or 0 for a in rows if a.score == _OURS), default=0)
    for keep, bound in _DROPS.items():
        if (arm := Arm(score=_OURS, keep=keep, before=before)) in rows:
            held.append(arm)
            name = f"digits: top-1 lost at keep {keep:g}, {_OURS}"
            checks.append(Check(show="4", name=name, value=lost[arm], unit="points", rule="<=", bound=100 * bound))
    best, rival = (Arm(score=s, keep=0.25, before=before) for s in (_OURS, "random"))
    if best in rows and rival in rows:
        held.append(rival)
        name, gain = f"digits: {_OURS} over random at keep 0.25", lost[rival] - lost[best]
        checks.append(Check(show="4", name=name, value=gain, unit="points", rule=">=", bound=100 * _BEATS))
    fewest = min(len(rows[arm]["seeds"]) for arm in held)
    checks.append(
        Check(show="4", name="digits: seeds of each of these", value=fewest, unit="", rule=">=", bound=_SEEDS)
    )
    return checks
