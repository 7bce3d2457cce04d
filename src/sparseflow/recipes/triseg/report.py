"""The page of an approximated network: pictures of its codes and of the search, accuracies, cost in hardware."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from sparseflow import report as pages
from sparseflow.compress.approximate import EnergyTable, TriSegCost, TriSegResult, cost_of, stored_bits
from sparseflow.data import ImageSet, Splits
from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.triseg import NAMES, tables
from sparseflow.recipes.triseg.analyze import AnalyzeConfig, accuracy, collect, pick_images
from sparseflow.recipes.triseg.config import check_choice
from sparseflow.recipes.triseg.problem import device_named
from sparseflow.recipes.triseg.teacher import Teacher
from sparseflow.recipes.triseg.weights import Weights, weights_of

__all__ = ["ReportConfig", "curves_of", "report"]

_COUNTED = 256
_FINALIST_IMAGES = 32
_FINALISTS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """One page.

    Args:
        config_path: result of a search or of fine-tuning.
        model: name of the network, or its checkpoint: a fine-tuned one for a fine-tuned result; None takes the name
            that stands in the result.
        searches: JSON files of searches, whose reward curves and finalists are drawn; None takes the one that made
            the result, if it lies in `out`.
        tuned: results of fine-tuning, to stand in the picture beside this one; the checkpoint of each lies in `out`
            under its name.
        out: folder of the checkpoints.
        folder: where to; None names a folder below `reports/` of `out` after the result.
        data: as for `data.open_splits`.
        split: images of the accuracies; "test" is opened for them.
        images: how many of them; None for all.
        batch_size: images of a batch.
        counted: images on which cost and histograms are counted, from `calib`.
        sensitivity: whether each layer's own drop is measured too, which takes as many evaluations as layers.
        energy: YAML file with the energy of the operations; None for the shipped table.
        device: "auto", "cpu" or "cuda".
        val: images for selection, as the training had them set apart; None for the default of `open_splits`.
        calib: images for calibration, likewise.
        split_seed: seed of the division, likewise.

    Raises:
        ConfigError: a number below 1, no such split or device.
    """

    config_path: str
    model: str | None = None
    searches: tuple[str, ...] | None = None
    tuned: tuple[str, ...] = ()
    out: str = "outputs"
    folder: str | None = None
    data: str | None = None
    split: str = "val"
    images: int | None = None
    batch_size: int = 64
    counted: int = _COUNTED
    sensitivity: bool = False
    energy: str | None = None
    device: str = "auto"
    val: int | None = None
    calib: int | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        check_choice(self, "split", ("train", "calib", "val", "test"))
        check_choice(self, "device", ("auto", "cpu", "cuda"))
        for name in ("images", "batch_size", "counted"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; expected 1 or more")

    @property
    def command(self) -> str:
        """The command line that repeats this page."""
        parts = ["sparseflow", "triseg", "report", self.config_path]
        flags = {"--model": self.model, "--out": self.out, "--data": self.data, "--split": self.split}
        parts += [word for flag, value in flags.items() if value is not None for word in (flag, value)]
        parts += [word for path in self.searches or () for word in ("--search", path)]
        parts += [word for path in self.tuned for word in ("--tuned", path)]
        return shlex.join(parts + (["--sensitivity"] if self.sensitivity else []))


def report(config: ReportConfig, *, splits: Splits | None = None) -> dict[str, Any]:
    """Measure what the page needs and write `report.html` and `report.json`.

    Args:
        config: what to show.
        splits: images already opened; None opens `config.data`.

    Returns:
        The body of `report.json`, with the paths of both files under `files`.

    Raises:
        ConfigError: no such network, or a faulty energy table.
        DataError: the result, the checkpoint, a search or the images cannot be read, or do not fit each other.
    """
    result = TriSegResult.read(config.config_path)
    table = EnergyTable.load(config.energy)
    look = AnalyzeConfig(
        model=config.model or result.model, out=config.out, data=config.data, batch_size=config.batch_size,
        batches=None, split=config.split, val=config.val, calib=config.calib, split_seed=config.split_seed,
        device=config.device,
    )  # fmt: skip
    weights = weights_of(
        result, config.config_path, model=look.model, out=config.out, device=device_named(config.device)
    )
    teacher = weights.teacher
    known = tuple(site for site in teacher.sites if site.name in result.layers)
    names = [site.name for site in known or teacher.sites]
    result = TriSegResult.read(config.config_path, names=names, model=teacher.name)
    left = len(teacher.sites) - len(known)
    teacher = replace(teacher, sites=known)
    own = Path(config.out) / "runs" / "triseg" / Path(config.config_path).stem / "report.json"
    named = config.searches if config.searches is not None else (str(own),) if own.is_file() else ()
    searches = [_search(path) for path in named]
    folder = Path(config.folder or Path(config.out) / "reports" / Path(config.config_path).stem)
    pages.prepare_folder(folder)
    judged = pick_images(look, splits, "report")
    judged = judged.take(None if config.images is None else min(config.images, len(judged)))
    calib = pick_images(replace(look, split="calib"), splits, "report")
    calib = calib.take(min(config.counted, len(calib)))
    run = _run(config, replace(weights, teacher=teacher), result, judged, calib, searches, table)
    beside = tuple(_beside(path, look, judged, calib) for path in config.tuned)
    run = replace(run, findings=(*run.findings, *beside))
    if left:
        run = replace(run, notes=(*run.notes, f"{left} layers that could take three values keep their codes."))
    files = pages.write_triseg(run, folder)
    return {**run.to_dict(), "headline": run.headline, "files": [str(f) for f in files]}


def _run(
    config: ReportConfig,
    weights: Weights,
    result: TriSegResult,
    judged: ImageSet,
    calib: ImageSet,
    searches: Sequence[Mapping[str, Any]],
    table: EnergyTable,
) -> pages.TriSegRun:
    teacher = weights.teacher
    codes, mode = result.codes(teacher.names), result.overflow
    made = dict(zip(teacher.points, tables(codes, mode), strict=True))
    student = accuracy(teacher, judged, made, batch_size=config.batch_size)
    before = _before_tuning(teacher) if weights.base is None else None
    whole = accuracy(weights.base or teacher, judged, batch_size=config.batch_size) if before is None else before
    x = _images(teacher, calib)
    cost = cost_of(teacher.net, teacher.sites, codes, torch.split(x, config.batch_size), mode=mode, table=table)
    drops: dict[str, float] = {}
    if config.sensitivity:
        base = accuracy(teacher, judged, batch_size=config.batch_size)
        for site in teacher.sites:
            alone = accuracy(teacher, judged, {site.node: made[site.node]}, batch_size=config.batch_size)
            drops[site.name] = base - alone
    counts = collect(teacher, calib, config.batch_size).counts
    tuned = weights.tuned
    few = x[:_FINALIST_IMAGES]
    found = pages.Finding(
        name="fine-tuned" if tuned else "chosen",
        bits=stored_bits(teacher.net, teacher.sites, codes, few, mode=mode),
        accuracy=student,
        kind="tuned" if tuned else "chosen",
    )
    finalists = [] if tuned else _finalists(teacher, searches, mode, few)
    return pages.TriSegRun(
        title=f"{teacher.name} on {'CIFAR-10' if judged.name == 'cifar10' else judged.name}",
        model=teacher.name,
        acc_teacher=whole,
        acc_student=student,
        split=judged.split,
        images=len(judged),
        selection=result.selection,
        overflow=mode,
        sites=tuple(
            _site(name, counts[i].tolist(), codes[i].tolist(), cost, drops.get(name))
            for i, name in enumerate(teacher.names)
        ),
        curves=curves_of(searches),
        findings=(pages.Finding(name="INT8", bits=8.0, accuracy=whole, kind="teacher"), *finalists, found),
        cost=cost.to_dict(),
        environment={"Threads": str(torch.get_num_threads()), **pages.describe()},
        protocol=_protocol(config, judged, len(calib), len(finalists)),
        notes=_notes(config, before is not None, result),
        command=config.command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _beside(path: str, look: AnalyzeConfig, judged: ImageSet, calib: ImageSet) -> pages.Finding:
    """Return where a fine-tuned network stands, by its own weights and codes."""
    teacher = weights_of(
        TriSegResult.read(path), path, model=look.model, out=look.out, device=device_named(look.device), tuned=True
    ).teacher
    result = TriSegResult.read(path, names=teacher.names, model=teacher.name)
    codes, mode = result.codes(teacher.names), result.overflow
    made = dict(zip(teacher.points, tables(codes, mode), strict=True))
    few = _images(teacher, calib.take(min(_FINALIST_IMAGES, len(calib))))
    return pages.Finding(
        name=f"fine-tuned, {'with escapes' if mode == 'pass' else '2-bit'}",
        bits=stored_bits(teacher.net, teacher.sites, codes, few, mode=mode),
        accuracy=accuracy(teacher, judged, made, batch_size=look.batch_size),
        kind="tuned",
    )


def curves_of(searches: Iterable[Mapping[str, Any]]) -> tuple[pages.Curve, ...]:
    """Return the reward curves of searches: one a method, the median of its runs.

    Args:
        searches: bodies with `histories`, from the name of a method to pairs of evaluations and best reward, or to a
            list of such lists, one a seed, and `config.method`, the one that was asked for, as a search writes them;
            or with the rows of a bench under `search`.

    Raises:
        DataError: a history that is none.
    """
    runs: dict[str, list[list[tuple[int, float]]]] = {}
    ours: set[str] = set()
    for body in searches:
        ours.add(str(body.get("method") or dict(body.get("config", {})).get("method", "default")))
        histories = dict(body.get("histories", {}))
        for row in dict(body.get("search", {})).get("rows", ()):
            histories.setdefault(row["method"], []).append(row.get("history") or list(row["best"].items()))
        for name, history in histories.items():
            runs.setdefault(name, []).extend(_runs(name, history))
    return tuple(_curve(name, found, ours=name in ours) for name, found in runs.items() if any(found))


def _runs(name: str, history: Any) -> list[list[tuple[int, float]]]:
    try:
        several = bool(history) and isinstance(history[0][0], list | tuple)
        return [[(int(n), float(r)) for n, r in one] for one in (history if several else [history])]
    except (TypeError, ValueError, IndexError, KeyError) as e:
        raise DataError(f"the history of {name!r} holds no pairs of evaluations and reward: {e}; search again") from e


def _curve(name: str, runs: list[list[tuple[int, float]]], *, ours: bool) -> pages.Curve:
    """Return the median of staircases at every place where one of them steps, from where all have begun."""
    runs = [_best(run) for run in runs if run]
    begin = max(run[0][0] for run in runs)
    last = max(run[-1][0] for run in runs)
    places = sorted({begin, last} | {n for run in runs for n, _ in run if n >= begin})
    levels = [[max(r for n, r in run if n <= place) for run in runs] for place in places]
    several = len(runs) > 1
    return pages.Curve(
        name=name,
        points=tuple((n, median(level)) for n, level in zip(places, levels, strict=True)),
        low=tuple(min(level) for level in levels) if several else (),
        high=tuple(max(level) for level in levels) if several else (),
        seeds=len(runs),
        ours=ours,
    )


def _best(run: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the steps up, and the end."""
    kept: list[tuple[int, float]] = []
    for n, reward in sorted(run):
        if not kept or reward > kept[-1][1]:
            kept.append((n, reward))
    end = max(n for n, _ in run)
    return kept if kept[-1][0] == end else [*kept, (end, kept[-1][1])]


