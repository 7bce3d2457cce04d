"""The table of the seed: six 3x3 layers of Spiking-ResNet-50 at T = 16, and what each way to run them takes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparseflow.cost.measure import measure, ratio
from sparseflow.errors import UnsupportedError
from sparseflow.ops.conv2d_block import conv2d_block
from sparseflow.recipes.checks import Check
from sparseflow.recipes.spike_bench.gpu.blocks import (
    Block,
    BlockCase,
    agreement,
    figures_of,
    geomean_of,
    make_block,
    our_side,
    quoted,
    spikes,
)
from sparseflow.recipes.spike_bench.gpu.dense import DenseBlock, EagerBlock, spikingjelly_block
from sparseflow.recipes.spike_bench.gpu.record import StageResult
from sparseflow.recipes.spike_bench.gpu.rivals import Dense, Variant, captured, choose, prepare
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig, fast_dense

__all__ = ["SEED_CASES", "SeedCase", "seed_stage", "tiles"]

LEAST = 10.0
LEAST_COMPILED = 2.0
MET = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedCase:
    """One line of the table.

    Args:
        name: layer.
        channels: input and output channels.
        size: height and width of the map.
        block: edge of the tiles of the two-stage policy.
        density: fraction of spikes; the table prints 1 minus it.
        claimed: speed-up that the table claims.
        batch: images.
        steps: T.
    """

    name: str
    channels: int
    size: int
    block: int
    density: float
    claimed: float
    batch: int = 32
    steps: int = 16

    def case(self) -> BlockCase:
        """Return the block."""
        return BlockCase(
            name=self.name, channels=self.channels, out_channels=self.channels, kernel=3, size=self.size,
            bound=self.claimed, steps=self.steps, batch=self.batch,
        )  # fmt: skip


# The table prints one digit: 100.0 % stands for at least 99.95 %.
SEED_CASES = (
    SeedCase(name="layer1.0.conv2", channels=64, size=56, block=16, density=0.015, claimed=13.1),
    SeedCase(name="layer1.1.conv2", channels=64, size=56, block=16, density=0.011, claimed=15.6),
    SeedCase(name="layer1.2.conv2", channels=64, size=56, block=16, density=0.006, claimed=35.4),
    SeedCase(name="layer2.1.conv2", channels=128, size=28, block=8, density=0.0005, claimed=72.2),
    SeedCase(name="layer2.2.conv2", channels=128, size=28, block=8, density=0.001, claimed=69.6),
    SeedCase(name="layer3.1.conv2", channels=256, size=14, block=8, density=0.003, claimed=38.3),
)


def tiles(case: BlockCase, density: float, block: int, seed: int, device: torch.device) -> Tensor:
    """Return spikes that come in whole tiles: a tile of one channel is full with probability `density`."""
    m, c, h, w = case.shape
    generator = torch.Generator(device).manual_seed(seed)
    grid = torch.rand((m, c, -(-h // block), -(-w // block)), generator=generator, device=device) < density
    full = grid.repeat_interleave(block, 2).repeat_interleave(block, 3)
    return full[:, :, :h, :w].float()


def seed_stage(
    config: GpuBenchConfig,
    budget: Budget,
    device: torch.device,
    cases: Sequence[SeedCase] = SEED_CASES,
    *,
    result: StageResult | None = None,
) -> StageResult:
    """Time the fused block against the eager float32 block of the seed, beside compiled bfloat16 and two stages.

    Args:
        config: settings.
        budget: time of this stage.
        device: where to run.
        cases: the layers.
        result: where to note what is found as it is found; a new one if None.
    """
    result = StageResult() if result is None else result
    eager: list[float] = []
    compiled: list[float] = []
    for i, case in enumerate(cases):
        row: dict[str, Any] = {}
        try:
            with fast_dense():
                row = _one(case, config, budget.share(1, len(cases) - i), device, result)
            result.rows.append(row)
        except Exception as e:
            result.errors[case.name] = f"{type(e).__name__}: {e}"[:500]
        eager.append(row.get("over_eager", math.nan))
        compiled.append(row.get("over_compiled", math.nan))
        if device.type == "cuda":
            torch.cuda.empty_cache()
    met = sum(value >= case.claimed for value, case in zip(eager, cases, strict=True))
    least, least_compiled = _least(eager), _least(compiled)
    checks = (
        ("layers that meet the table, over eager float32", met, "layers", MET),
        ("slowest layer over eager float32", least, "x", LEAST),
        ("slowest layer over the best compiled bfloat16", least_compiled, "x", LEAST_COMPILED),
    )
    result.checks += [
        Check(show="3", name=name, value=value, unit=unit, rule=">=", bound=bound)
        for name, value, unit, bound in checks
    ]
    result.details["geomean_over_eager"] = geomean_of(eager)
    return result


def _least(values: Sequence[float]) -> float:
    return min(values) if values and all(math.isfinite(v) for v in values) else math.nan


def _one(
    seed_case: SeedCase, config: GpuBenchConfig, budget: Budget, device: torch.device, result: StageResult
) -> dict[str, Any]:
    case = seed_case.case()
    sets = 2
    block = make_block(case, config.seed, device)
    inputs = [spikes(case, seed_case.density, config.seed + k, device) for k in range(sets)]
    ours = our_side(case, block, inputs, config, device)
    equal = agreement(case, block, inputs[0], ours.run()[0])
    user = Dense(module=EagerBlock(block.conv, block.bn, block.params, case.steps), inputs=inputs)
    eager = prepare(user, Variant(mode="eager", dtype="tf32", layout="nchw"), device)
    warmup, rounds = config.timing()
    timings = measure({"dense": eager.run, "ours": ours.run}, warmup=warmup, repeats=rounds)
    result.figures += quoted(case, seed_case.density, eager, ours, timings, sets, config, device)
    over_eager, eager_s = ratio(timings, "dense", "ours"), timings["dense"].median_s / sets
    del eager, user
    theirs = _spikingjelly(case, block, inputs, config, device)
    two_stage = _two_stages(seed_case, block.folded, inputs, config, device)
    compiled: dict[str, Any] = {"over_compiled": math.nan}
    if device.type == "cuda" or not config.quick:
        plain = Dense(module=DenseBlock(block.folded, block.params, case.steps), inputs=inputs)
        layouts = ("channels_last",) if config.quick else ("channels_last", "nchw")
        refine = 0 if config.quick else 1
        choice = choose(plain, device, budget, dtypes=("bf16",), layouts=layouts, refine=refine)
        result.figures += figures_of(case.name, case.shape, seed_case.density, choice, sets, device)
        if choice.best is None:
            raise UnsupportedError(f"no bfloat16 rival runs: {choice.failures}")
        timings = measure({"dense": choice.best.run, "ours": ours.run}, warmup=warmup, repeats=rounds)
        result.figures += quoted(case, seed_case.density, choice.best, ours, timings, sets, config, device)
        compiled = {
            "compiled": choice.best.variant.name,
            "compiled_us": timings["dense"].median_s / sets * 1e6,
            "over_compiled": ratio(timings, "dense", "ours"),
            "not_run": choice.failures,
            "not_captured": {**choice.called, **ours.called},
        }
    return {
        "layer": seed_case.name,
        "sparsity": 1 - seed_case.density,
        "claimed": seed_case.claimed,
        "eager_us": eager_s * 1e6,
        "kernel": ours.kernel,
        "ours_us": timings["ours"].median_s / sets * 1e6,
        "over_eager": over_eager,
        "spikes_equal": equal,
        **theirs,
        **compiled,
        **two_stage,
    }


def _spikingjelly(
    case: BlockCase, block: Block, inputs: Sequence[Tensor], config: GpuBenchConfig, device: torch.device
) -> dict[str, Any]:
    """Time SpikingJelly's own eager float32 block, which has a neuron in one kernel."""
    shape = (case.steps, case.batch, *case.shape[1:])

    def make() -> tuple[torch.nn.Module, list[Tensor]]:
        return spikingjelly_block(block.conv, block.bn, block.params), [x.view(shape) for x in inputs]

    try:
        dense = Dense(module=torch.nn.Identity(), inputs=inputs, spikingjelly=make)
        made = prepare(dense, Variant(mode="eager", dtype="tf32", layout="nchw", provider="spikingjelly"), device)
        timing = measure({"it": made.run}, warmup=config.timing()[0], repeats=config.timing()[1])["it"]
    except Exception as e:
        return {"spikingjelly": f"not run: {type(e).__name__}: {e}"[:200]}
    return {"spikingjelly_us": timing.median_s / len(inputs) * 1e6}


