"""`sparseflow codesign measure`: time real layers, and write each down as it comes."""

import gc
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from sparseflow.errors import ConfigError, MeasurementError
from sparseflow.hardware import gpu_target
from sparseflow.hardware.proxy import KINDS, LayerSpec, tabulate
from sparseflow.recipes.codesign import _cpu_layers, _gpu_layers
from sparseflow.recipes.codesign.measured_layers import SPACES, sampled
from sparseflow.recipes.codesign.measurements import Measured, Network, Run, append, read
from sparseflow.recipes.codesign.meter import Meter, NvmlMeter, cpu_meter
from sparseflow.recipes.codesign.networks import subjects
from sparseflow.recipes.commit import commit
from sparseflow.recipes.device import device_of, multiply_as
from sparseflow.recipes.threads import with_threads
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder

__all__ = ["PROTOCOLS", "MeasureConfig", "measure"]

PROTOCOLS = {
    "gpu": (
        "Modules of one layer with weights of their own, so many that 60 MB of weights pass (1 to 8), run in turn in "
        "one CUDA graph that is replayed without a pause; latency: median of stretches of 3 ms in the second half of "
        "the run, which takes .12 s, or .02 s where a layer is called brief; power: mean of the board's samples, one "
        "in 20 ms, but for the first 45 ms, of runs that are not brief; memory: "
        "parameters, inputs and the most that torch's allocator held during one call"
    ),
    "cpu": (
        "Modules of one layer with weights of their own, so many that 60 MB of weights pass (1 to 3), called in turn; "
        "several layers in interleaved rounds; latency: median of the rounds; power: the meter over a run of its own; "
        "memory: parameters, inputs and the most that torch's allocator held during one call"
    ),
}
_GROUP = 6
_GPU_WINDOW_S, _BRIEF_WINDOW_S, _CPU_WINDOW_S = 0.12, 0.02, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureConfig:
    """What to measure, and where to write it.

    Args:
        device: "cpu", "cuda" or "auto".
        out: file of JSON lines; layers that it holds are not measured again.
        count: layers.
        seed: of their draw.
        kinds: only layers of these kinds; empty for all.
        shard: which part of the layers, as "0/2" for the even ones.
        seconds: after so many no further layer starts; None for no end.
        window_s: how long a layer runs; None for .12 on a GPU, and for .05 beside the timed rounds on a CPU.
        brief_ms: on a GPU, a layer whose bound is shorter runs .02 s and its power is not read; long ones bring the
            device to its limit of power, which takes them some time.
        rounds: timed rounds on a CPU.
        threads: on a CPU; None for torch's own number.
        idle_w: power of the cores at rest, where a CPU has no counter that can be read.
        full_w: the same with all of them busy.
        networks: whole networks too, with the first shard: what a proxy of the layers is judged on.
        commit: that the record names; None asks git.

    Raises:
        ConfigError: a count or a time out of range, or no such shard.
    """

    device: str = "auto"
    out: str = "runs/codesign/layers.jsonl"
    count: int = 1600
    seed: int = 0
    kinds: tuple[str, ...] = ()
    shard: str = "0/1"
    seconds: float | None = None
    window_s: float | None = None
    brief_ms: float = 0.0
    rounds: int = 9
    threads: int | None = None
    idle_w: float = 4.0
    full_w: float = 14.0
    networks: bool = True
    commit: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.count < 1 or self.rounds < 1 or (self.window_s or 1.0) <= 0:
            raise ConfigError("count, rounds and window_s are expected to be above 0")
        if unknown := [k for k in self.kinds if k not in KINDS]:
            raise ConfigError(f"kinds has {', '.join(unknown)}; expected some of {', '.join(KINDS)}")
        self.part  # noqa: B018

    @property
    def part(self) -> tuple[int, int]:
        """The shard as two numbers."""
        try:
            part, parts = (int(x) for x in self.shard.split("/"))
        except ValueError:
            part, parts = 0, 0
        if not 0 <= part < parts:
            raise ConfigError(f"shard is {self.shard!r}; expected a part and how many there are, as '0/2'")
        return part, parts


