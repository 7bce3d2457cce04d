"""`sparseflow video bench`: what dropped tokens and sliced parts save in time and memory, beside rivals."""

import gc
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseflow.cost.dense import compiler_available
from sparseflow.cost.measure import Timing, measure, ratio
from sparseflow.errors import ConfigError
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.device import device_of
from sparseflow.recipes.graphed import recorded
from sparseflow.recipes.threads import with_threads
from sparseflow.recipes.video.agree import agreement, agreement_checks
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic

__all__ = ["FORMS", "VideoBenchConfig", "bench", "built"]

PRUNED = ("entropy", "motion", "uniform", "random", "evit", "tome")
Facts = tuple[int, int, float, dict[str, str]]
WAYS = ("graph", "regional", "compiled")
"""On CUDA: as it is, each block and the scorer compiled, the whole compiled; all recorded as CUDA graphs."""
_WHOLE = ("dense", "entropy", "sliced", "both")
FORMS = (*PRUNED, "sliced", "both")
"""Half of the tokens kept by each score; half of the heads and hidden channels sliced out; the two together."""
_VIT_B = {"embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0, "patch_size": 16, "num_classes": 101}
_NARROW = {**_VIT_B, "embed_dim": 192, "num_heads": 3}
_SHOWS = {"entropy": ("2", 1.9), "sliced": ("2", 1.6), "both": ("2", 3.0)}
_SCORER, _MEMORY, _ON_CPU = 0.03, 0.7, 1.9
PROTOCOL = (
    "One process, interleaved rounds, the same random clips; a ratio is the median of the ratios of the rounds. Fresh "
    "weights, inference: what is timed does not depend on them. On CUDA each form is recorded as one CUDA graph, "
    "plain, block by block behind torch.compile, and whole (the dense network and the forms with an aim), and the "
    "fastest stands for it. The scorer lies inside the timer of each pruned form. Memory is the most that one call "
    "adds, of the leanest way."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoBenchConfig:
    """What to measure.

    Args:
        device: "cpu", "cuda" or "auto".
        forms: names of `FORMS`; empty for all on CUDA, and for "entropy" and "uniform" on a CPU.
        keep: share of the tokens that is kept.
        prune_before: block before which the others are dropped.
        batch: clips a call; None for 16 on CUDA and 1 on a CPU.
        frames: T.
        side: S, pixels.
        model_args: arguments of the network; by default ViT-B/16 on CUDA, and one 192 wide on a CPU.
        ast_cfg: further settings of the pruner, for every score.
        threads: on a CPU, each count measured in turn.
        repeats: rounds.
        compile: whether torch.compile takes part.
        out: file for the JSON, or None.

    Raises:
        ConfigError: an unknown form, or a count below 1.
    """

    device: str = "auto"
    forms: tuple[str, ...] = ()
    keep: float = 0.5
    prune_before: int = 1
    batch: int | None = None
    frames: int = 8
    side: int = 224
    model_args: tuple[tuple[str, Any], ...] = ()
    ast_cfg: tuple[tuple[str, Any], ...] = ()
    threads: tuple[int, ...] = (2,)
    repeats: int = 10
    compile: bool = True
    out: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if unknown := set(self.forms) - set(FORMS):
            raise ConfigError(f"forms has {', '.join(sorted(unknown))}; expected some of {', '.join(FORMS)}")
        if min(self.frames, self.side, self.repeats, *self.threads, 1 if self.batch is None else self.batch) < 1:
            raise ConfigError("frames, side, batch, threads and repeats are expected to be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One form of the network.

    Args:
        form: "dense" or a name of `FORMS`.
        threads: on a CPU; 0 on CUDA.
        ways: how it ran, "eager" or a name of `WAYS`, with the median time of a call in seconds.
        speedup: times faster than the dense network, each at its fastest.
        clips_per_s: at its fastest.
        gflops: of a clip, as counted.
        peak_bytes: most memory that a call adds; 0 where it is not measured.
        train_peak_bytes: the same of a call in training and the gradients of all weights.
        failures: ways that do not run, with reasons.
    """

    form: str
    threads: int
    ways: dict[str, float]
    speedup: float
    clips_per_s: float
    gflops: float
    peak_bytes: int
    train_peak_bytes: int
    failures: dict[str, str]


def built(form: str, config: VideoBenchConfig, device: torch.device) -> VideoViT:
    """Return the network of a form, in eval mode; half precision on CUDA.

    Args:
        form: "dense" or a name of `FORMS`.
        config: sizes.
        device: where to.
    """
    sizes = dict(_VIT_B if device.type == "cuda" else _NARROW) | dict(config.model_args)
    given: dict[str, Any] = {**sizes, "img_size": config.side, "num_frames": config.frames}
    if form in ("sliced", "both"):
        depth, width = given["depth"], int(given["mlp_ratio"] * given["embed_dim"])
        given |= {"block_heads": [max(1, given["num_heads"] // 2)] * depth, "block_hidden": [width // 2] * depth}
    if form in PRUNED or form == "both":
        score = "entropy" if form == "both" else form
        cfg = {"keep": config.keep, "prune_before": config.prune_before, "score": score, "gate": "hard"}
        given |= {"use_ast_prune": True, "ast_cfg": {**cfg, **dict(config.ast_cfg)}}
    # Made where it runs: a CPU takes seconds to draw the weights of a ViT-B.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), device:
        torch.manual_seed(0)
        model = VideoViT(**given).eval()
    return model.to(device, torch.bfloat16 if device.type == "cuda" else torch.float32)


def bench(config: VideoBenchConfig, *, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Measure and hold every figure against its target.

    Args:
        config: what to measure.
        say: is told each row as it comes.

    Returns:
        `{"checks": [...], "ok": ..., "rows": [...], "agreement": {...}, ...}`.

    Raises:
        ConfigError: no such device, or sizes out of range.
    """
    began = time.perf_counter()
    device = device_of(config.device)
    cuda = device.type == "cuda"
    if config.out is not None:
        prepare_folder(Path(config.out).parent)
    forms = config.forms or (FORMS if cuda else ("entropy", "uniform"))
    agreed = agreement()
    checks = agreement_checks(agreed)
    rows: list[Row] = []
    for threads in (0,) if cuda else config.threads:
        rows += _rows(("dense", *forms), config, device, threads, say)
    checks += _speed_checks(rows, config, cuda)
    scorer: dict[str, float] = {}
    if cuda and "entropy" in forms:
        dense = next(r for r in rows if r.form == "dense")
        scorer = _scorer(config, device)
        share = min(scorer.values()) / min(dense.ways.values())
        checks.append(
            Check(show="2", name="scorer, of the dense time", value=share, unit="share", rule="<=", bound=_SCORER)
        )
    body = checks_body(
        checks, bench="video", protocol=PROTOCOL, config=asdict(config), device=device.type,
        environment=describe(), rows=[asdict(r) for r in rows], scorer_s=scorer, agreement=agreed,
        wall_s=time.perf_counter() - began,
    )  # fmt: skip
    if config.out is not None:
        write_atomic(config.out, json.dumps(body, indent=1, allow_nan=False))
    return body


def _speed_checks(rows: list[Row], config: VideoBenchConfig, cuda: bool) -> list[Check]:
    checks = []
    what = f"keep {config.keep:g} before block {config.prune_before}"
    names = {"entropy": f"{what}, over dense", "sliced": "half of heads and hidden sliced, over dense"}
    names["both"] = f"sliced, and {what}, over dense"
    for row in rows:
        if not cuda and row.form == "entropy":
            name = f"{names['entropy']}, {row.threads} thread{'s' if row.threads > 1 else ''} of a CPU"
            checks.append(Check(show="3", name=name, value=row.speedup, unit="x", rule=">=", bound=_ON_CPU))
        elif cuda and row.form in _SHOWS:
            show, bound = _SHOWS[row.form]
            checks.append(Check(show=show, name=names[row.form], value=row.speedup, unit="x", rule=">=", bound=bound))
    if cuda and (found := [r for r in rows if r.form == "entropy"]):
        dense = next(r for r in rows if r.form == "dense")
        for whole, kind in (("forward", "peak_bytes"), ("forward and backward", "train_peak_bytes")):
            ours, theirs = getattr(found[0], kind), getattr(dense, kind)
            name = f"peak memory, {whole}, {what}, of dense"
            share = ours / theirs if theirs else float("nan")
            checks.append(Check(show="2", name=name, value=share, unit="share", rule="<=", bound=_MEMORY))
    return checks


def _rows(
    forms: tuple[str, ...], config: VideoBenchConfig, device: torch.device, threads: int, say: Callable[[str], None]
) -> list[Row]:
    """Time all forms, on CUDA one beside the dense network at a time, on a CPU all together."""
    if device.type == "cuda":
        ways = [_recorded(form, config, device) for form in forms]
        sides = {
            f"{form} {way}": f for form, (found, _, _, _) in zip(forms, ways, strict=True) for way, f in found.items()
        }
        return _summed(forms, config, [(*peaks, gflops, bad) for _, peaks, gflops, bad in ways], sides, 0, say)
    with with_threads(threads):
        clip = _clip(config, device)
        nets = {form: built(form, config, device) for form in forms}
        facts: list[Facts] = [(0, 0, _gflops(net, clip), {}) for net in nets.values()]
        sides = {f"{form} eager": _call(net, clip) for form, net in nets.items()}
        if config.compile and compiler_available():
            sides |= {f"{form} compiled": _call(torch.compile(net, dynamic=False), clip) for form, net in nets.items()}
        return _summed(forms, config, facts, sides, threads, say)


def _summed(
    forms: tuple[str, ...],
    config: VideoBenchConfig,
    facts: list[Facts],
    sides: Mapping[str, Callable[[], Any]],
    threads: int,
    say: Callable[[str], None],
) -> list[Row]:
    failures: dict[str, str] = {}
    timings = measure(sides, repeats=config.repeats, min_time_s=2e-2, budget_s=120.0, failures=failures)
    rows = []
    batch = config.batch or (1 if threads else 16)
    for form, (peak, train_peak, gflops, bad) in zip(forms, facts, strict=True):
        ways = {k.split()[1]: t.median_s for k, t in timings.items() if k.split()[0] == form}
        bad = bad | {k.split()[1]: reason for k, reason in failures.items() if k.split()[0] == form}
        fastest = min(ways.values(), default=float("nan"))
        row = Row(
            form=form, threads=threads, ways=ways, speedup=_speedup(timings, form), clips_per_s=batch / fastest,
            gflops=gflops, peak_bytes=peak, train_peak_bytes=train_peak, failures=bad,
        )  # fmt: skip
        rows.append(row)
        each = ", ".join(f"{way} {1e3 * seconds:.3f}" for way, seconds in ways.items())
        say(f"{form:9s} {1e3 * fastest:9.3f} ms {row.speedup:6.3f}x  {each}")
    return rows


def _speedup(timings: Mapping[str, Timing], form: str) -> float:
    def fastest(name: str) -> str | None:
        found = {k: t.median_s for k, t in timings.items() if k.split()[0] == name}
        return min(found, key=found.__getitem__) if found else None

    dense, ours = fastest("dense"), fastest(form)
    return float("nan") if dense is None or ours is None else ratio(timings, dense, ours)


def _clip(config: VideoBenchConfig, device: torch.device) -> Tensor:
    g = torch.Generator().manual_seed(0)
    batch = config.batch or (16 if device.type == "cuda" else 1)
    clip = torch.randn(batch, config.frames, 3, config.side, config.side, generator=g)
    return clip.to(device, torch.bfloat16 if device.type == "cuda" else torch.float32)


def _call(model: Callable[[Tensor], Any], clip: Tensor) -> Callable[[], Any]:
    def run() -> Any:
        with torch.no_grad():
            return model(clip)

    return run


@torch.no_grad()
def _gflops(model: VideoViT, clip: Tensor) -> float:
    return float(model(clip[:1], return_intermediate=True)[1]["flops"].float().sum()) / 1e9


def _recorded(
    form: str, config: VideoBenchConfig, device: torch.device
) -> tuple[dict[str, Callable[[], Any]], tuple[int, int], float, dict[str, str]]:
    """Return a form's graphs by way, its memory in inference and training, its operations, and what failed."""
    clip, model = _clip(config, device), built(form, config, device)
    gflops, training = _gflops(model, clip), _peak(_learns(model, clip))
    found: dict[str, Callable[[], Any]] = {}
    failures: dict[str, str] = {}
    peaks: list[int] = []
    ways = WAYS[: 3 if form in _WHOLE else 2] if config.compile and compiler_available() else WAYS[:1]
    for way in ways:
        try:
            with torch._dynamo.config.patch(recompile_limit=64):
                call = _call(_compiled(built(form, config, device), way), clip)
                call()
                peaks.append(_peak(call))
                found[way] = recorded(call)
        except Exception as e:
            # Whatever torch raises: the row says so, and the other ways stand for the form.
            failures[way] = f"{type(e).__name__}: {str(e)[:300]}"
    return found, (min(peaks, default=0), training), gflops, failures


def _compiled(model: VideoViT, way: str) -> Callable[[Tensor], Any]:
    """Return a network to call in a way of `WAYS`."""
    if way == "compiled":
        return torch.compile(model, dynamic=False)
    if way == "regional":
        scorer = None if model.pruner is None else model.pruner.scorer
        for part in (*model.blocks, *(() if scorer is None else (scorer,))):
            part.compile(dynamic=False)
    return model


def _learns(model: VideoViT, clip: Tensor) -> Callable[[], Any]:
    """Return a forward in training with the gradients of all weights, which leaves nothing behind."""

    def run() -> Any:
        model.train()
        torch.autograd.grad(model(clip).float().sum(), [p for p in model.parameters() if p.requires_grad])
        model.eval()

    return run


def _peak(call: Callable[[], Any]) -> int:
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


@torch.no_grad()
def _scorer(config: VideoBenchConfig, device: torch.device) -> dict[str, float]:
    """Return the time of scoring alone, as it is and compiled, as CUDA graphs."""
    model, clip = built("entropy", config, device), _clip(config, device)
    tokens, pruner = model.patch_embed(clip), model.pruner
    assert pruner is not None

    def scored(x: Tensor) -> Tensor:
        score = pruner.token_score(x)
        assert score is not None
        return pruner.lifted(score)

    nets: dict[str, Callable[[Tensor], Tensor]] = {"graph": scored}
    if config.compile and compiler_available():
        nets["compiled"] = torch.compile(scored, dynamic=False)
    sides: dict[str, Callable[[], Any]] = {}
    for way, net in nets.items():
        call = _call(net, tokens)
        call()
        sides[way] = recorded(call)
    return {way: t.median_s for way, t in measure(sides, repeats=config.repeats, min_time_s=1e-2).items()}
