"""The page of trained video transformers: accuracy, throughput, and what they kept of some clips."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparseflow import report as pages
from sparseflow.errors import ConfigError
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.recipes.device import device_of, multiply_as
from sparseflow.recipes.video.checkpoint import Trained, load_trained
from sparseflow.recipes.video.score import score
from sparseflow.recipes.video.sources import Source, open_sources
from sparseflow.recipes.video.speed import clips_per_s

__all__ = ["video_page"]

_TITLES = {
    "digits": "MNIST digits that move",
    "jhmdb": "J-HMDB's joint tracks as heat maps",
    "ucf101": "UCF101, or videos in its layout",
}
_BATCH = 8


def video_page(
    checkpoints: Sequence[str],
    folder: str | Path,
    *,
    data: str | None = None,
    clips: int = 4,
    device: str = "auto",
    batch_size: int = 64,
    pictures: bool = False,
) -> dict[str, Any]:
    """Score networks of one data set, time them side by side, draw what they keep, and write a page.

    Args:
        checkpoints: files of trainings or slicings.
        folder: where `report.html` and `report.json` go.
        data: folder of the data set; None for where it lay in the training.
        clips: first clips of the test to draw for each network that drops tokens.
        device: "auto", "cpu" or "cuda"; in float32.
        batch_size: clips a call when scoring.
        pictures: also write the moving pictures as files of their own.

    Returns:
        The body of `report.json`, with the paths of all files under `files`.

    Raises:
        ConfigError: no checkpoint, or checkpoints of different data.
        DataError: a checkpoint or a clip cannot be read, or the folder cannot be written.
    """
    if not checkpoints:
        raise ConfigError("no checkpoint to draw; name at least one")
    path, where = pages.prepare_folder(folder), device_of(device)
    found = [load_trained(name) for name in checkpoints]
    if len({(t.config.dataset, t.classes) for t in found}) > 1:
        raise ConfigError("checkpoints of different data; draw each data set on a page of its own")
    names = _names(found, checkpoints)
    first = found[0].config
    (test,) = open_sources(replace(first, workers=0, data=data or first.data), where, roles=("test",))
    with multiply_as("float32", where) as cast:
        models = [t.model.to(where) for t in found]
        scores = [score(m, test, batch_size=batch_size, cast=cast) for m in models]
        x, y, _ = next(iter(test.every(max(clips, _BATCH))))
        speed = clips_per_s(dict(zip(names, models, strict=True)), test.scale(x[:_BATCH]))
        rows = tuple(
            pages.VideoRow(
                name=name, top1=s.top1, low=s.low, high=s.high, videos=s.videos, keep=s.keeps["token"],
                clips_per_s=speed[name], gflops=_gflops(m, test.scale(x[:1])), dense=s.keeps["token"] == 1.0,
                parameters=sum(p.numel() for p in m.parameters()),
            )
            for name, m, s in zip(names, models, scores, strict=True)
        )  # fmt: skip
        shown = {
            row.name: _shown(m, test, x[:clips], y[:clips])
            for row, m in zip(rows, models, strict=True)
            if m.pruner is not None and not row.dense
        }
    run = pages.VideoRun(
        title="Video transformers",
        dataset=_TITLES[first.dataset],
        synthetic=test.synthetic,
        rows=rows,
        shown={name: drawn for name, drawn in shown.items() if drawn},
        environment={"Trained on": str(found[0].record.get("device", "")), **pages.describe()},
        protocol=(
            "The logits of a video are the mean over its clips; networks run in float32.",
            f"Clips a second: batches of {min(_BATCH, len(x))}, all networks in interleaved rounds; the scorer counts.",
            "GFLOP are counted from shapes: products of the blocks, norms and activations left out.",
        ),
        notes=tuple(_note(name, t) for name, t in zip(names, found, strict=True) if "train_s" in t.record),
        command=f"sparseflow video report {' '.join(map(str, checkpoints))} --out {folder}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    files = pages.write_video(run, path, pictures=pictures)
    return {**run.to_dict(), "files": [str(f) for f in files]}


def _names(found: Sequence[Trained], checkpoints: Sequence[str]) -> list[str]:
    names = [f"{t.config.title}, seed {t.config.seed}" for t in found]
    return names if len(set(names)) == len(names) else [f"{n} ({p})" for n, p in zip(names, checkpoints, strict=True)]


def _note(name: str, trained: Trained) -> str:
    r = trained.record
    sliced = ", then sliced" if "sliced_from" in r else ""
    epochs = f"{r['epochs']} epoch" + "s" * (r["epochs"] != 1)
    return f"{name}: {epochs} in {r['train_s']:.0f} s on {r['device']}{sliced}."


@torch.no_grad()
def _gflops(model: VideoViT, x: Tensor) -> float:
    return float(model(x, return_intermediate=True)[1]["flops"].sum()) / 1e9


@torch.no_grad()
def _shown(model: VideoViT, test: Source, x: Tensor, y: Tensor) -> tuple[pages.Shown, ...]:
    logits, info = model(test.scale(x), return_intermediate=True)
    if info["kept"] is None:
        return ()
    a, chosen = model.args, logits.argmax(1)
    shape = (a.times, *a.grid)
    drawn = []
    for i in range(len(x)):
        kept = torch.zeros(a.tokens, dtype=torch.bool)
        kept[info["kept"][i].cpu()] = True
        pixels = x[i].cpu()
        # Heat maps are shares of 1, pixels are bytes.
        clip = (pixels * 255).round().byte() if pixels.is_floating_point() else pixels
        frames = pages.kept_frames(clip.numpy(), kept.view(shape).numpy())
        score = b""
        if info["score"] is not None:
            values = info["score"][i].float().cpu().view(shape).numpy().astype(np.float32)
            score = pages.strip_png(pages.score_frames(values, len(clip), (a.img_size, a.img_size)))
        said, truth = test.classes[int(chosen[i])], test.classes[int(y[i])]
        drawn.append(
            pages.Shown(
                title=f"{truth}: said {said}",
                right=said == truth,
                strip=pages.strip_png(frames),
                moving=pages.moving_png(frames),
                score=score,
            )
        )
    return tuple(drawn)
