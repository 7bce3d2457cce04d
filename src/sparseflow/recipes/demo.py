"""The demonstration: the shipped trained network, dense at its best against optimised, on real images."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor, nn

from sparseflow import report as pages
from sparseflow.compress import Effort, optimize_spiking
from sparseflow.cost import Timing, measure
from sparseflow.cost.dense import DenseVariants, compiler_available, dense_variants
from sparseflow.data import ImageSet, cifar10_subset
from sparseflow.errors import ConfigError
from sparseflow.hardware import load_target
from sparseflow.ir import Report
from sparseflow.nn.functional import reset_net
from sparseflow.nn.models import load_checkpoint
from sparseflow.recipes._layers import Inputs, first_image_inputs, stages
from sparseflow.recipes.keep import keep
from sparseflow.recipes.recall import Recalled, recall
from sparseflow.report.words import percent, ratio, seconds

__all__ = ["DemoConfig", "demo"]

_OURS = "sparseflow"
_SAMPLES = 27
_FIRST_ROUNDS = 3
_NEAR = 1.3
_PRUNE = 1.0
_MODES = ("compile", "compile-frozen")
_QUICK_IMAGES = 128
_QUICK_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """One demonstration.

    Args:
        out: folder for `report.html` and `report.json`.
        checkpoint: shipped name, or path of a `.safetensors` checkpoint.
        images: how many of the shipped images both networks classify; None for all.
        batch: images in a timed batch.
        threads: threads of both networks; None leaves torch's own number.
        repeats: timed rounds.
        compile: let the dense side use torch.compile, where a C++ compiler is found.
        fresh: compile every rival again, also one whose time an earlier report in `out` tells.
        quick: a look in half a minute: at most 128 images, 5 rounds, kernels chosen in haste, nothing compiled.

    Raises:
        ConfigError: a number below 1.
    """

    out: str = "runs/demo"
    checkpoint: str = "spiking_vgg9_cifar10"
    images: int | None = None
    batch: int = 16
    threads: int | None = None
    repeats: int = 15
    compile: bool = True
    fresh: bool = False
    quick: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("images", "batch", "threads", "repeats"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; expected 1 or more")

    @property
    def command(self) -> str:
        """The command line that repeats this demonstration."""
        parts = ["sparseflow", "demo"]
        for f in fields(self):
            value = getattr(self, f.name)
            if value != f.default and not isinstance(value, bool):
                parts += [f"--{f.name}", str(value)]
        parts += [] if self.compile else ["--no-compile"]
        return shlex.join(parts + (["--quick"] if self.quick else []))


def demo(config: DemoConfig, *, console: Console | None = None) -> dict[str, Any]:
    """Optimise the shipped network, time and check it against dense torch, write the report and keep records.

    The plan is made on one batch of images and timed on another. Nothing is
    written before everything is measured.

    Args:
        config: what to do.
        console: where progress and summary go; standard output by default.

    Returns:
        The body of `report.json`, with the paths of both files under `files`
        and the whole time under `wall_s`.

    Raises:
        ConfigError: more images wanted than there are.
        DataError: the folder cannot be written, or the checkpoint or the images are damaged.
        MeasurementError: the network runs in no way.
    """
    folder = pages.prepare_folder(config.out)
    console = console or Console(highlight=False)
    began = time.perf_counter()
    with _threads(config.threads):
        run = _run(config, console)
    files = pages.write_run(run, folder)
    kept = keep(run, load_target("cpu"), name="demo --quick" if config.quick else "demo")
    wall_s = time.perf_counter() - began
    _summary(run, files[0], wall_s, console)
    console.print(f"records {kept}", style="dim", soft_wrap=True)
    return {**run.to_dict(), "files": [str(f) for f in files], "wall_s": wall_s}


def _run(config: DemoConfig, console: Console) -> pages.Run:
    with _phase(console, "load the trained network and real images"):
        model, record = load_checkpoint(config.checkpoint)
        images = _images(config)
        plan_x, timed_x = _batches(images, config.batch)
    with _phase(console, "trace, choose a kernel for every layer, replace"):
        effort = Effort(repeats=3, budget_s=0.15, model_budget_s=1.5) if config.quick else None
        optimized, report = optimize_spiking(model, plan_x, target=load_target("cpu"), effort=effort)
    answers = _answers(model, optimized, images, config.batch, console)
    inputs = first_image_inputs(model, plan_x[:1], [row.name for row in report.layers])
    notes = _notes(config, images)
    environment = {"Threads": str(torch.get_num_threads()), **pages.describe()}
    known = {} if config.fresh else _known(config, len(timed_x), environment)
    compiled = config.compile and not config.quick and compiler_available()
    with _phase(console, "prepare every dense way to run it" + (", compiled too" if compiled else "")):
        dense = dense_variants(
            model, timed_x, reset=reset_net, compile=compiled, modes=_MODES[:1] if known else _MODES, prune=_PRUNE
        )
    timings, failures = _time(dense, optimized, timed_x, _QUICK_ROUNDS if config.quick else config.repeats, console)
    return pages.Run(
        title=f"{_title(record)} on {images.name.upper().replace('CIFAR', 'CIFAR-')}",
        report=report,
        batch=len(timed_x),
        steps=_steps(inputs),
        variants=_variants(timings, failures, known if compiled else {}),
        accuracy=answers.accuracy(images),
        samples=answers.samples(images),
        stages=stages(model, report, inputs, images),
        environment=environment,
        protocol=_protocol(config, timings, images),
        notes=tuple(notes),
        command=config.command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _images(config: DemoConfig) -> ImageSet:
    images = cifar10_subset()
    wanted = config.images
    if config.quick:
        wanted = min(wanted or _QUICK_IMAGES, _QUICK_IMAGES, len(images))
    if wanted is not None and wanted > len(images):
        raise ConfigError(f"images is {wanted}, but {len(images)} images ship; ask for at most that many")
    return images.take(wanted)


def _batches(images: ImageSet, batch: int) -> tuple[Tensor, Tensor]:
    batch = min(batch, len(images))
    second = images.images[batch : 2 * batch]
    second = second if len(second) == batch else images.images[:batch]
    return images.normalize(images.images[:batch]), images.normalize(second)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    dense: Tensor
    optimized: Tensor
    confidence: Tensor

    def accuracy(self, images: ImageSet) -> pages.Accuracy:
        return pages.Accuracy(
            data_set=f"CIFAR-10 {images.split} images" if images.name == "cifar10" else images.name,
            images=len(images),
            dense_correct=int((self.dense == images.labels).sum()),
            optimized_correct=int((self.optimized == images.labels).sum()),
            changed=len(self.changed_at),
            changed_at=self.changed_at,
        )

    @property
    def changed_at(self) -> tuple[int, ...]:
        return tuple((self.dense != self.optimized).nonzero().flatten().tolist())

    def samples(self, images: ImageSet) -> tuple[pages.Sample, ...]:
        names = images.classes
        return tuple(
            pages.Sample(
                png=pages.image_png(images.images[i].numpy()),
                truth=names[int(images.labels[i])],
                dense=names[int(self.dense[i])],
                optimized=names[int(self.optimized[i])],
                confidence=float(self.confidence[i]),
            )
            for i in self._shown(len(images))
        )

    def _shown(self, images: int) -> list[int]:
        """Return the first images, then those that are answered otherwise."""
        first = list(range(min(_SAMPLES, images)))
        return first + [i for i in self.changed_at if i >= len(first)][:_SAMPLES]


def _answers(model: nn.Module, optimized: nn.Module, images: ImageSet, batch: int, console: Console) -> _Answers:
    before: list[Tensor] = []
    after: list[Tensor] = []
    confidence: list[Tensor] = []
    with _phase(console, "classify with both networks", len(images)) as tick, torch.no_grad():
        for done, (x, _) in enumerate(images.batches(batch)):
            for net, answers in ((model, before), (optimized, after)):
                reset_net(net)
                logits = net(x)
                answers.append(logits.argmax(1))
            confidence.append(logits.softmax(1).amax(1))
            tick(min((done + 1) * batch, len(images)))
    for net in (model, optimized):
        reset_net(net)
    return _Answers(dense=torch.cat(before), optimized=torch.cat(after), confidence=torch.cat(confidence))


def _time(
    dense: DenseVariants, optimized: nn.Module, x: Tensor, repeats: int, console: Console
) -> tuple[dict[str, Timing], dict[str, str]]:
    def ours() -> Tensor:
        reset_net(optimized)
        with torch.no_grad():
            logits: Tensor = optimized(x)
        return logits

    failures = {**dense.failures, **dense.left_out}
    fns = {**dense.fns, _OURS: ours}
    with _phase(console, f"time {len(fns)} variants side by side", _FIRST_ROUNDS, still=True) as tick:
        timings = measure(fns, warmup=1, repeats=_FIRST_ROUNDS, failures=failures, on_round=tick)
    fastest = min(t.median_s for name, t in timings.items() if name != _OURS)
    near = {n: fns[n] for n, t in timings.items() if n == _OURS or t.median_s <= _NEAR * fastest}
    with _phase(console, f"time the best {len(near)} again", repeats, still=True) as tick:
        timings |= measure(near, warmup=1, repeats=repeats, budget_s=60.0, failures=failures, on_round=tick)
    return timings, failures


def _known(config: DemoConfig, batch: int, environment: dict[str, str]) -> dict[str, Recalled]:
    """Return what an earlier report in the same folder tells of the frozen rivals, if it tells of the main one."""
    pairs = {_name(f"{_MODES[1]} {layout}"): _name(f"{_MODES[0]} {layout}") for layout in ("nchw", "channels_last")}
    path = Path(config.out) / "report.json"
    found = recall(path, pairs, command=config.command, batch=batch, environment=environment)
    return found if _name(f"{_MODES[1]} channels_last") in found else {}


def _variants(
    timings: dict[str, Timing], failures: dict[str, str], known: dict[str, Recalled]
) -> tuple[pages.Variant, ...]:
    timed = [
        pages.Variant(
            name=_name(key),
            kind="optimized" if key == _OURS else "dense",
            latency_s=t.median_s,
            iqr_s=t.iqr_s,
            repeats=t.repeats,
        )
        for key, t in timings.items()
    ]
    now = {v.name: v.latency_s for v in timed}
    for name, found in known.items():
        beside = now.get(found.other)
        if beside is not None and name not in now:
            latency_s = found.ratio * beside
            timed.append(pages.Variant(name=name, latency_s=latency_s, note=found.note, measured=found.measured))
    return (*timed, *(pages.Variant(name=_name(key), note=reason) for key, reason in failures.items()))


def _name(key: str) -> str:
    if key == _OURS:
        return key
    mode, _, layout = key.partition(" ")
    mode = {"compile": "compiled", "compile-frozen": "compiled, frozen"}.get(mode, mode)
    return f"torch, {mode}, {'NCHW' if layout == 'nchw' else layout}"


def _title(record: dict[str, Any]) -> str:
    return str(record.get("model", "network")).replace("spiking_", "Spiking ").replace("vgg", "VGG-")


def _steps(inputs: Inputs) -> int:
    return max((x.shape[0] for x in inputs.values() if x.shape[0] > 1), default=1)


def _notes(config: DemoConfig, images: ImageSet) -> list[str]:
    notes = []
    if config.quick:
        notes.append(
            f"A quick look: {len(images)} images, {_QUICK_ROUNDS} rounds, kernels chosen in haste, and eager torch "
            "alone as the rival. Leave out --quick for the proof."
        )
    elif not config.compile:
        notes.append("The dense network was not compiled (--no-compile), so a faster baseline may exist.")
    elif not compiler_available():
        notes.append(
            "No C++ compiler was found, so torch.compile could not be timed and a faster baseline may exist; "
            "install g++ for the full comparison."
        )
    return notes


def _protocol(config: DemoConfig, timings: dict[str, Timing], images: ImageSet) -> tuple[str, ...]:
    rounds = max((t.repeats for t in timings.values()), default=0)
    return (
        f"All variants run in turn in each of {_FIRST_ROUNDS} rounds; those within {_NEAR} times the fastest dense one "
        f"and ours then run in turn in each of {rounds} more, and for them only these count. The order turns from "
        "round to round, so that a slow phase of the machine hits everyone.",
        "A time is the median over the rounds of one forward of the whole network, float32 throughout.",
        "Packing of spikes, changes of layout and the reset of the neurons lie inside the timer.",
        "torch.compile is tried for channels_last, which it prefers, and for NCHW unless eager NCHW was slower in this "
        "run; what was left out is named among the variants.",
        "Torch's cache cannot keep what it compiles with frozen weights. A run that finds an earlier report of the "
        "same command on the same machine and versions takes from it how the frozen form compared with the other, and "
        "says so beside the time; --fresh compiles it again.",
        "Each dense variant gets its input in the layout it likes best, prepared outside the timer.",
        "The kernels were chosen on one batch of images; the times are from another.",
        f"Accuracy counts top-1 answers on {len(images)} real test images, each classified by both networks.",
        f"Threads of both sides, in one process: {torch.get_num_threads()}.",
    )


def _summary(run: pages.Run, page: Path, wall_s: float, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "one batch", "speed"):
        table.add_column(column, justify="left" if not column else "right")
    best = run.best_dense
    for v in sorted(run.variants, key=lambda v: (v.latency_s is None, v.latency_s)):
        style = "bold green" if v.kind == "optimized" else ("bold" if v is best else "")
        speed = ratio(best.latency_s / v.latency_s) if best and best.latency_s and v.latency_s else "–"
        table.add_row(v.name, seconds(v.latency_s) if v.latency_s else "not run", speed, style=style)
    console.print()
    console.print(f"[bold green]{pages.headline(run)}[/]")
    console.print()
    console.print(table)
    console.print()
    _layer_summary(run.report, console)
    for note in run.notes:
        console.print(f"[yellow]![/] {note}")
    console.print(f"report  [bold]{page}[/]  ({wall_s:.0f} s)")


def _layer_summary(report: Report, console: Console) -> None:
    replaced = [x for x in report.layers if x.kernel != "dense"]
    known = [x.density for x in report.layers if x.source and x.density is not None]
    console.print(
        f"{len(replaced)} of {len(report.layers)} layers replaced"
        + (f"; inputs {percent(min(known))} to {percent(max(known))} spikes" if known else "")
        + (f"; {len(report.refusals)} refusals, reasons in the report" if report.refusals else "")
    )


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _phase(
    console: Console, what: str, total: int | None = None, *, still: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show one phase; `still` draws only when told to, so that nothing else runs during a measurement."""
    columns = [SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}")]
    if total is not None:
        columns += [BarColumn(bar_width=24), MofNCompleteColumn()]
    with Progress(*columns, TimeElapsedColumn(), console=console, auto_refresh=not still, refresh_per_second=4) as bar:
        task = bar.add_task(what, total=total)

        def tick(done: int) -> None:
            bar.update(task, completed=done)
            if still:
                bar.refresh()

        yield tick
        bar.update(task, total=total or 1, completed=total or 1)
