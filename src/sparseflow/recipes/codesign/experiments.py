"""The study's experiments: ids, purposes, settings and commands, as a table and in smoke size."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparseflow.errors import ConfigError, DataError
from sparseflow.ir.files import write_atomic
from sparseflow.recipes.codesign.config import CodesignConfig
from sparseflow.recipes.settings import read_settings
from sparseflow.recipes.video.config import VideoConfig

__all__ = ["EXPERIMENTS", "Experiment", "experiments_table", "smoke"]

_SMOKE_VIDEO, _SMOKE_WHOLE = "smoke_ast_ucf101.yaml", "smoke_version_c_ucf101.yaml"
_SMOKE_EPOCHS, _SMOKE_STEPS = 2, 6
# Sizes of a smoke run, taken from its own file; the rest stays what the experiment says.
_SIZES = (
    "data", "num_frames", "img_size", "clip_lens", "flip", "model_args", "position_std", "batch_size", "lr", "gate_lr",
    "device", "workers", "per_video", "test_per_video",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One line of the table.

    Args:
        phase: heading that it stands under.
        id: as "P1-2".
        purpose: what it shows.
        config: file in `configs`.
        kind: "fit", "video" or "codesign": the command that takes the file.
    """

    phase: str
    id: str
    purpose: str
    config: str
    kind: str

    @property
    def command(self) -> str:
        """What runs it."""
        verb = {"fit": "codesign fit", "video": "video train", "codesign": "codesign run --config"}[self.kind]
        return f"sparseflow {verb} configs/{self.config}"


def _made(phase: str, kind: str, rows: tuple[tuple[str, str, str], ...]) -> tuple[Experiment, ...]:
    return tuple(Experiment(phase=phase, kind=kind, id=i, purpose=p, config=c) for i, p, c in rows)


EXPERIMENTS = (
    *_made("P0: proxies", "fit", (
        ("P0-1", "proxy of latency and memory from measured layers", "proxy_ms_mem.yaml"),
        ("P0-2", "proxy of power from measured layers", "proxy_power.yaml"),
    )),
    *_made("P1: one device", "video", (
        ("P1-1", "all tokens, the accuracy to hold", "ast2_ucf101_dense.yaml"),
        ("P1-2", "entropy-pruned, no hardware in the loss", "ast2_ucf101_ast_only.yaml"),
        ("P1-3", "entropy-pruned under a price on operations", "ast2_ucf101_ast_hw.yaml"),
    )),
    *_made("P2: fixed chips", "codesign", (
        ("P2-1", "four big cores on a grid, segments in turn", "vc_phase2_fixed4_grid.yaml"),
        ("P2-2", "the same, mapped greedily", "vc_phase2_fixed4_big.yaml"),
        ("P2-3", "the same, dies move", "vc_phase2_fixed4_layout.yaml"),
    )),
    *_made("P3: co-design", "codesign", (
        ("P3-1", "weights, shares, chips, mapping and placement in turn", "vc_phase3_full_ucf101.yaml"),
        ("P3-2", "without placement", "vc_phase3_nolayout_ucf101.yaml"),
        ("P3-3", "chips cost nothing but their area", "vc_phase3_nochip_ucf101.yaml"),
    )),
    *_made("P4: smoke", "video", (("SM-1", "pruned training in minutes", _SMOKE_VIDEO),)),
    *_made("P4: smoke", "codesign", (("SM-2", "co-design in minutes", _SMOKE_WHOLE),)),
    *_made("Ablations of the score", "video", (
        ("AB-1", "no entropy over time", "ast2_ucf101_no_time.yaml"),
        ("AB-2", "no entropy over space", "ast2_ucf101_no_space.yaml"),
        ("AB-3", "no regions", "ast2_ucf101_no_voronoi.yaml"),
        ("AB-4", "one window", "ast2_ucf101_one_level.yaml"),
        ("AB-5", "uniform tokens", "ast2_ucf101_uniform.yaml"),
        ("AB-6", "random tokens", "ast2_ucf101_random.yaml"),
    )),
    *_made("Ablations of the loop", "codesign", (
        ("AB-7", "first the network, then the wafer", "vc_two_stage_ucf101.yaml"),
        ("AB-8", "mapping alone", "vc_mapping_only_ucf101.yaml"),
        ("AB-9", "placement alone", "vc_layout_only_ucf101.yaml"),
    )),
)  # fmt: skip
"""Every experiment of the study, in its order."""