def measure(config: MeasureConfig, *, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Measure layers that the file does not hold yet.

    Args:
        config: what to measure.
        say: is told each layer as it comes.

    Returns:
        `{"out": ..., "measured": count, "failed": {name: reason}, "left": count, "wall_s": ...}`.

    Raises:
        ConfigError: no such device, or no library that reads a GPU's energy.
        DataError: the file is none of measurements, or cannot be written.
    """
    began = time.perf_counter()
    device = device_of(config.device)
    kind = "gpu" if device.type == "cuda" else "cpu"
    out = prepare_folder(Path(config.out).parent) / Path(config.out).name
    _, held_layers, held_networks = read([out]) if out.exists() else ([], [], [])
    held = {m.layer.name for m in held_layers}
    part, parts = config.part
    space = SPACES[kind]
    if config.kinds:
        space = replace(space, mix=tuple(entry for entry in space.mix if entry[0] in config.kinds))
    layers = [s for s in sampled(space, config.count, seed=config.seed)[part::parts] if s.name not in held]
    threads = config.threads or torch.get_num_threads()
    meter: Meter = NvmlMeter() if kind == "gpu" else cpu_meter(config.idle_w, config.full_w, threads)
    append(out, _run(kind, device, meter, threads, config.commit or commit()))
    failed: dict[str, str] = {}
    done = 0
    # A recording collects garbage first, which takes long where much lives for good.
    gc.collect()
    gc.freeze()
    with with_threads(threads) if kind == "cpu" else nullcontext(), multiply_as("float32", device):
        if config.networks and part == 0:
            for network in _networks(device, meter, config, {n.name for n in held_networks}):
                append(out, network)
                say(f"{network.name}: {network.lat_ms:.4g} ms, {len(network.layers)} layers")
        work = _on_gpu if kind == "gpu" else _on_cpu
        for found in work(layers, device, meter, config, failed):
            append(out, found)
            done += 1
            say(f"{done}/{len(layers)} {found.layer.name}: {found.lat_ms:.4g} ms, {found.mem_mb or 0:.4g} MB")
            if config.seconds is not None and time.perf_counter() - began > config.seconds:
                break
    gc.unfreeze()
    left = len(layers) - done - len(failed)
    return {
        "out": str(out), "config": asdict(config), "measured": done, "failed": failed, "left": left,
        "wall_s": time.perf_counter() - began,
    }  # fmt: skip


def _on_gpu(
    layers: list[LayerSpec], device: torch.device, meter: Meter, config: MeasureConfig, failed: dict[str, str]
) -> Iterator[Measured]:
    bounds_ms = tabulate(layers, gpu_target(torch.cuda.get_device_name(device))).roofline_ms.tolist() if layers else []
    for layer, bound_ms in zip(layers, bounds_ms, strict=True):
        brief = bound_ms < config.brief_ms
        try:
            yield _gpu_layers.measure_layer(
                layer, device, None if brief else meter, _BRIEF_WINDOW_S if brief else config.window_s or _GPU_WINDOW_S
            )
        except (MeasurementError, RuntimeError) as e:
            failed[layer.name] = str(e).splitlines()[0]


def _on_cpu(
    layers: list[LayerSpec], device: torch.device, meter: Meter, config: MeasureConfig, failed: dict[str, str]
) -> Iterator[Measured]:
    for start in range(0, len(layers), _GROUP):
        yield from _cpu_layers.measure_layers(
            layers[start : start + _GROUP], meter, rounds=config.rounds, window_s=config.window_s or _CPU_WINDOW_S
        )


def _networks(device: torch.device, meter: Meter, config: MeasureConfig, held: set[str]) -> Iterator[Network]:
    for subject in subjects(device, held):
        call = partial(subject.model, subject.sample)
        if device.type == "cuda":
            mem_mb = _gpu_layers.peak_mb((subject.model, (subject.sample,)))
            lat_ms, _, power_w = _gpu_layers.measure_call(call, meter, config.window_s or _GPU_WINDOW_S)
        else:
            mem_mb = _cpu_layers.peak_mb((subject.model, (subject.sample,)))
            window_s = config.window_s or _CPU_WINDOW_S
            found = _cpu_layers.measure_calls({"whole": call}, meter, rounds=config.rounds, window_s=window_s)
            lat_ms, _, power_w = found["whole"]
        yield Network(name=subject.name, layers=subject.layers, lat_ms=lat_ms, mem_mb=mem_mb, power_w=power_w)


def _run(kind: str, device: torch.device, meter: Meter, threads: int, made_at: str | None) -> Run:
    if kind == "gpu":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{describe().get('Processor', platform.machine())}, {threads} threads"
    versions = {"torch": metadata.version("torch"), "python": platform.python_version()}
    clocks = meter.clock_mhz() if isinstance(meter, NvmlMeter) else None
    return Run(
        device=name, kind=kind, protocol=PROTOCOLS[kind], power_source=meter.name, idle_w=_idle_w(meter),
        commit=made_at, versions=versions, clocks_mhz=clocks,
    )  # fmt: skip


def _idle_w(meter: Meter, window_s: float = 0.25) -> float | None:
    mark = meter.start()
    time.sleep(window_s)
    return meter.watts(mark)
