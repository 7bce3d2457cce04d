"""Random configurations: the kernels against dense float32, as a test and as a benchmark's gate."""

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import UnsupportedError
from sparseflow.ops import conv2d_spike as ops
from sparseflow.ops.conv2d_spike.reference import Geometry
from sparseflow.ops.lif import LIFParams, pack_spikes, unpack_spikes
from sparseflow.ops.lif.reference import charge, discharge

__all__ = ["AMBIGUOUS", "RELATIVE", "Case", "Outcome", "check", "check_random_configs", "draw"]

# A potential this close to the threshold may fall on either side of it, as float32 sums differ by their order.
AMBIGUOUS = 1e-5
# Allowed error of a float output, relative to the largest one.
RELATIVE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One configuration: geometry, neuron, sizes and spike density, with the seed of its data."""

    seed: int
    channels: int
    out_channels: int
    size: tuple[int, int]
    kernel_size: tuple[int, int]
    geometry: Geometry
    steps: int
    samples: int
    density: float
    bias: bool
    residual: str
    state: bool
    params: LIFParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one case gave.

    Args:
        case: the configuration.
        spikes: neuron-steps that were compared.
        ambiguous: neuron-steps left out, since the potential came within 1e-5 of
            the threshold then or earlier.
        wrong: compared neuron-steps that differ from dense float32.
        error: largest error of a float output over the largest dense output.
        repeatable: two runs, on one thread and on two, gave the same bits.
        rate: fraction of neuron-steps that spiked.
        refusal: why the kernel rejects the case, or None.
    """

    case: Case
    spikes: int = 0
    ambiguous: int = 0
    wrong: int = 0
    error: float = 0.0
    repeatable: bool = True
    rate: float = 0.0
    refusal: str | None = None

    @property
    def ok(self) -> bool:
        """No wrong spike, small error, same bits."""
        return self.wrong == 0 and self.error <= RELATIVE and self.repeatable


