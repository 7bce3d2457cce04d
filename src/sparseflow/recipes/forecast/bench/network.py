"""The forecaster on a CPU against plain torch: one forecast of one window, and one step of a training."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sparseflow.cost.dense import compiler_available
from sparseflow.cost.measure import measure, ratio
from sparseflow.errors import UnsupportedError
from sparseflow.nn.models.cmamba import CMamba, ModelArgs
from sparseflow.recipes.checks import Check
from sparseflow.recipes.forecast.bench import rival
from sparseflow.recipes.threads import with_threads

__all__ = ["NetworkRow", "network_checks"]

BATCH, FASTER, AGREE, GRADIENTS = 64, 2.0, 1e-5, 1e-4
_VARIATES = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRow:
    """One measurement of the network of ETTh1-96.

    Args:
        what: "forecast", of one window, or "training step", of 64 windows.
        threads: of both sides.
        seconds: median time by side; ours is "sparseflow".
        ratios: how many times faster ours is, by side: the median of the times of a round over each other.
        difference: of the results, the largest; of the gradients over the largest of their tensor.
        failures: sides that do not run, with reasons.
    """

    what: str
    threads: int
    seconds: dict[str, float]
    ratios: dict[str, float]
    difference: float
    failures: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def network_checks(
    threads: tuple[int, ...], *, repeats: int, compile: bool = True, progress: bool = True
) -> tuple[list[Check], list[NetworkRow]]:
    """Time the network of ETTh1-96, three blocks without dropout, against the same equations in plain torch.

    Plain torch runs the recurrence step by step and by mambapy's parallel scan; the faster is the rival.

    Args:
        threads: counts, each measured in turn.
        repeats: rounds of a measurement.
        compile: let torch.compile make a forecast of plain torch, too.
        progress: show a bar.
    """
    rows = []
    for count in tqdm(threads, desc="network against plain torch", disable=None if progress else True):
        with with_threads(count):
            rows += [_forecast(repeats, compile and compiler_available()), _training(max(5, repeats // 4))]
    checks = []
    for row in rows:
        where = f"{row.what}, {row.threads} thread{'s' if row.threads > 1 else ''}"
        # A rival that is missing might be the faster one.
        missing = any("compiled" not in side for side in row.failures)
        eager = float("nan") if missing else min(v for k, v in row.ratios.items() if "compiled" not in k)
        name = f"{where}, over plain eager torch"
        checks.append(Check(show="4", name=name, value=eager, unit="x", rule=">=", bound=FASTER))
        for side, value in row.ratios.items():
            if "compiled" in side:
                name = f"{where}, over {side}"
                checks.append(Check(show="4", name=name, value=value, unit="x", rule=">=", bound=1.0))
        bound = AGREE if row.what == "forecast" else GRADIENTS
        name = f"{where}, difference from plain torch"
        checks.append(Check(show="4", name=name, value=row.difference, unit="absolute", rule="<=", bound=bound))
    return checks, rows


def _network() -> tuple[ModelArgs, CMamba]:
    torch.manual_seed(0)
    args = ModelArgs.paper(_VARIATES)
    return args, CMamba(args)


def _weights(model: CMamba) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _recurs(failures: dict[str, str]) -> dict[str, rival.Recur]:
    found: dict[str, rival.Recur] = {"plain, step by step": rival.one_after_the_other}
    try:
        found["plain, mambapy's parallel scan"] = rival.parallel()
    except UnsupportedError as e:
        failures["plain, mambapy's parallel scan"] = str(e)
    return found


def _forecast(repeats: int, compile: bool) -> NetworkRow:
    args, model = _network()
    model.eval()
    weights = {k: v.detach() for k, v in _weights(model).items()}
    x = torch.randn(1, _VARIATES, args.seq_len)
    failures: dict[str, str] = {}

    def plain(recur: rival.Recur) -> Callable[[Tensor], Tensor]:
        return lambda x: rival.forecast(args, weights, x, recur)

    calls: dict[str, Callable[[Tensor], Tensor]] = {"sparseflow": model}
    calls |= {name: plain(recur) for name, recur in _recurs(failures).items()}
    if compile:
        calls["plain, step by step, compiled"] = torch.compile(plain(rival.one_after_the_other), dynamic=False)

    def call(f: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.no_grad():
                return f(x)

        return run

    sides = {name: call(f) for name, f in calls.items()}
    timings = measure(sides, repeats=repeats, min_time_s=5e-3, budget_s=60.0, failures=failures)
    with torch.no_grad():
        difference = float((model(x) - rival.forecast(args, weights, x, rival.one_after_the_other)).abs().max())
    return _row("forecast", timings, difference, failures)


def _training(repeats: int) -> NetworkRow:
    args, model = _network()
    x, truth = torch.randn(BATCH, _VARIATES, args.seq_len), torch.randn(BATCH, _VARIATES, args.forecast_len)
    failures: dict[str, str] = {}

    def step(forecast: Callable[[Tensor], Tensor], weights: list[Tensor]) -> Callable[[], Tensor]:
        adam = torch.optim.Adam(weights, lr=5e-4)

        def run() -> Tensor:
            adam.zero_grad()
            loss = (forecast(x) - truth).abs().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            return loss.detach()

        return run

    def plain(recur: rival.Recur) -> tuple[Callable[[Tensor], Tensor], CMamba]:
        other = copy.deepcopy(model)
        weights = _weights(other)
        return lambda x: rival.forecast(args, weights, x, recur), other

    forecast, other = plain(rival.one_after_the_other)
    difference = _gradients_apart(model, other, forecast, x, truth)
    sides = {"sparseflow": step(model, list(model.parameters()))}
    for name, recur in _recurs(failures).items():
        forecast, other = plain(recur)
        sides[name] = step(forecast, list(other.parameters()))
    timings = measure(sides, warmup=1, repeats=repeats, budget_s=90.0, failures=failures)
    return _row("training step", timings, difference, failures)


def _gradients_apart(
    model: CMamba, other: CMamba, forecast: Callable[[Tensor], Tensor], x: Tensor, truth: Tensor
) -> float:
    ours = torch.autograd.grad((model(x) - truth).square().mean(), list(model.parameters()))
    theirs = torch.autograd.grad((forecast(x) - truth).square().mean(), list(other.parameters()))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))


def _row(what: str, timings: Any, difference: float, failures: dict[str, str]) -> NetworkRow:
    others = [name for name in timings if name != "sparseflow"]
    return NetworkRow(
        what=what, threads=torch.get_num_threads(), seconds={k: t.median_s for k, t in timings.items()},
        ratios={name: ratio(timings, name, "sparseflow") for name in others}, difference=difference, failures=failures,
    )  # fmt: skip
