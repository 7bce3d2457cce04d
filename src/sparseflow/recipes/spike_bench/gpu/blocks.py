"""Single blocks: packed spikes in and out, against the best dense way from floats to floats."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.cost.measure import Timing, measure, ratio
from sparseflow.errors import MeasurementError, UnsupportedError
from sparseflow.ops.lif import LIFParams
from sparseflow.ops.spike_layer import Source, pack_counts, pack_layer, spike_layer, unpack_counts
from sparseflow.recipes.checks import Check
from sparseflow.recipes.spike_bench.gpu.dense import DenseBlock, spikingjelly_block
from sparseflow.recipes.spike_bench.gpu.record import Figure, StageResult
from sparseflow.recipes.spike_bench.gpu.rivals import Choice, Dense, Prepared, captured, choose
from sparseflow.recipes.spike_bench.gpu.settings import (
    Budget,
    GpuBenchConfig,
    device_name,
    fast_dense,
    strict,
    versions,
)
from sparseflow.recipes.spike_bench.layers import geomean

__all__ = [
    "CASES", "DENSITIES", "Block", "BlockCase", "Ours", "agreement", "blocks_stage", "dense_block", "figures_of",
    "geomean_of", "make_block", "our_side", "quote", "quoted", "spikes",
]  # fmt: skip

DENSITIES = (0.10, 0.01, 0.0)
# Precisions whose rows stand beside that of the settings; random weights round worse than trained ones.
BESIDE = ("int8",)
SETS = 8
# What is timed must be right; the correctness stage holds the tighter bound on trained spikes.
LEAST_AGREEMENT = 0.999


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCase:
    """A convolution with batch norm and a LIF neuron.

    Args:
        name: label.
        channels: input channels.
        out_channels: output channels.
        kernel: kernel height and width.
        size: height and width of the map.
        bound: least speed-up at the density of the claim.
        steps: T.
        batch: images.
    """

    name: str
    channels: int
    out_channels: int
    kernel: int
    size: int
    bound: float
    steps: int = 4
    batch: int = 32

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the float input, `[T*N, C, H, W]`."""
        return self.steps * self.batch, self.channels, self.size, self.size

    def bytes(self, packed: bool) -> int:
        """Return the bytes of one input and its output, as words or in float16."""
        m, _, h, w = self.shape
        pixel = [4 * math.ceil(c / 32) if packed else 2 * c for c in (self.channels, self.out_channels)]
        return m * h * w * sum(pixel)


