"""Looks at a trained network on codes: how its codes are spread, what a tmax covers, which layers bear a change.

Each analysis is a table of one row a layer, as JSON and as CSV, in the folder of the outputs.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseflow.compress.approximate import (
    Histograms,
    TmaxRule,
    TriSegResult,
    clamp_codes,
    coverage,
    percentile_codes,
    segment_error,
)
from sparseflow.compress.quantize import IntegerNet
from sparseflow.compress.quantize.integer import Edit
from sparseflow.data import ImageSet
from sparseflow.data.splits import Splits, open_splits
from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.triseg import CODES, NAMES, SegmentMap, tables
from sparseflow.recipes.device import device_of
from sparseflow.recipes.triseg.teacher import Teacher, load_teacher
from sparseflow.report import prepare_folder, write_atomic

__all__ = [
    "ANALYSES",
    "BUCKETS",
    "Analysis",
    "AnalyzeConfig",
    "accuracy",
    "analyze",
    "collect",
    "percentile_map",
    "pick_images",
    "teacher_of",
]

PERCENTILES = (20, 40, 60, 80)
BUCKETS = SegmentMap(thresholds=(4, 11, 17), values=(4, 8, 14))
"""The earlier project's demonstration: 1..4 become 4, 5..11 become 8, 12..17 become 14, the others stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzeConfig:
    """One analysis of one network.

    Args:
        model: name of the zoo, `file.py:function`, or the path of a checkpoint.
        out: folder of the checkpoints, and of what is written.
        data: CIFAR-10, as `data.cifar10` takes it; None for the images that ship with sparseflow.
        batch_size: images of a batch.
        batches: how many of them; None for all there are.
        split: "train", "calib", "val", or "test", which is then opened.
        val: images for selection, as the training had them set apart; None for the default of `open_splits`.
        calib: images for calibration, likewise.
        split_seed: seed of the division, likewise.
        device: "auto", "cpu" or "cuda".
        tmax: how tmax is chosen where no result file is given.
        config_path: a result file of a search; None takes percentiles.
        ignore_zeros: leave code 0 out of coverage.

    Raises:
        ConfigError: a number below 1, or no such split.
    """

    model: str = "vgg16"
    out: str = "outputs"
    data: str | None = None
    batch_size: int = 128
    batches: int | None = 20
    split: str = "train"
    val: int | None = None
    calib: int | None = None
    split_seed: int = 0
    device: str = "auto"
    tmax: TmaxRule = field(default_factory=TmaxRule)
    config_path: str | None = None
    ignore_zeros: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.batch_size < 1 or (self.batches is not None and self.batches < 1):
            raise ConfigError(f"batch_size is {self.batch_size}, batches {self.batches}; expected 1 or more")
        if self.split not in ("train", "calib", "val", "test"):
            raise ConfigError(f"split is {self.split!r}; expected train, calib, val or test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What an analysis found.

    Args:
        kind: its name, as "coverage".
        model: name of the network.
        images: how many were looked at.
        split: which.
        rows: one a layer, in order; the same keys in each, "layer" first.
        notes: totals by name.
    """

    kind: str
    model: str
    images: int
    split: str
    rows: tuple[Mapping[str, Any], ...]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "analysis": self.kind, "model": self.model, "images": self.images, "split": self.split,
            **self.notes, "layers": [dict(row) for row in self.rows],
        }  # fmt: skip

    def to_csv(self) -> str:
        """Return the rows as CSV, with their keys above."""
        out = io.StringIO()
        writer = csv.DictWriter(out, list(self.rows[0]) if self.rows else ["layer"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return out.getvalue()

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write `{model}_{kind}.json` and `.csv`, each whole or not at all.

        Raises:
            DataError: the folder cannot be written.
        """
        path = prepare_folder(folder) / f"{self.model}_{self.kind}"
        body = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        return write_atomic(path.with_suffix(".json"), body), write_atomic(path.with_suffix(".csv"), self.to_csv())


def analyze(kind: str, config: AnalyzeConfig, *, splits: Splits | None = None) -> Analysis:
    """Load the network and the images, and run one of `ANALYSES`.

    Args:
        kind: "variance", "percentiles", "coverage" or "sensitivity".
        config: what to look at.
        splits: images already opened; None opens `config.data`.

    Raises:
        ConfigError: no such analysis or network.
        DataError: no checkpoint, no images, or a result file that does not fit.
    """
    if kind not in ANALYSES:
        raise ConfigError(f"no analysis {kind!r}; there are {', '.join(ANALYSES)}")
    return ANALYSES[kind](teacher_of(config), pick_images(config, splits, kind), config)


def teacher_of(config: AnalyzeConfig) -> Teacher:
    """Return the network of a configuration on its device.

    Raises:
        ConfigError: no such network or device.
        DataError: no checkpoint.
    """
    return load_teacher(config.model, config.out, device=device_of(config.device))


def pick_images(config: AnalyzeConfig, splits: Splits | None, purpose: str) -> ImageSet:
    """Return the images of a configuration's split, as many as its batches hold at most."""
    if splits is None:
        splits = open_splits(config.data, val=config.val, calib=config.calib, seed=config.split_seed)
    images = splits.test.open(purpose) if config.split == "test" else getattr(splits, config.split)
    assert isinstance(images, ImageSet)
    if config.batches is None:
        return images
    return images.take(min(len(images), config.batches * config.batch_size))


@torch.no_grad()
def collect(teacher: Teacher, images: ImageSet, batch_size: int = 128) -> Histograms:
    """Count the codes of every site.

    Args:
        teacher: the network.
        images: what it reads.
        batch_size: images of a batch.

    Raises:
        DataError: the images are of another shape than the network reads.
    """
    found = Histograms(teacher.names)
    for x, _ in _batches(teacher, images, batch_size):
        codes = teacher.net.codes(x, points=teacher.points)
        for site in teacher.sites:
            found.add(site.name, codes[site.node])
    return found


@torch.no_grad()
def accuracy(
    teacher: Teacher,
    images: ImageSet,
    codes: Mapping[str, Tensor] | None = None,
    *,
    edits: Mapping[str, Edit] | None = None,
    batch_size: int = 128,
) -> float:
    """Return the share of right answers, in percent.

    Args:
        teacher: the network.
        images: labelled images.
        codes: uint8 tables `[256]` by the node of a site; None or empty leaves the network as it is.
        edits: functions on codes by the node of a site.
        batch_size: images of a batch.
    """
    given = {node: table[None] for node, table in (codes or {}).items()}
    right = 0
    for x, y in _batches(teacher, images, batch_size):
        right += int((teacher.net(x, edits=edits, tables=given).argmax(1).cpu() == y).sum())
    return 100 * right / len(images)


def percentile_map(counts: Tensor, rule: TmaxRule) -> Tensor:
    """Return the codes of the percentile map: t1, v1, t2, v2 at 20, 40, 60 and 80 % of the codes other than 0.

    Where percentiles fall together they are moved apart, so that the codes stay in order.

    Args:
        counts: int64 `[L, 256]`.
        rule: chooses tmax.

    Returns:
        int64 `[L, 5]`.
    """
    found = [percentile_codes(counts, p) for p in PERCENTILES]
    return clamp_codes(torch.stack([*found, rule(counts)], -1))


def _variance(teacher: Teacher, images: ImageSet, config: AnalyzeConfig) -> Analysis:
    counts = collect(teacher, images, config.batch_size).counts.double()
    q = torch.arange(CODES, dtype=torch.float64)
    n = counts.sum(-1).clamp(min=1)
    mean = (counts * q).sum(-1) / n
    variance = (counts * (q - mean[:, None]).square()).sum(-1) / n
    largest = ((counts > 0) * torch.arange(CODES)).amax(-1)
    rows = tuple(
        {
            "layer": site.name, "mean": float(m), "variance": float(v), "std": float(v) ** 0.5, "zeros": float(z),
            "largest": int(top), "scale": teacher.net.point(site.node).spec.scale,
            "variance_real": float(v) * teacher.net.point(site.node).spec.scale ** 2,
        }
        for site, m, v, z, top in zip(teacher.sites, mean, variance, counts[:, 0] / n, largest, strict=True)
    )  # fmt: skip
    return _analysis("variance", teacher, images, rows)


def _percentiles(teacher: Teacher, images: ImageSet, config: AnalyzeConfig) -> Analysis:
    counts = collect(teacher, images, config.batch_size).counts
    columns = {f"p{p}": percentile_codes(counts, p) for p in (*PERCENTILES, 90, 100)}
    columns["tmax"] = config.tmax(counts)
    rows = tuple(
        {"layer": name, **{key: int(column[i]) for key, column in columns.items()}}
        for i, name in enumerate(teacher.names)
    )
    return _analysis("percentiles", teacher, images, rows)


def _coverage(teacher: Teacher, images: ImageSet, config: AnalyzeConfig) -> Analysis:
    counts = collect(teacher, images, config.batch_size).counts
    given = _given(teacher, config)
    tmax = config.tmax(counts) if given is None else given[0][:, 4]
    share = coverage(counts, tmax, ignore_zeros=config.ignore_zeros)
    rows = tuple(
        {"layer": name, "tmax": int(t), "coverage": float(s), "beyond": 1 - float(s)}
        for name, t, s in zip(teacher.names, tmax, share, strict=True)
    )
    return _analysis("coverage", teacher, images, rows, ignore_zeros=config.ignore_zeros, mean=float(share.mean()))


def _sensitivity(teacher: Teacher, images: ImageSet, config: AnalyzeConfig) -> Analysis:
    counts = collect(teacher, images, config.batch_size).counts
    given = _given(teacher, config)
    codes, mode = (percentile_map(counts, config.tmax), "pass") if given is None else given
    made = dict(zip(teacher.points, tables(codes, mode), strict=True))
    error = segment_error(counts, codes, mode=mode) / counts.sum(-1).clamp(min=1)

    def measured(chosen: Mapping[str, Tensor]) -> float:
        return accuracy(teacher, images, chosen, batch_size=config.batch_size)

    whole, together = measured({}), measured(made)
    rows = []
    for i, site in enumerate(teacher.sites):
        alone = measured({site.node: made[site.node]})
        without = measured({node: table for node, table in made.items() if node != site.node})
        rows.append(
            {
                "layer": site.name, **dict(zip(NAMES, codes[i].tolist(), strict=True)),
                "squared_error": float(error[i]), "accuracy": alone, "drop": whole - alone,
                "accuracy_all_others": without, "gain_if_left_out": without - together,
            }
        )  # fmt: skip
    return _analysis(
        "sensitivity", teacher, images, tuple(rows), map=config.config_path or "percentile", overflow=mode,
        acc_teacher=whole, acc_all=together, drop_all=whole - together,
    )  # fmt: skip


_Kind = Callable[[Teacher, ImageSet, AnalyzeConfig], Analysis]
ANALYSES: Mapping[str, _Kind] = {
    "variance": _variance,
    "percentiles": _percentiles,
    "coverage": _coverage,
    "sensitivity": _sensitivity,
}
"""What can be asked, by the name of its command."""


def _analysis(
    kind: str, teacher: Teacher, images: ImageSet, rows: Sequence[Mapping[str, Any]], **notes: Any
) -> Analysis:
    return Analysis(
        kind=kind, model=teacher.name, images=len(images), split=images.split, rows=tuple(rows), notes=notes
    )


def _given(teacher: Teacher, config: AnalyzeConfig) -> tuple[Tensor, str] | None:
    if config.config_path is None:
        return None
    result = TriSegResult.read(config.config_path, names=teacher.names, model=teacher.name)
    return result.codes(teacher.names), result.overflow


def _batches(teacher: Teacher, images: ImageSet, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    if tuple(images.images.shape[1:]) != teacher.images.shape:
        raise DataError(
            f"{images.name} has images {tuple(images.images.shape[1:])}; {teacher.source} reads {teacher.images.shape}"
        )
    device = _device(teacher.net)
    as_trained = replace(images, mean=teacher.images.mean, std=teacher.images.std)
    for x, y in as_trained.batches(size):
        yield x.to(device), y


def _device(net: IntegerNet) -> torch.device:
    return next(net.buffers()).device
