"""The C++ engine beside torch's own INT8 backends, in turns, on the same images and threads."""

import copy
import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.compress.quantize import to_program
from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops.int8_net import Engine, Program
from sparseflow.recipes.checks import Check
from sparseflow.recipes.triseg.checkpoint import build_network
from sparseflow.recipes.triseg.teacher import Teacher

__all__ = ["EngineTimes", "engine_checks", "rivals", "time_engine", "zero_shares"]

_BACKENDS = ("fbgemm", "onednn", "x86")
_LEAST_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTimes:
    """Times of one batch, in turns; medians of rounds.

    Args:
        model: name of the network.
        images: of a batch.
        threads: of each contender.
        engine_s: seconds of the engine by network: "plain", or "codes" with the found codes.
        rivals_s: seconds of torch's backends by name.
        ratios: by network, the median of the rounds' ratios of the best rival's time to the engine's.
        zeros: share of codes that are 0 at the inputs of the layers, by network.
    """

    model: str
    images: int
    threads: int
    engine_s: Mapping[str, float]
    rivals_s: Mapping[str, float]
    ratios: Mapping[str, float]
    zeros: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "model": self.model, "images": self.images, "threads": self.threads, "engine_s": dict(self.engine_s),
            "rivals_s": dict(self.rivals_s), "ratios": dict(self.ratios), "zeros": dict(self.zeros),
        }  # fmt: skip


def rivals(model: nn.Module, x: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return a network in INT8 by torch's eager and frozen graphs, for each of its backends and both layouts.

    Each backend quantises by its own default configuration; weights are per channel. Names that end in "channels_last"
    take images in that layout, converted outside of the times.

    Args:
        model: in float32, eval mode.
        x: images to calibrate with.

    Raises:
        UnsupportedError: this torch has no such backend left.
    """
    try:
        from torch.ao.quantization import get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
    except ImportError as e:
        raise UnsupportedError(f"torch {torch.__version__} has no eager INT8 backend to compare with: {e}") from e
    made: dict[str, Callable[[Tensor], Tensor]] = {}
    before = torch.backends.quantized.engine
    try:
        for backend in _BACKENDS:
            if backend not in torch.backends.quantized.supported_engines:
                continue
            torch.backends.quantized.engine = backend
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                prepared = prepare_fx(copy.deepcopy(model), get_default_qconfig_mapping(backend), (x,))
                prepared(x)
                converted = convert_fx(prepared)
                frozen = torch.jit.freeze(torch.jit.trace(converted, x).eval())  # type: ignore[no-untyped-call]
                frozen(x), frozen(x)
            made |= {backend: converted, f"{backend} frozen": frozen}
            made |= {f"{name} channels_last": made[name] for name in (backend, f"{backend} frozen")}
    finally:
        torch.backends.quantized.engine = before
    return made


def time_engine(
    teacher: Teacher, x: Tensor, tables: Mapping[str, Tensor] | None, *, rounds: int = 7
) -> tuple[EngineTimes, dict[str, int]]:
    """Time the engine with and without codes, and torch's backends, all in turns.

    torch's networks have the same layers with other weights: their time does not depend on values.

    Args:
        teacher: the network.
        x: images `[N, C, H, W]`, normalised.
        tables: the found codes by point; None times the plain network only.
        rounds: turns; every contender runs at least 20 ms in each.

    Returns:
        The times, and by network how many images' outputs differ from Python's.

    Raises:
        ConfigError: no round.
        UnsupportedError: there are no compiled kernels, or torch has no INT8 backend left.
    """
    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}; expected at least 1")
    programs = {"plain": to_program(teacher.net)}
    if tables:
        programs["codes"] = to_program(teacher.net, tables)
    engines = {name: Engine(program) for name, program in programs.items()}
    unequal = {}
    for name, engine in engines.items():
        want = teacher.net(x, tables=tables if name == "codes" else None)
        unequal[name] = int((engine(x) != want).flatten(1).any(1).sum())
    model = build_network(teacher.metadata["model"], _arguments(teacher)).eval()
    others = rivals(model, x[:8])
    last = x.contiguous(memory_format=torch.channels_last)
    calls: dict[str, Callable[[], Any]] = {}
    for name, rival in others.items():
        calls[name] = _bound(rival, last if name.endswith("channels_last") else x)
    for name, engine in engines.items():
        calls[name] = _bound(engine, x)
    seconds = _in_turns(calls, rounds)
    best = [min(seconds[name][i] for name in others) for i in range(rounds)]
    ratios = {name: median(b / own for b, own in zip(best, seconds[name], strict=True)) for name in engines}
    medians = {name: median(values) for name, values in seconds.items()}
    found = EngineTimes(
        model=teacher.name,
        images=len(x),
        threads=torch.get_num_threads(),
        engine_s={name: medians[name] for name in engines},
        rivals_s={name: medians[name] for name in others},
        ratios=ratios,
        zeros={name: zero_shares(engine, x[:16]) for name, engine in engines.items()},
    )
    return found, unequal


def zero_shares(engine: Engine, x: Tensor) -> float:
    """Return the share of codes that stand for 0 where layers read them, weighed by products; 1 where all do."""
    program: Program = engine.program
    total = zeros = 0.0
    for step in program.steps:
        if step.weight is None:
            continue
        source = program.values[step.inputs[0]]
        _, h, w = program.values[step.output].shape
        products = step.weight.numel() * h * w
        zeros += products * float((engine.codes(x, source.name) == source.zero).float().mean())
        total += products
    return zeros / total if total else 0.0


def engine_checks(times: EngineTimes, unequal: Mapping[str, int]) -> list[Check]:
    """Hold exactness and speed against what is asked: no slower than torch's best backend where zeros are many."""
    checks = [
        Check(show="4", name=f"outputs of the engine unlike Python's, {name}", value=float(count), unit="images",
              rule="==", bound=0.0)
        for name, count in unequal.items()
    ]  # fmt: skip
    name = "codes" if "codes" in times.ratios else "plain"
    best = min(times.rivals_s, key=lambda rival: times.rivals_s[rival])
    told = f"{times.model}, {times.zeros[name]:.0%} zeros: time of torch ({best}) over the engine's"
    checks.append(Check(show="engine", name=told, value=times.ratios[name], unit="x", rule=">=", bound=1.0))
    return checks


def _arguments(teacher: Teacher) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(teacher.metadata["arguments"])
    return found


def _bound(call: Callable[[Tensor], Any], x: Tensor) -> Callable[[], Any]:
    def run() -> Any:
        with torch.inference_mode():
            return call(x)

    return run


def _in_turns(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return seconds of each call by round; in a round each runs as often as fits the least time."""
    repeats = {}
    for name, call in calls.items():
        call()
        began = time.perf_counter()
        call()
        repeats[name] = max(1, round(_LEAST_S / max(time.perf_counter() - began, 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            seconds[name].append((time.perf_counter() - began) / repeats[name])
    return seconds