def _search(path: str) -> dict[str, Any]:
    try:
        body = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise DataError(f"cannot read the search {path}: {e}; name the JSON that a search wrote") from e
    if not isinstance(body, dict) or not {"histories", "finalists", "search"} & set(body):
        raise DataError(f"{path} holds neither histories nor finalists; name the JSON that a search or bench wrote")
    return body


def _finalists(teacher: Teacher, searches: Iterable[Mapping[str, Any]], mode: str, x: Tensor) -> list[pages.Finding]:
    drawn: list[pages.Finding] = []
    for body in searches:
        for place, one in enumerate(list(body.get("finalists", ()))[:_FINALISTS], 1):
            try:
                codes = torch.tensor(one["codes"], dtype=torch.int64).view(len(teacher.sites), len(NAMES))
                share = float(one["accuracy"])
            except (KeyError, TypeError, ValueError, RuntimeError) as e:
                raise DataError(f"finalist {place} of a search does not fit {teacher.name}: {e}; search again") from e
            bits = stored_bits(teacher.net, teacher.sites, codes, x, mode=mode)
            drawn.append(pages.Finding(name=f"finalist {place}", bits=bits, accuracy=share))
    return drawn


def _site(name: str, counts: list[int], codes: list[int], cost: TriSegCost, drop: float | None) -> pages.SiteView:
    stored = [s for s in cost.stored if name in s.sites]
    readers = [r for r in cost.readers if name in r.sites]
    count = sum(s.count for s in stored)
    elements = [(*s.elements[:3], sum(s.elements[3:])) for s in stored]
    pairs = sum(r.pairs for r in readers)
    t1, v1, t2, v2, tmax = codes
    return pages.SiteView(
        name=name,
        counts=tuple(counts),
        codes=(t1, v1, t2, v2, tmax),
        shares=tuple(sum(kinds) / count for kinds in zip(*elements, strict=True)) if count else None,
        bits=sum(s.count * s.bits for s in stored) / count if count else None,
        avoided=1 - sum(r.multiplies for r in readers) / pairs if pairs else None,
        drop=drop,
    )