def _two_stages(
    seed_case: SeedCase,
    conv: torch.nn.Conv2d,
    inputs: Sequence[Tensor],
    config: GpuBenchConfig,
    device: torch.device,
) -> dict[str, Any]:
    """Time prescan and sparse convolution together, against the library's convolution alone, floats to floats."""
    case = seed_case.case()
    row: dict[str, Any] = {}
    called: dict[str, str] = {}
    patterns = {
        "scattered": list(inputs),
        "tiles": [tiles(case, seed_case.density, seed_case.block, config.seed + k, device) for k in range(len(inputs))],
    }
    warmup, rounds = config.timing()
    run_one = block_conv(conv, seed_case.block)
    for name, xs in patterns.items():
        try:
            runs = {"dense": _each(conv, xs), "two stages": _each(run_one, xs)}
            want, got = runs["dense"]()[0], runs["two stages"]()[0]
            error = float((got - want).abs().max() / want.abs().max().clamp_min(1e-30))
            ready = {k: captured(run, device, called, f"{k}, {name}") for k, run in runs.items()}
            timings = measure({k: call for k, (call, _) in ready.items()}, warmup=warmup, repeats=rounds)
            row |= {
                f"two_stage_{name}_us": timings["two stages"].median_s / len(xs) * 1e6,
                f"conv_{name}_us": timings["dense"].median_s / len(xs) * 1e6,
                f"two_stage_{name}_over_conv": ratio(timings, "dense", "two stages"),
                f"two_stage_{name}_error": error,
                f"two_stage_{name}_timing": ready["two stages"][1],
            }
        except Exception as e:
            row[f"two_stage_{name}"] = f"not run: {type(e).__name__}: {e}"[:200]
    row["two_stage_not_captured"] = called
    return row


def _each(call: Callable[[Tensor], Tensor], xs: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    def run() -> list[Tensor]:
        with torch.no_grad():
            return [call(x) for x in xs]

    return run


def block_conv(conv: torch.nn.Conv2d, block: int) -> Callable[[Tensor], Tensor]:
    """Return the two-stage convolution: look for active blocks, then compute with those alone."""

    def run(x: Tensor) -> Tensor:
        kernel = "triton" if x.is_cuda else "auto"
        padding = (int(conv.padding[0]), int(conv.padding[1]))
        return conv2d_block(x, conv.weight, conv.bias, padding=padding, block=block, kernel=kernel)

    return run
