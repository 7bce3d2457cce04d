"""Co-design: a network and a wafer in turn, A learns, B chooses chips, C maps, D places; the log, and the result."""

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sparseflow.hardware.chiplet import ChipletType, load_library
from sparseflow.hardware.layout import WaferLayout
from sparseflow.hardware.loss import HwFigures, compute_hw_loss, hw_schedule
from sparseflow.hardware.proxy import LayerSpec
from sparseflow.hardware.system import Predictor, System, Tables
from sparseflow.ir import Workload
from sparseflow.ir.files import write_atomic
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.recipes.codesign.alternate import Alternation, Proposal, start_design
from sparseflow.recipes.codesign.config import CodesignConfig
from sparseflow.recipes.codesign.describe import describe, tables_body
from sparseflow.recipes.codesign.learn import Guard, Learned, Learner
from sparseflow.recipes.codesign.log import StatsLine, oscillation, write_stats
from sparseflow.recipes.codesign.predictor import load_predictor
from sparseflow.recipes.codesign.workloads import kept_layers, read_workload, video_layers, workload_layers
from sparseflow.recipes.codesign.zigzag import read_zigzag
from sparseflow.recipes.commit import commit
from sparseflow.recipes.device import device_of, multiply_as
from sparseflow.recipes.video.checkpoint import Trained, save_trained
from sparseflow.recipes.video.network import build
from sparseflow.recipes.video.score import Scores, score
from sparseflow.recipes.video.sources import open_sources

__all__ = ["codesign", "make_system"]

LOG = "logs/version_c_stats.jsonl"
_FIXED = 4