def draw(seed: int) -> Case:
    """Return the case of a seed; the same on every machine.

    >>> draw(3) == draw(3)
    True
    """
    rng = random.Random(seed)
    k = rng.choice([1, 3, 3, 5, 7])
    kernel = (k, k) if rng.random() < 0.8 else (k, rng.choice([1, 3, 5]))
    stride, dilation = rng.choice([1, 1, 2]), rng.choice([1, 1, 1, 2])
    padding = rng.choice([0, k // 2, dilation * (k // 2)])
    geometry = Geometry((stride, stride), (padding, padding), (dilation, dilation))
    least = [max(1, dilation * (n - 1) + 1 - 2 * padding) for n in kernel]
    size = (least[0] + rng.randrange(9), least[1] + rng.randrange(9))
    kind = rng.choice(["one", "one", "groups", "depthwise"])
    channels = rng.choice([1, 3, 7, 16, 31, 32, 33, 48, 64, 65, 96, 100])
    out_channels = rng.choice([1, 5, 16, 17, 32, 40, 64, 70])
    if kind == "groups":
        groups = rng.choice([2, 3, 4])
        channels, out_channels = groups * rng.choice([1, 5, 16, 24, 33]), groups * rng.choice([1, 3, 16, 20])
        geometry = geometry._replace(groups=groups)
    elif kind == "depthwise":
        out_channels = channels * rng.choice([1, 1, 2])
        geometry = geometry._replace(groups=channels)
    neuron = rng.choice(["if", "lif", "plif"])
    tau = 1.0 + rng.choice([1.0, 0.5, 2.3]) if neuron == "lif" else 1.0 + 2.718281828 ** -rng.uniform(-2, 2)
    params = LIFParams(
        tau=tau,
        v_threshold=rng.choice([1.0, 0.5]),
        v_reset=rng.choice([0.0, None, -0.3]),
        decay_input=rng.random() < 0.5,
        kind="if" if neuron == "if" else "lif",
    )
    return Case(
        seed=seed,
        channels=channels,
        out_channels=out_channels,
        size=size,
        kernel_size=kernel,
        geometry=geometry,
        steps=rng.randint(1, 16),
        samples=rng.randint(1, 2),
        density=rng.choice([0.0, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0]),
        bias=rng.random() < 0.7,
        residual=rng.choice(["", "", "floats", "spikes"]),
        state=rng.random() < 0.5,
        params=params,
    )


def _data(case: Case) -> dict[str, Any]:
    g = torch.Generator().manual_seed(case.seed)
    m = case.steps * case.samples
    fan = case.channels // case.geometry.groups * case.kernel_size[0] * case.kernel_size[1]
    weight = torch.randn((case.out_channels, case.channels // case.geometry.groups, *case.kernel_size), generator=g)
    weight *= 1.5 / max(1.0, fan * case.density) ** 0.5
    x = (torch.rand((m, case.channels, *case.size), generator=g) < case.density).float()
    bias = torch.randn(case.out_channels, generator=g) * 0.5 if case.bias else None
    size = case.geometry.output(case.size, case.kernel_size)
    shape = (m, case.out_channels, *size)
    residual = None
    if case.residual:
        residual = torch.randn(shape, generator=g) * 0.3
        residual = (residual > 0.3).float() if case.residual == "spikes" else residual
    v0 = torch.randn((case.samples, *shape[1:]), generator=g) * 0.2 if case.state else None
    return {"x": x, "weight": weight, "bias": bias, "residual": residual, "v0": v0}


def check(case: Case, kernel: str = "event") -> Outcome:
    """Run one case through every operator and compare with dense torch.

    Args:
        case: the configuration.
        kernel: the kernel to check.
    """
    data = _data(case)
    x, weight, bias = data["x"], data["weight"], data["bias"]
    moves = case.geometry
    how: dict[str, Any] = {
        "stride": moves.stride,
        "padding": moves.padding,
        "dilation": moves.dilation,
        "groups": moves.groups,
    }
    sizes: dict[str, Any] = {
        "channels": case.channels,
        "out_channels": case.out_channels,
        "kernel_size": case.kernel_size,
    }
    try:
        rows = ops.pack_weight(weight, moves.groups, kernel=kernel)
    except UnsupportedError as e:
        return Outcome(case=case, refusal=str(e))
    words = pack_spikes(x)
    y = torch.nn.functional.conv2d(x, weight, bias, *moves)
    exact = torch.nn.functional.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), *moves)
    residual = data["residual"]
    given = pack_spikes(residual) if case.residual == "spikes" else residual

    def run() -> list[Tensor]:
        out, v = ops.conv_lif(
            words, rows, bias, case.params, steps=case.steps, v0=data["v0"], residual=given, **sizes, **how
        )
        floats = ops.conv_words(words, rows, bias, **sizes, **how)
        return [out, v, floats, ops.spike_conv2d(x, weight, bias, rows=rows, kernel=kernel, **how)]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = run()
        torch.set_num_threads(2)
        second = run()
    finally:
        torch.set_num_threads(threads)
    out, v, *floats = first
    error = max((float(f.double().sub(exact).abs().max()) for f in floats), default=0.0) / float(
        exact.abs().max().clamp_min(1e-30)
    )
    spikes = unpack_spikes(out, case.out_channels).reshape(case.steps, case.samples, *y.shape[1:])
    compared, wrong, clear, last = _compare(y if residual is None else y + residual, spikes, case, data["v0"])
    error = max(error, float(((v - last) * clear).abs().max() / last.abs().max().clamp_min(1.0)))
    return Outcome(
        case=case,
        spikes=compared,
        ambiguous=spikes.numel() - compared,
        wrong=wrong,
        error=error,
        repeatable=all(torch.equal(a, b) for a, b in zip(first, second, strict=True)),
        rate=float(spikes.mean()),
    )


def _compare(y: Tensor, spikes: Tensor, case: Case, v0: Tensor | None) -> tuple[int, int, Tensor, Tensor]:
    """Return compared and wrong neuron-steps, the neurons never ambiguous, and the dense potential."""
    y = y.reshape(spikes.shape)
    v = torch.full_like(y[0], case.params.v_rest) if v0 is None else v0
    clear = torch.ones_like(y[0], dtype=torch.bool)
    compared = wrong = 0
    for t in range(case.steps):
        h = charge(v, y[t], case.params)
        clear &= (h - case.params.v_threshold).abs() >= AMBIGUOUS
        s = (h >= case.params.v_threshold).float()
        compared += int(clear.sum())
        wrong += int(((s != spikes[t]) & clear).sum())
        v = discharge(h, s, case.params)
    return compared, wrong, clear, v


def check_random_configs(count: int = 200, seed: int = 0, kernel: str = "event") -> list[Outcome]:
    """Check random configurations against dense float32.

    Kernel sizes 1, 3, 5 and 7 (square and not), stride 1 and 2, dilation, groups,
    depthwise, odd sizes, any channel count, 1 to 16 steps; IF, LIF and PLIF with
    hard and soft reset, with and without decayed input; with and without bias,
    residual and initial state; densities from 0 to 1.

    Args:
        count: how many configurations.
        seed: the first configuration; configuration i is `draw(seed + i)`.
        kernel: the kernel to check.

    Returns:
        One outcome a configuration; `outcome.ok` says whether it holds.
    """
    return [check(draw(seed + i), kernel) for i in range(count)]