def _before_tuning(teacher: Teacher) -> float | None:
    """Return the accuracy of the INT8 network that a fine-tuned one started from, in percent; None if it is none."""
    found = json.loads(teacher.metadata.get("record", "{}")).get("acc_teacher")
    return None if found is None else 100 * float(found)


def _images(teacher: Teacher, images: ImageSet) -> Tensor:
    as_trained = replace(images, mean=teacher.images.mean, std=teacher.images.std)
    return as_trained.normalize(images.images).to(next(teacher.net.buffers()).device)


def _protocol(config: ReportConfig, judged: ImageSet, counted: int, finalists: int) -> tuple[str, ...]:
    lines = [
        f"Accuracies are of the integer network, on {len(judged)} {judged.split} images of {judged.name}.",
        f"Histograms and cost are counted on {counted} calibration images; bits and multiplies where layers read "
        "codes, behind max-pools.",
        "A tag takes 2 bits and an escape 8 more. Additions are counted where the changed input is not 0.",
    ]
    if finalists:
        lines.append(
            f"In the picture of accuracy against bits, bits are of {_FINALIST_IMAGES} images; finalists stand at their "
            "accuracy on the validation images that chose among them."
        )
    return tuple(lines)


def _notes(config: ReportConfig, gone: bool, result: TriSegResult) -> tuple[str, ...]:
    notes = []
    if config.data is None:
        notes.append(
            "The 2000 images that ship with sparseflow are few: accuracies on them are uncertain by some points. Name "
            "the whole of CIFAR-10 with --data for a result."
        )
    if gone:
        notes.append(
            "The network is fine-tuned, and the one before it is not at hand: the accuracy of INT8 is that which "
            "fine-tuning found on its validation images."
        )
    if config.split == "val" and result.split == "val":
        notes.append("These validation images chose the configuration, so that its accuracy on them is optimistic.")
    return tuple(notes)
