"""`sparseflow triseg zoo`: the whole way from nothing to an exported network, for many networks by the same calls."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from sparseflow.data.splits import Splits
from sparseflow.errors import ConfigError, SparseFlowError
from sparseflow.nn import models
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.triseg.checkpoint import network_name
from sparseflow.recipes.triseg.zoo_config import ZooConfig
from sparseflow.recipes.triseg.zoo_row import measured
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic

__all__ = ["ZooConfig", "zoo"]

_LEAST = 6
PROTOCOL = (
    "Every network goes through the same calls: training in float32 and on codes unless its checkpoint is there, a "
    "search over all of its sites, the accuracy of the result, and an export that is run and compared. Nothing is "
    "written for one network. At most 4 % of a layer's codes pass as they are; more where the histograms' optimum "
    "loses more than is allowed, which the bits show. That and the finalists are chosen by the images that the drop is "
    "measured on, unless those are the test images."
)


def zoo(config: ZooConfig, *, splits: Splits | None = None, progress: bool = True) -> dict[str, Any]:
    """Take every network from nothing to an export, and check that all of its sites were approximated.

    A network that one of our errors stops is a failed check, and the others go on.

    Args:
        config: which, and how long.
        splits: images already opened, for one network at a time; trainings open `config.data` themselves.
        progress: show a bar over the networks.

    Returns:
        `{"checks": [...], "ok": ..., "rows": [...], ...}`.

    Raises:
        ConfigError: several processes are to share `splits`.
        DataError: the report cannot be written.
    """
    began = time.perf_counter()
    if splits is not None and config.jobs > 1:
        raise ConfigError("every one of several processes opens its images; give data in place of splits")
    if config.report is not None:
        prepare_folder(Path(config.report).parent)
    shown: dict[str, Any] = {"total": len(config.chosen), "desc": "networks", "disable": None if progress else True}
    if config.jobs > 1:
        threads = max(1, torch.get_num_threads() // config.jobs)
        tasks = [(name, config, threads) for name in config.chosen]
        with ProcessPoolExecutor(config.jobs, mp_context=get_context("spawn")) as pool:
            rows = list(tqdm(pool.map(_apart, tasks), **shown))
    else:
        rows = [_row(name, config, splits) for name in tqdm(config.chosen, **shown)]
    body = checks_body(
        [check for row in rows for check in _checks(row, config)] + _whole(rows, config),
        bench="triseg zoo",
        protocol=PROTOCOL,
        config=asdict(config),
        rows=rows,
        environment=describe(),
        wall_s=time.perf_counter() - began,
    )
    if config.report is not None:
        write_atomic(config.report, json.dumps(body, indent=1, allow_nan=False) + "\n")
    return body


def _apart(task: tuple[str, ZooConfig, int]) -> dict[str, Any]:
    name, config, threads = task
    torch.set_num_threads(threads)
    return _row(name, config, None)


def _row(model: str, config: ZooConfig, splits: Splits | None) -> dict[str, Any]:
    row: dict[str, Any] = {"name": network_name(model), "model": model}
    try:
        return row | measured(model, config, splits)
    except SparseFlowError as e:
        return row | {"error": f"{type(e).__name__}: {e}"}


def _checks(row: dict[str, Any], config: ZooConfig) -> list[Check]:
    name, nan = row["name"], float("nan")
    residual, depthwise = row.get("residual"), row.get("depthwise")
    kind = f"{name}{', residual' if residual else ''}{', depthwise' if depthwise else ''}"
    count = len(row.get("sites", ()))
    rows = [
        ("sites left as they were" + (f", of {count}" if count else ""), float(len(row["left"])) if count else nan,
         "sites", "==", 0.0),
        (f"drop on {row.get('images', 'the')} {config.split} images, INT8 {row.get('acc_teacher', nan):.1f} %",
         float(row.get("drop", nan)), "points", "<=", config.max_acc_drop),
        (f"exported, of {config.exported} images unlike Python's", float(row.get("unequal", nan)), "images", "==", 0.0),
    ]  # fmt: skip
    return [Check(show="1", name=f"{kind}: {n}", value=v, unit=u, rule=r, bound=b) for n, v, u, r, b in rows]


def _whole(rows: Sequence[dict[str, Any]], config: ZooConfig) -> list[Check]:
    """Hold a run over the whole zoo against what is claimed of it."""
    if not set(models.names("convnets")) <= set(config.chosen):
        return []
    done = [row for row in rows if "error" not in row]
    counts = (
        ("networks by one command", len(done), _LEAST),
        ("of them residual", sum(row["residual"] for row in done), 1),
        ("of them depthwise", sum(row["depthwise"] for row in done), 1),
        ("of them a user's own", sum(":" in row["model"] for row in done), 1),
    )
    return [
        Check(show="1", name=name, value=float(count), unit="networks", rule=">=", bound=float(least))
        for name, count, least in counts
    ]
