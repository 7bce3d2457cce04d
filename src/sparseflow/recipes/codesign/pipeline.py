"""A real pipeline: the segments of a network on several processes or GPUs, its period predicted and then measured."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from sparseflow.errors import ConfigError, MeasurementError
from sparseflow.hardware.mapping import (
    MappingProblem,
    MappingSolver,
    Segment,
    coarse_partition,
    evaluate,
    traffic_bytes,
)
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.recipes.codesign.stages import Part, cut
from sparseflow.recipes.codesign.workloads import video_layers
from sparseflow.recipes.device import device_of

__all__ = ["PipelineConfig", "run_pipeline"]

_PINGS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """What runs, and how long it is watched.

    Args:
        device: "cpu", a process and a core for each stage; "cuda", a process and a GPU; or "auto".
        stages: processes.
        embed_dim: C of the video transformer.
        depth: blocks.
        num_heads: heads.
        num_frames: T.
        img_size: S; patches are 16 pixels wide.
        batch: clips of a sample.
        precision: "float32", or "bfloat16" on GPUs.
        samples: that run through in a turn.
        warmup: of them that are not counted.
        rounds: times that each segment is timed in a turn.
        turns: timings of segments and runs of the pipeline, one after the other.
        seed: of weights and clip.

    Raises:
        ConfigError: a count out of range.
    """

    device: str = "auto"
    stages: int = 2
    embed_dim: int = 192
    depth: int = 11
    num_heads: int = 3
    num_frames: int = 4
    img_size: int = 112
    batch: int = 1
    precision: str = "float32"
    samples: int = 60
    warmup: int = 10
    rounds: int = 10
    turns: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the counts."""
        if self.stages < 2 or min(self.rounds, self.turns) < 1 or not 0 < self.warmup < self.samples - 1:
            raise ConfigError(
                f"{self.stages} stages, {self.rounds} rounds, {self.turns} turns, {self.samples} samples and "
                f"{self.warmup} to warm up; "
                "expected 2 stages, 1 round and turn, and more samples than are not counted"
            )


def run_pipeline(config: PipelineConfig) -> dict[str, Any]:
    """Predict the period of a pipeline, run it, and return both.

    Every process times each segment while the others time it too, and then the link to the next process; the mapping
    solver (`dp`) cuts the network, and the objective of all mappings predicts the period. Then samples run through.

    Args:
        config: what to run.

    Returns:
        `predicted_ms` and `measured_ms`, their relative error, and what both rest on: milliseconds of each segment on
        each process, the link, the mapping, and the difference of the output to that of the whole network.

    Raises:
        ConfigError: no such device, or fewer GPUs than stages.
        MeasurementError: a process failed; says how.
    """
    device = device_of(config.device)
    if device.type == "cuda" and torch.cuda.device_count() < config.stages:
        raise ConfigError(f"{config.stages} stages and {torch.cuda.device_count()} GPUs; a stage needs one of its own")
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            context.Process(target=_work, args=(config, device.type, rank, folder), daemon=True)
            for rank in range(config.stages)
        ]
        for worker in workers:
            worker.start()
        while any(w.is_alive() for w in workers) and not any(w.exitcode for w in workers):
            workers[0].join(0.05)
        failed = any(w.exitcode for w in workers)
        for worker in workers:
            # Of a pipeline that lost a stage the others would wait for ever.
            if failed:
                worker.terminate()
            worker.join()
        if failed:
            told = [path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("error*"))]
            raise MeasurementError("a stage of the pipeline failed: " + ("; ".join(told) or "it died without a word"))
        body: dict[str, Any] = json.loads(Path(folder, "answer.json").read_text(encoding="utf-8"))
    return body


def _work(config: PipelineConfig, kind: str, rank: int, folder: str) -> None:
    try:
        body = _stage(config, kind, rank, folder)
        if rank == config.stages - 1:
            Path(folder, "answer.json").write_text(json.dumps(body), encoding="utf-8")
    except Exception as e:
        # The parent only sees that a process ended.
        Path(folder, f"error{rank}").write_text(f"stage {rank}: {type(e).__name__}: {e}", encoding="utf-8")
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@torch.inference_mode()
def _stage(config: PipelineConfig, kind: str, rank: int, folder: str) -> dict[str, Any]:
    device = _settle(kind, rank)
    dist.init_process_group(
        "nccl" if kind == "cuda" else "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=config.stages
    )
    clip, model = _network(config)
    layers = video_layers(model, precision=config.precision, batch=config.batch)
    segments = coarse_partition(layers, segment_size=1)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[config.precision]
    model, clip = model.to(device, dtype), clip.to(device, dtype)
    parts = cut(model, layers, segments)
    x, shapes = clip, [clip.shape]
    for part in parts:
        x = part(x)
        shapes.append(x.shape)
    delay_ms, rate = _link(rank, shapes[1], clip)
    mapping: list[int] = []
    rows: list[list[float]] = []
    periods: list[float] = []
    for _ in range(config.turns):
        rows += _segment_ms(parts, clip, config.rounds)
        if not mapping:
            # Who runs what is settled before any sample runs; later turns time segments and pipeline side by side, so
            # that a slow phase of the machine hits both.
            mapping = _cut_by(_problem(config, rows, segments, delay_ms, rate))
        own = [k for k, stage in enumerate(mapping) if stage == rank]
        ends, x = _flow([parts[k] for k in own], rank, config, clip, shapes[own[0]])
        counted = ends[config.warmup :]
        periods.append((counted[-1] - counted[0]) / (len(counted) - 1))
    problem = _problem(config, rows, segments, delay_ms, rate)
    predicted, measured = evaluate(problem, mapping), statistics.median(periods)
    return {
        "device": torch.cuda.get_device_name(device) if kind == "cuda" else "cpu",
        "config": asdict(config),
        "segment_ms": np.asarray(problem.lat_ms).tolist(),
        "delay_ms": delay_ms,
        "link_bytes_per_s": rate,
        "mapping": mapping,
        "slot_ms": predicted.per_slot_ms.tolist(),
        "predicted_ms": predicted.period_ms,
        "measured_ms": measured,
        "turns_ms": periods,
        "error": abs(predicted.period_ms / measured - 1),
        "difference": float((x.float() - model(clip).float()).abs().max()) if rank == config.stages - 1 else None,
    }


