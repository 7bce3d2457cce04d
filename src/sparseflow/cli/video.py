"""`sparseflow video`: train video transformers that drop their redundant tokens, score, slice and measure them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sparseflow.cli._group import make_app, positive, show_checks
from sparseflow.cli._options import Check, Config, Device, File, Json, settings_file

__all__ = ["app"]

app = make_app(
    """
Video transformers that really drop their redundant tokens.

1. **train**: dense, or pruned by the entropy of tokens over space and time; on digits that move (they ship), on joint
   tracks of J-HMDB, or on videos in UCF101's layout.
2. **eval**: accuracy over all videos of the test, with its interval, and what was kept.
3. **slice**: take closed heads, channels and blocks out for good.
4. **bench**: time and memory against the dense network at its best, beside uniform, random, EViT and ToMe.

**compare** trains all of them over several seeds and puts the accuracies into one table; **prove** checks what all of
this rests on.
"""
)

Data = Annotated[str | None, typer.Option(help="Folder of the data set.", show_default="as in the settings")]
Checkpoints = Annotated[
    list[str], typer.Argument(metavar="CHECKPOINT...", help="Files of train or slice.", show_default=False)
]


@app.command()
def train(
    file: File = None,
    config: Config = None,
    dataset: Annotated[str | None, typer.Option(help="digits, jhmdb or ucf101.", show_default="digits")] = None,
    data: Data = None,
    split: Annotated[int | None, typer.Option(callback=positive, help="Official split.", show_default="1")] = None,
    mode: Annotated[
        str | None, typer.Option(help="dense_baseline or single_device_ast.", show_default="single_device_ast")
    ] = None,
    keep: Annotated[float | None, typer.Option(help="Share of the tokens to keep.", show_default="0.5")] = None,
    score: Annotated[
        str | None,
        typer.Option(
            help="What keeps a token: entropy, motion, uniform, random, evit or tome.", show_default="entropy"
        ),
    ] = None,
    prune_before: Annotated[int | None, typer.Option(help="Block before which.", show_default="1")] = None,
    epochs: Annotated[int | None, typer.Option(callback=positive, help="Passes.", show_default="50")] = None,
    clips: Annotated[
        int | None, typer.Option(callback=positive, help="Clips of an epoch of digits.", show_default="4096")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(callback=positive, help="Clips a step.", show_default="8")] = None,
    accumulate: Annotated[
        int | None, typer.Option(callback=positive, help="Parts of a step, to save memory.", show_default="1")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Largest learning rate.", show_default="0.0003")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bfloat16, tf32 or float32.", show_default="auto")] = None,
    init_from: Annotated[
        str | None,
        typer.Option(help="Weights to start from: of a training here, timm's or VideoMAE's.", show_default="fresh"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default="auto")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read videos.", show_default="2")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed.", show_default="0")] = None,
    validate: Annotated[
        bool | None,
        typer.Option(
            "--validate/--test",
            help="Hold a fifth of the training data back and score on it: choose settings, and leave the test closed.",
            show_default="test",
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the runs.", show_default="outputs/video")] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write report.html beside the checkpoint.")] = True,
    json_: Json = False,
) -> None:
    """Train a video transformer; writes `video.safetensors`, `record.json` and a page.

    The state is saved after every epoch: the same command goes on after Ctrl-C or a kill. Several processes of
    `torchrun` share the clips of each step. UCF101 without --data is a small sample tree of digits, to try commands on.

    **Examples**

    - `sparseflow video train --keep 0.25 --score motion --batch-size 64`
    - `sparseflow video train configs/smoke_ast_ucf101.yaml` — minutes on two cores
    - `sparseflow video train configs/ast2_ucf101_ast_only.yaml --data data/ucf101 --init-from vit_b.safetensors`
    - `torchrun --nproc-per-node 2 --no-python sparseflow video train configs/ast2_ucf101_dense.yaml --data data/ucf101`
    """
    import json

    from sparseflow.recipes.ranks import is_first
    from sparseflow.recipes.settings import read_settings
    from sparseflow.recipes.video import VideoConfig, train_video

    given: dict[str, Any] = {
        "dataset": dataset, "data": data, "split": split, "validate": validate, "mode": mode, "epochs": epochs,
        "clips": clips, "batch_size": batch_size, "accumulate": accumulate, "lr": lr, "precision": precision,
        "init_from": init_from, "device": device, "workers": workers, "seed": seed, "out": out,
    }  # fmt: skip
    if mode == "dense_baseline":
        # A file's pruner goes with its mode.
        given["ast_cfg"] = {}
    settings = read_settings(VideoConfig, settings_file(file, config), **given)
    pruning = {"keep": keep, "score": score, "prune_before": prune_before}
    if chosen := {k: v for k, v in pruning.items() if v is not None}:
        body = settings.to_dict(all=True)
        settings = VideoConfig.from_dict(body | {"ast_cfg": settings.ast_cfg | chosen})
    record = train_video(settings, progress=not json_)
    if not is_first():
        return
    if page:
        from sparseflow.recipes.video.page import video_page

        video_page([record["file"]], settings.folder, device=settings.device)
    if json_:
        typer.echo(json.dumps(record, indent=2))
        return
    _tell_run(record["file"], record["task"], record["synthetic"], record["test"])
    if page:
        typer.echo(settings.folder / "report.html")


@app.command("eval")
def evaluate(
    checkpoint: Checkpoints,
    data: Data = None,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="float32, tf32 or bfloat16.")] = "float32",
    batch_size: Annotated[int, typer.Option(callback=positive, help="Clips a call.")] = 64,
    json_: Json = False,
) -> None:
    """Score networks on all videos of their test: top-1 and top-5, Wilson's interval, and what was kept.

    The logits of a video are the mean over its clips.

    **Examples**

    - `sparseflow video eval outputs/video/digits_dense_seed0/video.safetensors`
    - `sparseflow video eval a.safetensors b.safetensors --data data/ucf101 --json`
    """
    import json

    from sparseflow.recipes.video.evaluate import evaluate as run

    body = run(checkpoint, data=data, device=device, precision=precision, batch_size=batch_size)
    if json_:
        typer.echo(json.dumps(body, indent=2))
        return
    for row in body["runs"]:
        _tell_run(row["file"], row["task"], row["synthetic"], row)


@app.command("slice")
def slice_(
    checkpoint: Annotated[str, typer.Argument(help="File of a training with gates.", show_default=False)],
    out: Annotated[str | None, typer.Option(help="New file.", show_default="sliced.safetensors beside it")] = None,
    check: Check = False,
    json_: Json = False,
) -> None:
    """Take closed heads, channels and blocks out: the file holds a plain, smaller network that answers the same.

    Train with gates first: `keep_head`, `keep_channel` or `keep_block` below 1 in `ast_cfg`.

    **Examples**

    - `sparseflow video slice outputs/video/digits_motion_keep0.5_seed0/video.safetensors`
    """
    import json

    from sparseflow.recipes.video.slice import slice_video

    body = slice_video(checkpoint, out or Path(checkpoint).with_name("sliced.safetensors"))
    if json_:
        typer.echo(json.dumps(body, indent=2))
    else:
        show_checks(body["checks"])
        before, after = body["parameters"]
        typer.echo(f"{before:,} weights before, {after:,} after ({after / before:.1%})")
        typer.echo(body["file"])
    if check and not body["ok"]:
        raise typer.Exit(1)


@app.command()
def bench(
    device: Device = "auto",
    form: Annotated[
        list[str] | None,
        typer.Option(
            help="entropy, motion, uniform, random, evit, tome, sliced or both; repeated.",
            show_default="all on a GPU; entropy and uniform on a CPU",
        ),
    ] = None,
    keep: Annotated[float, typer.Option(help="Share of the tokens to keep.")] = 0.5,
    prune_before: Annotated[int, typer.Option(help="Block before which tokens are dropped.")] = 1,
    batch: Annotated[
        int | None, typer.Option(callback=positive, help="Clips a call.", show_default="16, or 1 on a CPU")
    ] = None,
    frames: Annotated[int, typer.Option(callback=positive, help="Frames of a clip.")] = 8,
    side: Annotated[int, typer.Option(callback=positive, help="Pixels of a side.")] = 224,
    threads: Annotated[list[int] | None, typer.Option(help="On a CPU; may be repeated.", show_default="2")] = None,
    repeats: Annotated[int, typer.Option(callback=positive, help="Rounds.")] = 10,
    compile: Annotated[bool, typer.Option("--compile/--no-compile", help="Let torch.compile take part.")] = True,
    out: Annotated[str | None, typer.Option(help="Also write the JSON there.", show_default=False)] = None,
    json_: Json = False,
) -> None:
    """Measure what dropped tokens and sliced parts save, and check the figures and the equalities behind them.

    A ViT-B of 8 frames in bfloat16 on a GPU, one 192 wide on a CPU. Both sides run as CUDA graphs and behind
    torch.compile, whichever is faster; the scorer lies inside the timer. Exit status 0 only if every check holds.

    **Examples**

    - `sparseflow video bench --device cpu`
    - `sparseflow video bench --device cuda --json --out benchmarks/results/video_h200.json`
    """
    import json

    from sparseflow.recipes.video.bench import VideoBenchConfig
    from sparseflow.recipes.video.bench import bench as run

    config = VideoBenchConfig(
        device=device, forms=tuple(form or ()), keep=keep, prune_before=prune_before, batch=batch, frames=frames,
        side=side, threads=tuple(threads or (2,)), repeats=repeats, compile=compile, out=out,
    )  # fmt: skip
    body = run(config, say=lambda line: typer.echo(line, err=True))
    if json_:
        typer.echo(json.dumps(body, indent=2))
    else:
        show_checks(body["checks"])
    if not body["ok"]:
        raise typer.Exit(1)


@app.command()
def compare(
    file: File = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="dense, or a score and a share, and perhaps a block, as motion:0.25:1; repeated.",
            show_default="ten of them",
        ),
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; repeated.", show_default="0, 1 and 2")] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option(help="Train nothing: read the records in these folders or files.", show_default=False),
    ] = None,
    data: Data = None,
    epochs: Annotated[int | None, typer.Option(callback=positive, help="Passes.", show_default="as the file")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default="auto")] = None,
    out_dir: Annotated[
        str | None, typer.Option("--runs", help="Folder of the runs.", show_default="outputs/video")
    ] = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="With --records: time a network of each arm; their files must be there.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the table there, as JSON.", show_default=False)] = None,
    check: Check = False,
    json_: Json = False,
) -> None:
    """Train dense, pruned and rival networks equally long over several seeds, and compare their accuracies.

    Trainings that are done are not repeated, so the same command goes on where it was stopped.

    **Examples**

    - `sparseflow video compare configs/video_digits.yaml --device cuda --check`
    - `sparseflow video compare configs/video_jhmdb.yaml --data jhmdb-skeleton --arm dense --arm motion:0.5`
    - `sparseflow video compare --records outputs/video --out benchmarks/results/video_accuracy.json`
    """
    import json

    from sparseflow.ir.files import write_atomic
    from sparseflow.recipes.settings import read_settings
    from sparseflow.recipes.video import VideoConfig
    from sparseflow.recipes.video import compare as room

    if records:
        found = room.read_records(records)
        body = room.table_of(found, room.speeds_of(found, device=device or "auto") if speed else None)
    else:
        settings = read_settings(VideoConfig, file, data=data, epochs=epochs, device=device, out=out_dir)
        body = room.compare(
            settings,
            arms=[room.parse_arm(text) for text in arm] if arm else room.PLAN,
            seeds=tuple(seed or (0, 1, 2)),
            say=lambda line: typer.echo(line, err=True),
            progress=not json_,
        )
    if out is not None:
        write_atomic(out, json.dumps(body, indent=1) + "\n")
    if json_:
        typer.echo(json.dumps(body, indent=2))
    else:
        _show_rows(body["rows"])
        if body["checks"]:
            show_checks(body["checks"])
    if check and not body["ok"]:
        raise typer.Exit(1)


@app.command()
def prove(
    file: File = None,
    out_dir: Annotated[
        str | None, typer.Option("--runs", help="Folder of the training.", show_default="as the file")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the checks there, as JSON.", show_default=False)] = None,
    json_: Json = False,
) -> None:
    """Prove what pruning promises beside speed and accuracy; exit status 0 only if every check holds.

    Scores equal loops over numbers, exactly k tokens stay, keep 1 is the plain network, gathered is masked, sliced is
    gated, and damaged files are named. With a CONFIG.yaml its training is timed from the beginning, its shares of
    tokens, heads, channels and blocks are held against their targets, and the closed parts are sliced out.

    **Examples**

    - `sparseflow video prove`
    - `sparseflow video prove configs/smoke_ast_ucf101.yaml --json` — minutes on two cores
    """
    import json

    from sparseflow.ir.files import write_atomic
    from sparseflow.recipes.settings import read_settings
    from sparseflow.recipes.video import VideoConfig
    from sparseflow.recipes.video.prove import prove as run

    body = run(None if file is None else read_settings(VideoConfig, file, out=out_dir), progress=not json_)
    if out is not None:
        write_atomic(out, json.dumps(body, indent=1) + "\n")
    if json_:
        typer.echo(json.dumps(body, indent=2))
    else:
        show_checks(body["checks"])
    if not body["ok"]:
        raise typer.Exit(1)


@app.command()
def sample(
    folder: Annotated[str, typer.Argument(help="New folder.", show_default=False)],
    train: Annotated[int, typer.Option(callback=positive, help="Videos of a class to train on.")] = 24,
    test: Annotated[int, typer.Option(callback=positive, help="Videos of a class for the test.")] = 8,
    frames: Annotated[int, typer.Option(callback=positive, help="Frames of a video.")] = 8,
    side: Annotated[int, typer.Option(callback=positive, help="Pixels of a side.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the motion.")] = 0,
) -> None:
    """Write a small tree in UCF101's exact layout, of digits that move: no real videos, but all commands run on it.

    **Examples**

    - `sparseflow video sample data/sample`
    """
    from sparseflow.data import write_sample

    typer.echo(write_sample(folder, train=train, test=test, frames=frames, side=side, seed=seed))


@app.command()
def report(
    checkpoint: Checkpoints,
    out: Annotated[str, typer.Option(help="Folder for report.html and report.json.")] = "runs/video",
    data: Data = None,
    clips: Annotated[int, typer.Option(callback=positive, help="Clips to draw.")] = 4,
    pictures: Annotated[bool, typer.Option("--pictures", help="Also write what moves as PNG files.")] = False,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Write a page: which tokens were kept, laid over the frames; entropy maps; accuracy against throughput.

    **Examples**

    - `sparseflow video report dense.safetensors motion.safetensors random.safetensors --out runs/video`
    """
    import json

    from sparseflow.recipes.video.page import video_page

    body = video_page(checkpoint, out, data=data, clips=clips, device=device, pictures=pictures)
    typer.echo(json.dumps(body, ensure_ascii=False) if json_ else body["files"][0])


