"""The claim on accuracy: results of several seeds against their INT8 network, on test images that are opened once."""

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseflow.compress.approximate import TriSegResult, cost_of
from sparseflow.compress.quantize import to_program
from sparseflow.data import ImageSet
from sparseflow.data.splits import Splits, open_splits
from sparseflow.errors import ConfigError, DataError, UnsupportedError
from sparseflow.ops.int8_net import Engine
from sparseflow.ops.int8_net.cpp import ABSENT
from sparseflow.ops.triseg import tables
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.triseg.analyze import accuracy
from sparseflow.recipes.triseg.config import check_choice
from sparseflow.recipes.triseg.problem import device_named, inputs_of
from sparseflow.recipes.triseg.teacher import Teacher, load_teacher
from sparseflow.recipes.triseg.weights import weights_of
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic

__all__ = ["CLAIMS", "AccuracyConfig", "Claim", "Mean", "accuracy_bench", "mean_of"]

_SPLITS = ("test", "val")
_AT_ONCE = 500
PROTOCOL = (
    "The split is opened once, after everything was chosen on training images; every network is an integer network. A "
    "drop is against the INT8 network that the search or the fine-tuning started from, on the same images. A mean has "
    "the half width of its 95 % confidence interval, by Student's t over the seeds. Bits and multiplies are counted on "
    "calibration images where layers read the codes."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is claimed of a network, in percent and points.

    Args:
        teacher: least accuracy of the INT8 network; None for no claim.
        frozen: greatest drop with the weights as they were.
        tuned: greatest drop after fine-tuning, codes beyond tmax kept.
        saturated: greatest drop after fine-tuning with 2 bits.
        bits: most bits an activation.
        avoided: least share of multiplies saved where approximated codes are read.
    """

    teacher: float | None = None
    frozen: float = 2.0
    tuned: float = 0.5
    saturated: float = 1.0
    bits: float = 2.6
    avoided: float = 0.9


CLAIMS: Mapping[str, Claim] = {
    "alexnet": Claim(teacher=90.0),
    "vgg16": Claim(teacher=93.0, frozen=1.0),
}
"""By the name of the network, and of each all three drops; others have the claims of `Claim` on what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyConfig:
    """Which results are measured.

    Args:
        model: name of the zoo, `file.py:function`, or the path of a checkpoint.
        results: results of searches, one a seed.
        tuned: results of fine-tuning; the checkpoint of each lies in `checkpoints` under its name.
        checkpoints: folder of the checkpoints.
        data: CIFAR-10, as `data.cifar10` takes it; None for the images that ship with sparseflow.
        split: "test", or "val" for a trial that leaves the test images sealed.
        counted: calibration images on which bits and multiplies are counted.
        report: file for the JSON, or None.
        device: "auto", "cpu" or "cuda".
        split_seed: seed of the division of the images.

    Raises:
        ConfigError: no result, no such split or device, or nothing to count on.
    """

    model: str = "alexnet"
    results: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ()
    checkpoints: str = "outputs"
    data: str | None = None
    split: str = "test"
    counted: int = 256
    report: str | None = None
    device: str = "auto"
    split_seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        check_choice(self, "split", _SPLITS)
        check_choice(self, "device", ("auto", "cpu", "cuda"))
        if not self.results and not self.tuned:
            raise ConfigError("there is no result to measure; name some, one a seed")
        if self.counted < 1:
            raise ConfigError(f"counted is {self.counted}; expected 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean over seeds.

    Args:
        mean: of the values.
        half_width: of the 95 % confidence interval; None with one value.
        values: one a seed.
    """

    mean: float
    half_width: float | None
    values: tuple[float, ...]


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of some values and the half width of its confidence interval, t(0.975, n − 1)·s/√n.

    >>> found = mean_of([1.0, 2.0, 3.0])
    >>> found.mean, round(found.half_width, 3)
    (2.0, 2.484)
    """
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return Mean(mean=values[0], half_width=None, values=tuple(values))
    width = float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return Mean(mean=statistics.fmean(values), half_width=width, values=tuple(values))


def accuracy_bench(config: AccuracyConfig, *, splits: Splits | None = None) -> dict[str, Any]:
    """Measure all results of a network, and hold their means against what is claimed of it.

    Args:
        config: which.
        splits: images already opened; None opens `config.data`.

    Returns:
        `{"checks": [...], "ok": ..., "rows": [...], "means": {...}, ...}`.

    Raises:
        ConfigError: no such network or device.
        DataError: a checkpoint, a result or the images cannot be read or do not fit; names file and mend.
    """
    began = time.perf_counter()
    device = device_named(config.device)
    if config.report is not None:
        prepare_folder(Path(config.report).parent)
    teacher = load_teacher(config.model, config.checkpoints, device=device)
    jobs = [(teacher, _read(path, teacher), path, False) for path in config.results]
    for path in config.tuned:
        tuned = weights_of(
            TriSegResult.read(path), path, model=config.model, out=config.checkpoints, device=device, tuned=True
        ).teacher
        if tuned.name != teacher.name:
            raise DataError(f"{path} is for network {tuned.name!r}, not {teacher.name!r}; name results of one network")
        jobs.append((tuned, _read(path, tuned), path, True))
    parts = open_splits(config.data, seed=config.split_seed) if splits is None else splits
    images = (
        parts.test.open(f"accuracy of {len(jobs)} results of {teacher.name}") if config.split == "test" else parts.val
    )
    calib = parts.calib.take(min(config.counted, len(parts.calib)))
    whole = _accuracy(teacher, images)
    rows = [_row(net, result, path, tuned, whole, images, calib) for net, result, path, tuned in jobs]
    groups = {kind: [row for row in rows if row["kind"] == kind] for kind in ("frozen", "tuned", "saturated")}
    means = {kind: _means(found) for kind, found in groups.items() if found}
    body = checks_body(
        _checks(teacher.name, whole, means),
        bench="triseg accuracy",
        protocol=PROTOCOL,
        model=teacher.name,
        acc_teacher=whole,
        images=len(images),
        split=images.split,
        sites=list(teacher.names),
        rows=rows,
        means={kind: {key: asdict(m) for key, m in found.items()} for kind, found in means.items()},
        environment=describe(),
        wall_s=time.perf_counter() - began,
    )
    if config.report is not None:
        write_atomic(config.report, json.dumps(body, indent=1, allow_nan=False) + "\n")
    return body


def _read(path: str, teacher: Teacher) -> TriSegResult:
    return TriSegResult.read(path, names=teacher.names, model=teacher.name)


def _accuracy(teacher: Teacher, images: ImageSet, codes: Mapping[str, Tensor] | None = None) -> float:
    """Return the share of right answers, in percent, by the compiled engine where it gives the same bits."""
    engine = _engine(teacher, codes or {})
    if engine is None:
        return accuracy(teacher, images, codes)
    x, y = inputs_of(teacher, images), images.labels
    batches = zip(torch.split(x, _AT_ONCE), torch.split(y, _AT_ONCE), strict=True)
    right = sum(int((engine(some).reshape(len(some), -1).argmax(1) == classes).sum()) for some, classes in batches)
    return 100 * right / len(images)


def _engine(teacher: Teacher, codes: Mapping[str, Tensor]) -> Engine | None:
    """Return the engine of a network on the CPU; None where there is none, or a mean of logits would round apart."""
    if ABSENT is not None or next(teacher.net.buffers()).is_cuda:
        return None
    try:
        program = to_program(teacher.net, codes)
    except UnsupportedError:
        return None
    return None if any(step.op == "real_mean" for step in program.steps) else Engine(program)


def _row(
    teacher: Teacher,
    result: TriSegResult,
    path: str,
    tuned: bool,
    whole: float,
    images: ImageSet,
    calib: ImageSet,
) -> dict[str, Any]:
    codes = result.codes(teacher.names)
    share = _accuracy(teacher, images, dict(zip(teacher.points, tables(codes, result.overflow), strict=True)))
    x = torch.split(inputs_of(teacher, calib), 64)
    cost = cost_of(teacher.net, teacher.sites, codes, x, mode=result.overflow)
    kind = ("tuned" if result.overflow == "pass" else "saturated") if tuned else "frozen"
    return {
        "result": Path(path).name, "kind": kind, "overflow": result.overflow, "accuracy": share,
        "drop": round(whole - share, 9), "selected": result.metrics.acc_drop,
        "bits": cost.bits_per_activation, "avoided": cost.multiplies_avoided,
        "avoided_whole": cost.multiplies_avoided_whole, "zero_skipping_avoided": cost.zero_skipping_avoided,
        "energy_j": {machine.name: machine.energy_j for machine in cost.machines},
    }  # fmt: skip


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mean]:
    return {key: mean_of([float(row[key]) for row in rows]) for key in ("accuracy", "drop", "bits", "avoided")}


def _checks(name: str, whole: float, means: Mapping[str, Mapping[str, Mean]]) -> list[Check]:
    claim = CLAIMS.get(name, Claim())
    checks = []

    def add(what: str, value: float, unit: str, rule: str, bound: float) -> None:
        checks.append(Check(show="1", name=f"{name}: {what}", value=value, unit=unit, rule=rule, bound=bound))

    if claim.teacher is not None:
        add("INT8 accuracy", whole, "%", ">=", claim.teacher)
    said = {"frozen": "frozen", "tuned": "fine-tuned", "saturated": "fine-tuned, 2 bits"}
    for kind, found in means.items():
        drop, seeds = found["drop"], len(found["drop"].values)
        over = f"mean drop over {seeds} seeds, " if seeds > 1 else "drop, "
        add(over + said[kind], drop.mean, "points", "<=", getattr(claim, kind))
        add(f"bits an activation, {said[kind]}", found["bits"].mean, "bits", "<=", claim.bits)
        add(f"multiplies saved, {said[kind]}", found["avoided"].mean, "", ">=", claim.avoided)
    if name in CLAIMS:
        for kind, words in said.items():
            if kind not in means:
                add(f"drop, {words}: no result given", math.nan, "points", "<=", getattr(claim, kind))
    return checks