def _problem(
    config: PipelineConfig, rows: list[list[float]], segments: Sequence[Segment], delay_ms: float, rate: float
) -> MappingProblem:
    """Return the mapping problem of what all processes timed, the same in each of them."""
    known: list[Any] = [None] * config.stages
    dist.all_gather_object(known, [statistics.median(column) for column in zip(*rows, strict=True)])
    return MappingProblem(
        lat_ms=torch.tensor(known, dtype=torch.float64).T.numpy(),
        traffic_bytes=np.array([float(b) for b in traffic_bytes(segments)]),
        hop_ms=np.array(delay_ms),
        link_bytes_per_s=np.array(rate),
        mode="balanced",
    )


def _cut_by(problem: MappingProblem) -> list[int]:
    """Return the stage of each segment; stages are numbered in the order in which samples pass them.

    Raises:
        MeasurementError: the best cut leaves a stage without a segment.
    """
    found = [int(m) for m in MappingSolver("dp").solve_mapping(problem)["mapping"]]
    order = {slot: i for i, slot in enumerate(dict.fromkeys(found))}
    if len(order) < problem.slots:
        raise MeasurementError(f"the solver used {len(order)} of {problem.slots} stages; take a larger network")
    return [order[slot] for slot in found]


def _settle(kind: str, rank: int) -> torch.device:
    """Give this process its own processor."""
    if kind == "cuda":
        torch.cuda.set_device(rank)
        return torch.device("cuda", rank)
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    return torch.device("cpu")


def _network(config: PipelineConfig) -> tuple[Tensor, VideoViT]:
    torch.manual_seed(config.seed)
    model = VideoViT(
        config.img_size, config.num_frames, 101, config.embed_dim, config.depth, config.num_heads, 4.0, 16
    ).eval()  # fmt: skip
    return torch.randn(config.batch, config.num_frames, 3, config.img_size, config.img_size), model


def _clock(device: torch.device) -> Callable[[], Any]:
    """Return what takes the time on a device: an event of its stream, or seconds."""
    if device.type != "cuda":
        return time.perf_counter

    def tick() -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    return tick


def _between_ms(first: Any, last: Any) -> float:
    return float(first.elapsed_time(last)) if hasattr(first, "elapsed_time") else 1e3 * (last - first)


def _segment_ms(parts: Sequence[Part], clip: Tensor, rounds: int) -> list[list[float]]:
    """Return the milliseconds of each segment in each round, all segments in turn, all processes busy."""
    tick = _clock(clip.device)
    marks = []
    for _ in range(rounds + 2):
        dist.barrier()
        x, at = clip, [tick()]
        for part in parts:
            x = part(x)
            at.append(tick())
        marks.append(at)
    if clip.device.type == "cuda":
        torch.cuda.synchronize()
    return [[_between_ms(at[k], at[k + 1]) for k in range(len(parts))] for at in marks[2:]]


def _link(rank: int, shape: Sequence[int], like: Tensor) -> tuple[float, float]:
    """Return delay in ms and bytes a second from one process to the next, by messages of two sizes there and back."""
    tokens = like.new_zeros(tuple(shape))
    seconds = []
    for message in (tokens.flatten()[:16].clone(), tokens):
        laps = []
        for _ in range(_PINGS):
            dist.barrier()
            began = time.perf_counter()
            if rank == 0:
                dist.send(message, 1)
                dist.recv(message, 1)
            elif rank == 1:
                dist.recv(message, 0)
                dist.send(message, 0)
            if like.device.type == "cuda":
                torch.cuda.synchronize()
            laps.append((time.perf_counter() - began) / 2)
        seconds.append(min(laps))
    short, long = seconds
    answer: list[Any] = [(short * 1e3, tokens.nbytes / max(long - short, 1e-9))]
    dist.broadcast_object_list(answer, src=0)
    delay, rate = answer[0]
    return delay, rate


def _flow(
    parts: Sequence[Part], rank: int, config: PipelineConfig, clip: Tensor, shape: Sequence[int]
) -> tuple[list[float], Tensor]:
    """Let all samples pass this stage; return when each left it, in ms behind the first, and the last output."""
    tick, last = _clock(clip.device), config.stages - 1
    marks: list[Any] = []
    sent: list[tuple[Any, Tensor]] = []
    x = clip
    dist.barrier()
    for i in range(config.samples):
        x = clip
        if rank:
            x = clip.new_empty(tuple(shape))
            dist.recv(x, rank - 1)
        for part in parts:
            x = part(x)
        if rank < last:
            # Two samples on their way at most, as a pipeline with a buffer of two.
            if i >= 2:
                sent[i - 2][0].wait()
            sent.append((dist.isend(x, rank + 1), x))
        marks.append(tick())
    for request, _ in sent[-2:]:
        request.wait()
    if clip.device.type == "cuda":
        torch.cuda.synchronize()
    dist.barrier()
    return [_between_ms(marks[0], mark) for mark in marks], x