CASES = (
    BlockCase(name="1x1 64-256 @56", channels=64, out_channels=256, kernel=1, size=56, bound=4.0),
    BlockCase(name="1x1 256-64 @56", channels=256, out_channels=64, kernel=1, size=56, bound=2.5),
    BlockCase(name="3x3 64-64 @56", channels=64, out_channels=64, kernel=3, size=56, bound=1.4),
    BlockCase(name="3x3 128-128 @28", channels=128, out_channels=128, kernel=3, size=28, bound=1.2),
    BlockCase(name="3x3 512-512 @7", channels=512, out_channels=512, kernel=3, size=7, bound=1.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The modules of a case.

    Args:
        conv: the convolution.
        bn: its batch norm, with the statistics of spikes at 10 % density.
        folded: the convolution with the batch norm folded in.
        params: constants of the neuron.
    """

    conv: nn.Conv2d
    bn: nn.BatchNorm2d
    folded: nn.Conv2d
    params: LIFParams


@dataclass(slots=True)
class Ours:
    """Our side, ready to run.

    Args:
        kernel: the kernel, chosen by measurement.
        run: runs every set of words once.
        timing: "graph" or "calls".
        words: the sets of words that it reads.
        timings: kernel to its timing in the choice.
        failures: kernel to reason.
        runs: every kernel that runs, and how it is timed.
        called: kernel to why it is timed by calls, where no graph could be captured.
    """

    kernel: str
    run: Callable[[], Any]
    timing: str
    words: list[Tensor]
    timings: dict[str, Timing]
    failures: dict[str, str]
    runs: dict[str, tuple[Callable[[], Any], str]]
    called: dict[str, str] = field(default_factory=dict)

    def feed(self, inputs: Sequence[Tensor]) -> None:
        """Let it read other spikes, and choose the kernel anew: a plan knows the density of its layer."""
        for mine, x in zip(self.words, inputs, strict=True):
            mine.copy_(pack_counts(x, 1))
        self.timings = measure({k: r for k, (r, _) in self.runs.items()}, warmup=5, repeats=15, budget_s=5.0)
        self.kernel = min(self.timings, key=lambda k: self.timings[k].median_s)
        self.run, self.timing = self.runs[self.kernel]


def spikes(case: BlockCase, density: float, seed: int, device: torch.device) -> Tensor:
    """Return i.i.d. float spikes of a case."""
    generator = torch.Generator(device).manual_seed(seed)
    return (torch.rand(case.shape, generator=generator, device=device) < density).float()


def make_block(case: BlockCase, seed: int, device: torch.device, params: LIFParams | None = None) -> Block:
    """Return a block with random weights whose neurons fire on spikes of 10 % density."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        conv = nn.Conv2d(case.channels, case.out_channels, case.kernel, padding=case.kernel // 2, bias=False)
    conv, bn = conv.to(device).eval(), nn.BatchNorm2d(case.out_channels).to(device).eval()
    assert bn.running_mean is not None
    assert bn.running_var is not None
    few = spikes(case, 0.1, seed, device)[: max(1, min(16, case.shape[0]))]
    with torch.no_grad():
        y = conv(few)
        bn.running_mean.copy_(y.mean((0, 2, 3)))
        bn.running_var.copy_(y.var((0, 2, 3)))
        folded = torch.nn.utils.fuse_conv_bn_eval(conv, bn)
    return Block(conv=conv, bn=bn, folded=folded, params=params or LIFParams())


def dense_block(case: BlockCase, block: Block, inputs: Sequence[Tensor]) -> Dense:
    """Return the forward of a block as its rivals run it."""

    def theirs() -> tuple[nn.Module, list[Tensor]]:
        shape = (case.steps, case.batch, *case.shape[1:])
        return spikingjelly_block(block.conv, block.bn, block.params), [x.view(shape) for x in inputs]

    return Dense(module=DenseBlock(block.folded, block.params, case.steps), inputs=inputs, spikingjelly=theirs)


def our_side(
    case: BlockCase,
    block: Block,
    inputs: Sequence[Tensor],
    config: GpuBenchConfig,
    device: torch.device,
    precision: str | None = None,
) -> Ours:
    """Prepare every kernel on packed inputs and keep the fastest.

    Raises:
        UnsupportedError: no kernel runs.
    """
    words = [pack_counts(x, 1) for x in inputs]
    pad = (case.kernel // 2, case.kernel // 2)
    runs: dict[str, tuple[Callable[[], Any], str]] = {}
    failures: dict[str, str] = {}
    called: dict[str, str] = {}
    for kernel in config.kernels:
        try:
            weights = pack_layer(
                [block.folded.weight],
                block.folded.bias,
                block.params,
                planes=(1,),
                precision=precision or config.precision,
                kernel=kernel,
            )

            def run(weights: Any = weights) -> list[Tensor]:
                with torch.no_grad():
                    return [
                        spike_layer(
                            [Source(w, case.channels, 1, (case.kernel, case.kernel), (1, 1), pad)],
                            weights,
                            steps=case.steps,
                        )[0]
                        for w in words
                    ]

            run()
            runs[kernel] = captured(run, device, called, kernel)
        except Exception as e:
            failures[kernel] = f"{type(e).__name__}: {e}"[:300]
    if not runs:
        raise UnsupportedError(f"no kernel runs {case.name}: {failures}")
    timings = measure({k: r for k, (r, _) in runs.items()}, warmup=5, repeats=15, budget_s=5.0)
    best = min(timings, key=lambda k: timings[k].median_s)
    fastest, how = runs[best]
    return Ours(
        kernel=best, run=fastest, timing=how, words=words, timings=timings, failures=failures, runs=runs, called=called
    )


def agreement(case: BlockCase, block: Block, x: Tensor, words: Tensor, least: float = LEAST_AGREEMENT) -> float:
    """Return the fraction of output spikes equal to dense float32's.

    Raises:
        MeasurementError: so few that the kernel computes something else.
    """
    with strict(), torch.no_grad():
        expected = DenseBlock(block.folded, block.params, case.steps)(x)
    equal = float((unpack_counts(words, case.out_channels, 1) == expected).float().mean())
    if not equal >= least:
        raise MeasurementError(f"{case.name}: only {equal:.4%} of the spikes equal dense float32; no time is taken")
    return equal


def quote(rival: Prepared, ours: Ours, config: GpuBenchConfig) -> dict[str, Timing]:
    """Time both sides in interleaved rounds, as the figures that are quoted."""
    warmup, rounds = config.timing()
    return measure({"dense": rival.run, "ours": ours.run}, warmup=warmup, repeats=rounds)


def figures_of(
    case: str,
    shape: tuple[int, ...],
    density: float,
    choice: Choice,
    calls: int,
    device: torch.device,
) -> list[Figure]:
    """Return the figures of a search for the best rival."""
    known = versions()
    return [
        Figure.of(
            timing,
            calls=calls,
            case=case,
            provider=variant.provider,
            mode=variant.mode,
            dtype=variant.dtype,
            layout=variant.layout,
            shape=shape,
            density=density,
            timing=how,
            quoted=False,
            version=known.get(variant.provider, "?"),
            device=device_name(device),
            more={"ready_s": ready, "not_captured": choice.called.get(variant.name, "")},
        )
        for variant, (timing, how, ready) in choice.timings.items()
    ]


def blocks_stage(
    config: GpuBenchConfig,
    budget: Budget,
    device: torch.device,
    cases: Sequence[BlockCase] = CASES,
    *,
    result: StageResult | None = None,
) -> StageResult:
    """Time every case at every density against the best rival, found once a case.

    Args:
        config: settings.
        budget: time of this stage.
        device: where to run.
        cases: the blocks.
        result: where to note what is found as it is found; a new one if None.
    """
    result = StageResult() if result is None else result
    ratios: dict[float, list[float]] = {d: [] for d in DENSITIES}
    for i, case in enumerate(cases):
        found = dict.fromkeys(DENSITIES, math.nan)
        try:
            with fast_dense():
                found = _one(case, config, budget.share(1, len(cases) - i), device, result)
        except Exception as e:
            result.errors[case.name] = f"{type(e).__name__}: {e}"[:500]
        for d in DENSITIES:
            ratios[d].append(found[d])
        result.checks.append(_check(f"{case.name}, 10 % of spikes, over the best dense", found[0.10], case.bound))
    result.checks.append(_check(f"geomean of {len(cases)} blocks, 1 % of spikes", geomean_of(ratios[0.01]), 2.0))
    slowest = min(ratios[0.0]) if all(math.isfinite(r) for r in ratios[0.0]) else math.nan
    result.checks.append(_check(f"slowest of {len(cases)} blocks, no spike at all", slowest, 8.0))
    result.details["geomeans"] = {str(d): geomean_of(found) for d, found in ratios.items()}
    return result


def geomean_of(ratios: Sequence[float]) -> float:
    """Return the geometric mean, NaN if any ratio is missing."""
    return geomean(ratios) if ratios and all(math.isfinite(r) for r in ratios) else math.nan


def _check(name: str, value: float, bound: float) -> Check:
    return Check(show="1", name=name, value=value, unit="x", rule=">=", bound=bound)


def _one(
    case: BlockCase, config: GpuBenchConfig, budget: Budget, device: torch.device, result: StageResult
) -> dict[float, float]:
    sets = 2 if config.quick else SETS
    block = make_block(case, config.seed, device)
    inputs = [spikes(case, DENSITIES[0], config.seed + k, device) for k in range(sets)]

    dense = dense_block(case, block, inputs)
    ours = our_side(case, block, inputs, config, device)
    equal = agreement(case, block, inputs[0], ours.run()[0])
    quick: dict[str, Any] = {"dtypes": ("fp16",), "layouts": ("channels_last",), "refine": 0} if config.quick else {}
    choice = choose(dense, device, budget, compile=device.type == "cuda" or not config.quick, **quick)
    rival = choice.best
    if rival is None:
        raise UnsupportedError(f"no rival runs {case.name}: {choice.failures}")
    result.figures += figures_of(case.name, case.shape, DENSITIES[0], choice, sets, device)
    result.details[case.name] = {
        "sets": sets,
        "spikes_equal": equal,
        "bytes_a_set_packed": case.bytes(True),
        "bytes_a_set_float16": case.bytes(False),
        "l2_bytes": torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else None,
        "not_run": {**choice.failures, **ours.failures},
        "not_captured": {**choice.called, **ours.called},
        "kernels_s": {k: t.median_s / sets for k, t in ours.timings.items()},
    }
    beside = _beside(case, block, inputs, config, device, result)
    ratios = {}
    for density in DENSITIES:
        if density != DENSITIES[0]:
            inputs = [spikes(case, density, config.seed + k, device) for k in range(sets)]
            rival.feed(inputs)
            ours.feed(inputs)
            equal = agreement(case, block, inputs[0], ours.run()[0])
        timings = quote(rival, ours, config)
        ratios[density] = ratio(timings, "dense", "ours")
        result.figures += quoted(case, density, rival, ours, timings, sets, config, device)
        result.rows.append(
            {
                "block": case.name,
                "density": density,
                "rival": rival.variant.name,
                "rival_us": timings["dense"].median_s / sets * 1e6,
                "kernel": ours.kernel,
                "ours_us": timings["ours"].median_s / sets * 1e6,
                "ratio": ratios[density],
                "spikes_equal": equal,
                "kernels_us": {k: t.median_s / sets * 1e6 for k, t in ours.timings.items()},
            }
        )
        result.rows += [
            _row_beside(case, density, block, inputs, rival, precision, other, config)
            for precision, other in beside.items()
        ]
    return ratios


def _beside(
    case: BlockCase,
    block: Block,
    inputs: Sequence[Tensor],
    config: GpuBenchConfig,
    device: torch.device,
    result: StageResult,
) -> dict[str, Ours]:
    """Return our side in the other precisions, where a kernel has them."""
    found = {}
    for precision in [p for p in BESIDE if p != config.precision]:
        try:
            found[precision] = our_side(case, block, inputs, config, device, precision)
        except Exception as e:
            result.details[f"{case.name}, {precision}"] = {"not_run": f"{type(e).__name__}: {e}"[:300]}
    return found


def _row_beside(
    case: BlockCase,
    density: float,
    block: Block,
    inputs: Sequence[Tensor],
    rival: Prepared,
    precision: str,
    ours: Ours,
    config: GpuBenchConfig,
) -> dict[str, Any]:
    """Return the row of another precision against the same rival; it holds no check."""
    row: dict[str, Any] = {"block": f"{case.name}, {precision}", "density": density, "precision": precision}
    try:
        ours.feed(inputs)
        equal = agreement(case, block, inputs[0], ours.run()[0], least=0.0)
        timings = quote(rival, ours, config)
    except Exception as e:
        return {**row, "refused": f"{type(e).__name__}: {e}"[:300]}
    return {
        **row,
        "rival": rival.variant.name,
        "rival_us": timings["dense"].median_s / len(inputs) * 1e6,
        "kernel": ours.kernel,
        "ours_us": timings["ours"].median_s / len(inputs) * 1e6,
        "ratio": ratio(timings, "dense", "ours"),
        "spikes_equal": equal,
    }


def quoted(
    case: BlockCase,
    density: float,
    rival: Prepared,
    ours: Ours,
    timings: dict[str, Timing],
    sets: int,
    config: GpuBenchConfig,
    device: torch.device,
) -> list[Figure]:
    """Return the two figures of a quoted measurement."""
    known = versions()
    common: dict[str, Any] = {
        "calls": sets, "case": case.name, "shape": case.shape, "density": density, "quoted": True,
        "device": device_name(device),
    }  # fmt: skip
    v = rival.variant
    return [
        Figure.of(
            timings["dense"], provider=v.provider, mode=v.mode, dtype=v.dtype, layout=v.layout, timing=rival.timing,
            version=known.get(v.provider, "?"), **common,
        ),
        Figure.of(
            timings["ours"], provider="sparseflow", mode=ours.kernel, dtype=config.precision, layout="words",
            timing=ours.timing, version=config.commit or "?", **common,
        ),
    ]  # fmt: skip
