"""`sparseflow spike bench`: every figure of the CPU claim, from one command."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from sparseflow import data
from sparseflow.cost.dense import compiler_available
from sparseflow.errors import ConfigError
from sparseflow.nn import models
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.spike_bench.correct import correctness_checks
from sparseflow.recipes.spike_bench.layers import FORMS, IID_CASES, LayerRow, geomean, settle, time_block, time_layer
from sparseflow.recipes.spike_bench.network import NetworkRow, spiking_layers, time_network
from sparseflow.recipes.spike_bench.traffic import MemorySpeed, memory_speed
from sparseflow.recipes.threads import with_threads
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic

__all__ = ["SUITES", "SpikeBenchConfig", "bench"]

SUITES = ("layers", "network", "correct")
TRAINED_BOUND = 3.0
DENSITY_BOUNDS = ((0.20, 1.0), (0.05, 4.0), (0.01, 8.0))
PROTOCOL = (
    "Both sides run in one process and in interleaved rounds; a ratio is the median of the per-round ratios. "
    "The dense side is the fastest of eager, compiled and compiled with frozen weights, each contiguous and "
    "channels_last, in float32. Packing, layout and unpacking are inside the timer. Networks get images and return "
    "logits; neuron state is reset inside the timer. The kernel and the dense variant are chosen in a measurement "
    "of their own, and only a second measurement is quoted."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeBenchConfig:
    """What to measure.

    Args:
        target: "cpu".
        threads: thread counts, each measured in turn.
        suites: any of "layers", "network", "correct".
        checkpoint: shipped name or path of the trained network.
        batches: images a forward in the network suite.
        real_batch: images whose spikes feed the layer suite.
        repeats: rounds of a quoted measurement.
        configurations: random configurations of the correctness suite.
        compile: let the dense side use torch.compile.
        out: file for the JSON, or None.
        seed: seed of weights and synthetic spikes.

    Raises:
        ConfigError: an unknown target or suite, or a count below 1.
    """

    target: str = "cpu"
    threads: tuple[int, ...] = (2, 1)
    suites: tuple[str, ...] = SUITES
    checkpoint: str = "spiking_vgg9_cifar10"
    batches: tuple[int, ...] = (16, 1)
    real_batch: int = 8
    repeats: int = 30
    configurations: int = 200
    compile: bool = True
    out: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.target != "cpu":
            raise ConfigError(f"target is {self.target!r}; this bench measures 'cpu'")
        unknown = set(self.suites) - set(SUITES)
        if unknown or not self.suites:
            raise ConfigError(f"suites are {self.suites}; expected some of {', '.join(SUITES)}")
        for name in ("threads", "batches"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected numbers from 1")
        for name in ("real_batch", "repeats", "configurations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")


def bench(config: SpikeBenchConfig, *, progress: bool = True) -> dict[str, Any]:
    """Measure and hold every figure against its target.

    Args:
        config: what to measure.
        progress: show progress bars.

    Returns:
        `{"checks": [...], "ok": ..., "layers": [...], "networks": [...], ...}`.

    Raises:
        ConfigError: more threads asked for than the machine has cores.
        DataError: the checkpoint or the images cannot be read.
    """
    began = time.perf_counter()
    if config.out is not None:
        prepare_folder(Path(config.out).parent)
    compile = config.compile and compiler_available()
    layers: list[LayerRow] = []
    networks: list[NetworkRow] = []
    speeds: list[MemorySpeed] = []
    checks: list[Check] = []
    for threads in config.threads:
        with with_threads(threads):
            if "layers" in config.suites:
                speeds.append(memory_speed())
                rows = [*_iid(config, compile, progress), *_real(config, compile, progress)]
                layers += rows
                checks += _layer_checks(rows, threads)
            if "network" in config.suites:
                found = _networks(config, compile, progress)
                networks += found
                checks += [
                    Check(
                        show="2",
                        name=f"{row.model}, batch {row.batch}, {threads} threads, over {row.dense}",
                        value=row.ratio,
                        unit="x",
                        rule=">=",
                        bound=2.5,
                    )
                    for row in found
                ]
    details: dict[str, Any] = {}
    if "correct" in config.suites:
        more, details = correctness_checks(config.checkpoint, config.configurations, config.seed, progress=progress)
        checks += more
    body = checks_body(
        checks,
        bench="spike-cpu",
        protocol=PROTOCOL,
        config=asdict(config),
        environment=describe(),
        forms=FORMS,
        memory=[speed.to_dict() for speed in speeds],
        layers=[row.to_dict() for row in layers],
        networks=[row.to_dict() for row in networks],
        correctness=details,
        wall_s=time.perf_counter() - began,
    )
    if config.out is not None:
        write_atomic(config.out, json.dumps(body, indent=1, allow_nan=False))
    return body


def _iid(config: SpikeBenchConfig, compile: bool, progress: bool) -> list[LayerRow]:
    rows = []
    for case in _bar(list(IID_CASES), "i.i.d. spikes", progress):
        conv, bn, neuron = case.build(config.seed)
        xs = {f"{case.name}, {1 - d:.0%} sparse": case.spikes(d, config.seed) for d, _ in DENSITY_BOUNDS}
        settle(conv, bn, next(iter(xs.values())))
        how: Any = {"spikes": "i.i.d.", "repeats": config.repeats, "compile": compile}
        rows += time_layer(conv, {name: x.flatten(0, 1) for name, x in xs.items()}, **how)
        rows += time_block(conv, bn, neuron, xs, **how)
    return rows


def _real(config: SpikeBenchConfig, compile: bool, progress: bool) -> list[LayerRow]:
    model, _ = models.load_checkpoint(config.checkpoint)
    subset = data.cifar10_subset()
    x = subset.normalize(subset.images[: config.real_batch])
    rows = []
    for name, found in _bar(list(spiking_layers(model.eval(), x).items()), "trained spikes", progress):
        how: Any = {"spikes": "trained", "repeats": config.repeats, "compile": compile}
        rows += time_layer(found.layer, {name: found.folded}, **how)
        if found.neuron is not None:
            rows += time_block(found.layer, found.bn, found.neuron, {name: found.x}, **how)
    return rows


def _networks(config: SpikeBenchConfig, compile: bool, progress: bool) -> list[NetworkRow]:
    model, _ = models.load_checkpoint(config.checkpoint)
    subset = data.cifar10_subset()
    return [
        time_network(
            model.eval(),
            subset.normalize(subset.images[:batch]),
            name=config.checkpoint,
            repeats=config.repeats,
            compile=compile,
        )
        for batch in _bar(list(config.batches), "whole network", progress)
    ]


def _layer_checks(rows: list[LayerRow], threads: int) -> list[Check]:
    checks = []
    for form in FORMS:
        here = [row for row in rows if row.form == form]
        groups = [("trained spikes", [row for row in here if row.spikes == "trained"], TRAINED_BOUND)]
        for density, bound in DENSITY_BOUNDS:
            some = [row for row in here if row.spikes == "i.i.d." and abs(row.density - density) < 0.2 * density]
            groups.append((f"i.i.d. {1 - density:.0%} sparse", some, bound))
        checks += [
            Check(
                show="2",
                name=f"{what}, {form} form, geomean of {len(some)}, {threads} threads",
                value=geomean(row.ratio for row in some),
                unit="x",
                rule=">=",
                bound=bound,
            )
            for what, some, bound in groups
        ]
    return checks


def _bar(items: list[Any], what: str, progress: bool) -> Iterator[Any]:
    threads = torch.get_num_threads()
    yield from tqdm(items, desc=f"{what}, {threads} threads", disable=None if progress else True)