def codesign(
    config: CodesignConfig,
    *,
    workload: Workload | None = None,
    predictor: Predictor | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Design a wafer for a network, and where it learns, the network for the wafer.

    Of a traced workload the layers stay as they are, and B, C and D take turns. A video transformer learns in phase A
    of every outer epoch, with L_hw among its losses through the shares that it keeps; behind the last epoch its gates
    close for good and the design is judged, and searched once more, for what really runs.

    Args:
        config: what to do.
        workload: a traced network in place of `config.workload`.
        predictor: what layers cost on chips; None loads `config.proxy`.
        say: told a line for each outer epoch.

    Returns:
        What `codesign.json` in `config.folder` holds: figures of the design and of the one that ratios refer to, the
        design itself, scores on the test, settings, commit, and the path of the log. The same seed gives the same log.

    Raises:
        ConfigError: settings that do not fit.
        DataError: a workload, a proxy or clips cannot be read.
        MeasurementError: the loss is no longer finite.
    """
    config.folder.mkdir(parents=True, exist_ok=True)
    system = make_system(config, predictor)
    run = _Run(config, system, say)
    sizes: dict[str, Any] = {"precision": config.precision, "batch": config.batch}
    if workload is not None:
        return run.fixed(workload_layers(workload, **sizes))
    if config.workload is not None:
        zigzag = config.workload.endswith((".yaml", ".yml"))
        layers = (
            read_zigzag(config.workload, **sizes)
            if zigzag
            else workload_layers(read_workload(config.workload), **sizes)
        )
        return run.fixed(layers)
    return run.learned()


def make_system(config: CodesignConfig, predictor: Predictor | None = None) -> System:
    """Return slots, wafer and costs of a configuration.

    Raises:
        ConfigError: an unknown type of chip, or settings that no wafer has.
        DataError: the proxy cannot be read.
    """
    types: Sequence[ChipletType] = load_library(config.library, names=config.types)
    return System(
        types,
        predictor or load_predictor(config.proxy),
        slots=config.slots,
        objective=config.objective,
        segment_size=config.segment_size,
        layout=WaferLayout(
            slots=config.slots, radius_mm=config.radius_mm, optimize_layout=config.optimize_layout
        ),
    )  # fmt: skip


class _Run:
    def __init__(self, config: CodesignConfig, system: System, say: Callable[[str], None]) -> None:
        self.config, self.system, self.say = config, system, say
        self.lines: list[StatsLine] = []
        self.trail: list[tuple[float, Any]] = []
        self.search: Alternation

    def fixed(self, layers: Sequence[LayerSpec]) -> dict[str, Any]:
        """Search a design for layers that stay as they are."""
        config = self.config
        self._begin(self.system.tables(layers))
        for epoch in range(config.outer_epochs):
            before = self.search.objective
            self._hardware(epoch, {})
            self.say(f"epoch {epoch}: {self._told()}")
            if epoch and before == self.search.objective:
                break
        self._split(epoch + 1, {})
        return self._finish({}, None, epoch + 1)

    def learned(self) -> dict[str, Any]:
        """Search a network and a design in turn."""
        config, task = self.config, self.config.task
        device = device_of(task.device)
        train, test = open_sources(task, device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(config.seed)
            model = build(task, classes=len(train.classes), channels=train.channels)
            model.to(device)
            self._begin(self._tables(model, start=True))
            self.search.refresh(self._tables(model))
            guard = Guard(config.guard)
            with multiply_as(task.precision, device, auto="bfloat16") as cast:
                steps = config.outer_epochs * config.steps_theta + config.steps_final
                learner = Learner(model, task, train, cast=cast, steps=steps)
                for epoch in range(config.outer_epochs):
                    learned = self._learn(model, learner, guard, epoch) if "A" in config.phases else None
                    self.search.refresh(self._tables(model))
                    state = self._state(model, learned, learner.done / learner.steps)
                    if learned is not None:
                        self._log(epoch, "A", True, None, state)
                    if not config.two_stage and guard.holds:
                        self._hardware(epoch, state)
                    self.say(f"epoch {epoch}: {self._told()}" + (f", top-1 {learned.top1:.3f}" if learned else ""))
                learner.close()
                if config.steps_final and "A" in config.phases:
                    learner.phase(config.steps_final, None, lambda _: 0.0, guard)
                layers = kept_layers(model, precision=config.precision, batch=config.batch)
                self.search.refresh(self.system.tables(layers))
                self._settle(self._state(model, None, 1.0))
                scores = score(model, test, batch_size=task.eval_batch, cast=cast)
        path = config.folder / "video.safetensors"
        body = self._finish(self._state(model, None, 1.0), scores, config.outer_epochs)
        save_trained(path, Trained(model=model, classes=test.classes, config=task, record={"codesign": body["file"]}))
        return body

    def _begin(self, tables: Tables) -> None:
        """Judge the reference, and start from its chips."""
        config = self.config
        fixed = config.fixed or (self.system.types[0].name,) * min(_FIXED, config.slots)
        start = start_design(self.system, fixed, len(tables.segments))
        self.reference: HwFigures = self.system.judge(tables.detach(), start).figures
        self.search = Alternation(
            self.system, config.hw, self.reference, start, tables, strategy=config.strategy,
            alpha_lr=config.alpha_lr, seed=config.seed,
        )  # fmt: skip
        self._log(0, "start", True, None, {})

    def _learn(self, model: VideoViT, learner: Learner, guard: Guard, epoch: int) -> Learned:
        config = self.config
        warm = (epoch + 1) / config.outer_epochs
        schedule = partial(hw_schedule, warmup=config.warmup, ramp=config.ramp)
        bill = None if config.two_stage or not config.lambda_hw else partial(self._bill, model)
        learned = learner.phase(config.steps_theta, bill, lambda done: config.lambda_hw * schedule(done), guard)
        if warm >= config.warmup:
            guard.lock()
        return learned

    def _bill(self, model: VideoViT) -> Tensor:
        """Return L_hw of the design in force for the shares that the network keeps now."""
        tables = self._tables(model, only=set(self.search.design.choice))
        alpha = self.system.one_hot(self.search.design.choice)
        figures = self.system.relaxed(tables, alpha, self.search.design)
        total = compute_hw_loss(figures, self.config.hw, self.reference)["total"]
        assert isinstance(total, Tensor)
        return total

    def _tables(self, model: VideoViT, *, start: bool = False, only: set[int] | None = None) -> Tables:
        config = self.config
        layers = video_layers(model, precision=config.precision, batch=config.batch)
        if start:
            # Ratios refer to the dense network.
            layers = tuple(
                replace(x, keep_token=1.0, keep_head=1.0, keep_channel=1.0, keep_block=1.0) for x in layers
            )  # fmt: skip
        return self.system.tables(layers, only=only)

    def _hardware(self, epoch: int, state: dict[str, Any]) -> None:
        """Phases B, C and D, as far as they take part."""
        config, search = self.config, self.search
        if "B" in config.phases and config.mode == "version_c_full":
            self._log(
                epoch, "B", *_told(search.chips(epoch, steps=config.steps_alpha, budget=config.candidates)), state
            )
        if "C" in config.phases:
            self._log(epoch, "C", *_told(search.mapping()), state)
        if "D" in config.phases:
            self._log(epoch, "D", *_told(search.placement(steps=config.steps_layout)), state)

    def _settle(self, state: dict[str, Any]) -> None:
        """Search on for the network that runs, until nothing falls."""
        for turn in range(self.config.outer_epochs):
            before = self.search.objective
            self._hardware(self.config.outer_epochs + turn, state)
            if before == self.search.objective:
                break
        self._split(self.config.outer_epochs + turn + 1, state)

    def _split(self, epoch: int, state: dict[str, Any]) -> None:
        """Divide segments where that pays, the last of all, and place dies for the transfers that come of it."""
        config, search = self.config, self.search
        if config.fine_split and config.objective == "balanced" and "C" in config.phases:
            done = search.split()
            self._log(epoch, "C", *_told(done), state)
            if done.accepted and "D" in config.phases:
                self._log(epoch, "D", *_told(search.placement(steps=config.steps_layout)), state)

    def _state(self, model: VideoViT, learned: Learned | None, done: float) -> dict[str, Any]:
        """Return what a line says of the network."""
        config, pruner = self.config, model.pruner
        state: dict[str, Any] = {}
        if pruner is not None:
            kept = {kind: w.mean().item() for kind, w in pruner.gates().items()}
            state = {f"sparsity_{kind}": 1 - kept.get(kind, 1.0) for kind in ("head", "ch", "block")}
            state["sparsity_token"] = 1 - pruner.keeps()[-1].item()
        if learned is not None:
            state |= {k: v for k, v in asdict(learned).items() if k != "top1"}
            if not config.two_stage:
                state["lambda_hw"] = config.lambda_hw * hw_schedule(done, warmup=config.warmup, ramp=config.ramp)
        return state

    def _log(self, epoch: int, phase: str, accepted: bool, proposed: float | None, state: dict[str, Any]) -> None:
        search = self.search
        f, cost, layout = search.verdict.figures, search.verdict.cost, search.verdict.layout
        design, types = search.design, self.system.types
        names = [types[c].name for c in design.choice if c < len(types)]
        busy = float(cost.per_slot_ms.sum())
        figures: dict[str, Any] = {k: v for k, v in f.to_dict().items() if not k.startswith("layout_")}
        self.trail.append((search.objective, (design.choice, design.mapping)))
        self.lines.append(
            StatsLine(
                epoch=epoch, phase=phase, accepted=accepted, objective=search.objective, proposed=proposed,
                **{**figures, "chips": round(figures["chips"])},
                boundary=float(f.layout.get("boundary", 0.0)), overlap=float(f.layout.get("overlap", 0.0)),
                layout_comm=float(f.layout.get("comm", 0.0)), t_max_c=layout.t_max_c,
                types={name: names.count(name) for name in sorted(set(names))},
                segments=tuple(design.mapping.count(s) for s in range(len(design.choice))),
                time_share=tuple(float(ms) / busy for ms in cost.per_slot_ms), **state,
            )
        )  # fmt: skip

    def _told(self) -> str:
        f = self.search.verdict.figures
        ratio = float(f.edp) / float(self.reference.edp)
        return (
            f"L_hw {self.search.objective:.4f}, {float(f.latency_ms):.4g} ms, {float(f.energy_mj):.4g} mJ, "
            f"EDP {ratio:.3f} of the reference, {round(float(f.chips))} chips"
        )

    def _finish(self, state: dict[str, Any], scores: Scores | None, epoch: int) -> dict[str, Any]:
        config, search = self.config, self.search
        tested = {} if scores is None else {"top1": scores.top1, "top5": scores.top5}
        self._log(epoch, "end", True, None, state | tested)
        log = write_stats(config.folder / LOG, self.lines)
        design, verdict = search.design, search.verdict
        body = {
            "mode": config.title,
            "seed": config.seed,
            "objective": search.objective,
            "figures": verdict.figures.to_dict(),
            "reference": self.reference.to_dict(),
            "edp_ratio": float(verdict.figures.edp) / float(self.reference.edp),
            "test": None if scores is None else scores.to_dict(),
            "keeps": {k.removeprefix("sparsity_"): 1 - v for k, v in state.items() if k.startswith("sparsity_")},
            "design": describe(self.system, self.search),
            "tables": tables_body(search.tables),
            "rewire_meta": search.rewire_meta,
            "seen": search.seen,
            "oscillation": oscillation([v for v, _ in self.trail], [d for _, d in self.trail]),
            "choice": list(design.choice),
            "config": config.to_dict(),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "commit": commit(),
            "log": str(log),
            "file": str(config.folder / "codesign.json"),
        }
        write_atomic(config.folder / "codesign.json", json.dumps(body, indent=1) + "\n")
        return body


def _told(proposal: Proposal) -> tuple[bool, float | None]:
    return proposal.accepted, proposal.objective