def experiments_table() -> str:
    """Return all experiments as Markdown: phase by phase, id, purpose, settings and command."""
    lines = [
        "# Experiments of version C",
        "",
        "Made by `sparseflow codesign experiments --out EXPERIMENTS_VERSION_C.md`. Each runs in smoke size, within",
        "two minutes on two cores and without any data, by `sparseflow codesign experiments --run ID`.",
    ]
    phase = ""
    for e in EXPERIMENTS:
        if e.phase != phase:
            phase = e.phase
            lines += ["", f"## {phase}", "", "| ID | purpose | settings | command |", "|---|---|---|---|"]
        lines.append(f"| {e.id} | {e.purpose} | `configs/{e.config}` | `{e.command}` |")
    return "\n".join(lines) + "\n"


def smoke(
    name: str,
    *,
    out: str | Path = "outputs/smoke",
    configs: str | Path = "configs",
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run one experiment in smoke size: its own settings on small clips, a small network and few steps.

    Args:
        name: its id.
        out: folder of the runs.
        configs: folder of the settings.
        say: told about progress.

    Returns:
        The id, the command that it stands for, and what the run returned.

    Raises:
        ConfigError: no such experiment.
        DataError: its settings are not there.
    """
    found = [e for e in EXPERIMENTS if e.id == name]
    if not found:
        raise ConfigError(f"no experiment {name!r}; there are {', '.join(e.id for e in EXPERIMENTS)}")
    experiment, folder = found[0], Path(configs)
    file = folder / experiment.config
    if not file.is_file():
        raise DataError(f"{file} is not there; name the folder of the settings")
    place = Path(out) / experiment.id
    say(f"{experiment.id}: {experiment.purpose}")
    result = {"fit": _smoke_fit, "video": _smoke_video, "codesign": _smoke_whole}[experiment.kind](
        file, folder, str(place), say
    )
    body = {"id": experiment.id, "command": experiment.command, "result": result}
    write_atomic(_made_folder(place) / "smoke.json", json.dumps(body, indent=1, default=str) + "\n")
    return body


def _made_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _smoke_video(file: Path, folder: Path, out: str, say: Callable[[str], None]) -> dict[str, Any]:
    from sparseflow.recipes.video import train_video

    own, small = read_settings(VideoConfig, file), read_settings(VideoConfig, folder / _SMOKE_VIDEO)
    config = _small(own, small)
    return train_video(replace(config, out=out, epochs=_SMOKE_EPOCHS, warmup_epochs=0.5), progress=False)


def _smoke_whole(file: Path, folder: Path, out: str, say: Callable[[str], None]) -> dict[str, Any]:
    from sparseflow.recipes.codesign.run import codesign

    own, small = read_settings(CodesignConfig, file), read_settings(CodesignConfig, folder / _SMOKE_WHOLE)
    config = replace(
        own, video=_small(own.video, small.video), outer_epochs=_SMOKE_EPOCHS, steps_theta=_SMOKE_STEPS,
        steps_final=_SMOKE_STEPS,
        steps_alpha=small.steps_alpha, candidates=small.candidates, slots=small.slots, segment_size=small.segment_size,
        proxy=small.proxy, batch=small.batch, out=out,
    )  # fmt: skip
    return codesign(config, say=say)


def _smoke_fit(file: Path, folder: Path, out: str, say: Callable[[str], None]) -> dict[str, Any]:
    from sparseflow.recipes.codesign.fit import FitConfig, fit

    config = read_settings(FitConfig, file, out=f"{out}/proxy.safetensors", steps=_SMOKE_STEPS)
    return fit(config, say=say)


def _small(own: VideoConfig, small: VideoConfig) -> VideoConfig:
    """Return settings with the sizes of a small run; of a schedule for more blocks, the last share alone."""
    cfg = dict(own.ast_cfg)
    depth = small.model_args["depth"]
    if schedule := cfg.get("keep_schedule"):
        inside = {block: share for block, share in schedule.items() if int(block) < depth}
        cfg["keep_schedule"] = inside or {1: list(schedule.values())[-1]}
    return replace(own, ast_cfg=cfg, **{name: getattr(small, name) for name in _SIZES})
