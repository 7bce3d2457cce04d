"""`sparseflow spike`: train spiking networks and measure their kernels."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sparseflow.cli._group import make_app, positive, show_checks

__all__ = ["app"]

app = make_app("Train spiking networks, and measure what the spiking kernels reach.")


@app.command()
def train(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG.yaml]", help="Settings; options override them.", show_default=False),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Spiking network of the zoo.", show_default=False)] = None,
    dataset: Annotated[str | None, typer.Option(help="cifar10 or fashion_mnist.", show_default=False)] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the images.", show_default=False)] = None,
    out: Annotated[str | None, typer.Option(help="Run folder; a run there is resumed.", show_default=False)] = None,
    epochs: Annotated[int | None, typer.Option(callback=positive, help="Passes.", show_default=False)] = None,
    minutes: Annotated[float | None, typer.Option(help="Train so long instead.", show_default=False)] = None,
    batch: Annotated[int | None, typer.Option(callback=positive, help="Images a step.", show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed.", show_default=False)] = None,
    init_from: Annotated[
        str | None, typer.Option(help="Start from the weights of this .safetensors.", show_default=False)
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the training record as JSON.")] = False,
) -> None:
    """Train a spiking network on real images, sparse but alive.

    The state is saved after every epoch: run the same command again to go on
    after Ctrl-C. A run by minutes keeps none; --epochs alone takes the minutes
    of a file back.

    **Examples**

    - `sparseflow spike train --data ~/cifar10 --out runs/vgg9`
    - `sparseflow spike train configs/spike_csnn_fashion_mnist.yaml --epochs 1`
    - `sparseflow spike train --model csnn --dataset fashion_mnist --epochs 2`
    - `sparseflow spike train configs/spike_sew18_cifar10.yaml --data ~/cifar10 --minutes 10`
    """
    import json
    from dataclasses import replace

    from sparseflow.recipes.spike_train import SpikeTrainConfig
    from sparseflow.recipes.spike_train import train as run

    settings = SpikeTrainConfig() if config is None else SpikeTrainConfig.from_yaml(config)
    given: dict[str, Any] = {
        "model": model,
        "dataset": dataset,
        "data_path": data,
        "out": out,
        "epochs": epochs,
        "minutes": minutes,
        "batch_size": batch,
        "device": device,
        "seed": seed,
        "init_from": init_from,
    }
    if epochs is not None:
        settings = replace(settings, minutes=None)
    record = run(replace(settings, **{k: v for k, v in given.items() if v is not None}))
    if json_:
        typer.echo(json.dumps(record, indent=2))
    else:
        typer.echo(
            f"{record['model']}: {100 * record['test_accuracy']:.2f} % on {record['test_images']} test images "
            f"of {record['dataset']}"
        )


@app.command()
def bench(
    target: Annotated[str, typer.Option(help="cpu: this machine; h200 or h100: its GPU.")] = "cpu",
    threads: Annotated[
        list[int] | None, typer.Option(help="Threads of both sides; may be repeated.", show_default="2, then 1")
    ] = None,
    suite: Annotated[
        list[str] | None, typer.Option(help="layers, network or correct; may be repeated.", show_default="all")
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Trained network.", show_default="the shipped one")] = None,
    repeats: Annotated[int | None, typer.Option(callback=positive, help="Timed rounds.", show_default="30")] = None,
    configurations: Annotated[
        int | None, typer.Option(callback=positive, help="Random layers to check.", show_default="200")
    ] = None,
    compile: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Let the dense side use torch.compile.")
    ] = True,
    out: Annotated[str | None, typer.Option(help="Also write the JSON there.", show_default=False)] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="GPU: blocks, seed, correct, memory, network or coverage; may be repeated.", show_default="all"
        ),
    ] = None,
    trained: Annotated[
        list[str] | None, typer.Option(help="GPU: a trained network's file; may be repeated.", show_default=False)
    ] = None,
    precision: Annotated[str, typer.Option(help="GPU: fp16, or exact.")] = "fp16",
    budget: Annotated[float, typer.Option(help="GPU: seconds of the call.")] = 570.0,
    quick: Annotated[bool, typer.Option("--quick", help="GPU: a smoke run whose figures hold no check.")] = False,
) -> None:
    """Measure the spiking kernels against torch at its best, and check the figures.

    Packing, layout and reset lie inside the timer. Exit status 0 only if every
    check holds. A GPU record is written stage by stage into the file of --out;
    the same file in a later call is completed.

    **Examples**

    - `sparseflow spike bench` — a table of checks
    - `sparseflow spike bench --threads 1 --suite layers`
    - `sparseflow spike bench --target cpu --json > bench.json`
    - `sparseflow spike bench --target h200 --only blocks --out bench.json`
    """
    import json

    from sparseflow.recipes.spike_bench import SpikeBenchConfig
    from sparseflow.recipes.spike_bench import bench as run

    if target in ("h200", "h100"):
        given: dict[str, Any] = {
            "only": tuple(only or ()),
            "checkpoints": tuple(trained or ()),
            "rounds": repeats,
            "configurations": configurations,
        }
        more = {k: v for k, v in given.items() if v is not None}
        _bench_gpu(
            {"target": target, "out": out, "precision": precision, "budget_s": budget, "quick": quick, **more}, json_
        )
        return
    given = {
        "threads": tuple(threads) if threads else None,
        "suites": tuple(suite) if suite else None,
        "checkpoint": checkpoint,
        "repeats": repeats,
        "configurations": configurations,
        "out": out,
    }
    config = SpikeBenchConfig(target=target, compile=compile, **{k: v for k, v in given.items() if v is not None})
    body = run(config)
    checks = body["checks"]
    if json_:
        typer.echo(json.dumps(body, indent=2, ensure_ascii=False))
    else:
        show_checks(checks)
    if not checks or not all(c["ok"] for c in checks):
        raise typer.Exit(1)


def _bench_gpu(given: dict[str, Any], json_: bool) -> None:
    import json

    from sparseflow.recipes.spike_bench import gpu

    config = gpu.GpuBenchConfig(**given)
    body = gpu.bench_gpu(config, say=lambda line: typer.echo(line, err=True))
    typer.echo(json.dumps(body, indent=2) if json_ else gpu.tables(body, config.stages))
    if not body["ok"]:
        raise typer.Exit(1)
