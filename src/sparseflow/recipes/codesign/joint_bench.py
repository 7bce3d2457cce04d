"""The joint loop held against its targets: rivals over three seeds, logs that only fall, smoke runs."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.codesign.compare import compare, largest_rise
from sparseflow.recipes.codesign.config import CodesignConfig
from sparseflow.recipes.codesign.experiments import EXPERIMENTS, smoke
from sparseflow.recipes.codesign.run import codesign
from sparseflow.recipes.settings import read_settings

__all__ = ["bench"]

_GAIN, _LOST, _SWING, _SMOKE_S, _ROUNDING = 0.10, 0.01, 0.1, 300.0, 1e-9
_RIVALS = {"two_stage": "two stages", "fixed4": "four fixed chips"}


def bench(
    *,
    quick: bool = False,
    say: Callable[[str], None] = lambda _: None,
    configs: str | Path = "configs",
    out: str | Path = "outputs/codesign_joint",
    seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, Any]:
    """Compare the joint loop with its rivals, and run the smoke configuration twice and every experiment once.

    Args:
        quick: one seed, and no experiments.
        say: told about progress.
        configs: folder of the settings.
        out: folder of the comparison's runs; those that are done are not repeated.
        seeds: of the comparison.

    Returns:
        Checks: the joint loop's energy-delay product (geometric mean over seeds) at least 10 % below each rival's, at
        an accuracy at most a point lower; no rise of the hard objective over B, C and D in any log, oscillation at most
        .1; the smoke run within five minutes, its log twice the same; every experiment runs. With the rows.
    """
    folder = Path(configs)
    config = read_settings(CodesignConfig, folder / "vc_digits.yaml", out=str(out))
    body = compare(config, seeds=seeds[:1] if quick else seeds, say=say)
    means, checks = body["means"], []
    for arm, name in _RIVALS.items():
        gain = 1 - means["full"]["edp"] / means[arm]["edp"]
        checks.append(_check(f"EDP, joint against {name}", gain, "share saved", ">=", _GAIN))
        lost = means[arm]["top1"] - means["full"]["top1"]
        checks.append(_check(f"accuracy, {name} less joint", lost, "share", "<=", _LOST))
    small = read_settings(CodesignConfig, folder / "smoke_version_c_ucf101.yaml")
    with tempfile.TemporaryDirectory() as place:
        logs, began = [], time.perf_counter()
        for i in range(2):
            done = codesign(replace(small, out=f"{place}/{i}", video=replace(small.video, data=None)))
            logs.append(Path(done["log"]).read_bytes())
            if i == 0:
                seconds = time.perf_counter() - began
            body["rise"] = max(body["rise"], largest_rise(done["log"]))
        ran = 0 if quick else sum(_runs(e.id, place, folder, say) for e in EXPERIMENTS)
    checks += [
        _check("largest rise of the hard objective in B, C and D", body["rise"], "", "<=", _ROUNDING),
        _check("oscillation, largest", body["oscillation"], "", "<=", _SWING),
        _check("smoke run", seconds, "s", "<=", _SMOKE_S),
        _check("same seed, same log", float(logs[0] == logs[1]), "", "==", 1),
    ]
    if not quick:
        checks.append(_check("experiments that run in smoke size", ran, "", "==", len(EXPERIMENTS)))
    return checks_body(checks, rows=body["rows"], means=means, smoke_s=seconds, proxy=config.proxy)


def _check(name: str, value: float, unit: str, rule: str, bound: float) -> Check:
    return Check(show="5", name=name, value=value, unit=unit, rule=rule, bound=bound)


def _runs(name: str, place: str, configs: Path, say: Callable[[str], None]) -> bool:
    """Run one experiment in smoke size; one that fails is told, and counts as such."""
    try:
        smoke(name, out=f"{place}/smoke", configs=configs)
    except Exception as e:
        # Whatever an experiment dies of must not hide the others.
        say(f"{name} failed: {type(e).__name__}: {e}")
        return False
    say(f"{name} ran")
    return True