def _tell_run(file: str, task: str, synthetic: bool, scores: dict[str, Any]) -> None:
    kind = " (synthetic motion)" if synthetic else ""
    typer.echo(
        f"{task}{kind}: {100 * scores['top1']:.2f} % of {scores['videos']} videos, 95 % within "
        f"{100 * scores['low']:.2f} to {100 * scores['high']:.2f}; {scores['keeps']['token']:.0%} of the tokens kept"
    )
    typer.echo(file)


def _show_rows(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from sparseflow.cli._group import wide_console

    table = Table(title="accuracy, mean over seeds", title_justify="left")
    for column in ("data", "arm"):
        table.add_column(column)
    for column in ("top-1", "95 %", "lost", "95 %", "tokens", "clips/s", "training"):
        table.add_column(column, justify="right")
    for row in rows:
        span = row["drop_interval"]
        table.add_row(
            row["dataset"] + (" (synthetic)" if row["synthetic"] else ""),
            row["arm"],
            f"{100 * row['top1']:.2f} %",
            f"{100 * row['low']:.1f}–{100 * row['high']:.1f}",
            "–" if row["drop"] is None else f"{100 * row['drop']:+.2f}",
            "–" if span is None else f"{100 * span[0]:+.1f} to {100 * span[1]:+.1f}",
            f"{row['keep']:.0%}",
            "–" if row["clips_per_s"] is None else f"{row['clips_per_s']:,.0f}",
            f"{row['train_s']:.0f} s",
        )
    wide_console().print(table)
