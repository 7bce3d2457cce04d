"""`sparseflow spike`: train spiking networks and measure their kernels."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sparseflow.cli._group import make_app, positive, show_checks
from sparseflow.errors import ConfigError

__all__ = ["app"]

Names = tuple[str, ...]
CPU, GPU = "On a CPU alone", "On a GPU alone"

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
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="May be repeated. cpu: layers, network, correct; "
            "a GPU: blocks, seed, correct, memory, network, coverage.",
            show_default="all",
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="Trained network, shipped or a file; several on a GPU.",
            show_default="cpu: spiking_vgg9_cifar10",
        ),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(callback=positive, help="Timed rounds.", show_default="cpu: 30; a GPU: 100")
    ] = None,
    configurations: Annotated[
        int | None, typer.Option(callback=positive, help="Random layers to check.", show_default="200")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Also write the JSON there.", show_default=False)] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    threads: Annotated[
        list[int] | None,
        typer.Option(help="Threads of both sides; may be repeated.", show_default="2, then 1", rich_help_panel=CPU),
    ] = None,
    compile: Annotated[
        bool | None,
        typer.Option(help="Let the dense side use torch.compile.", show_default="compile", rich_help_panel=CPU),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp16, exact or int8.", show_default="fp16", rich_help_panel=GPU)
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Seconds of the call.", show_default="570", rich_help_panel=GPU)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A smoke run whose figures hold no check.", rich_help_panel=GPU)
    ] = False,
) -> None:
    """Measure the spiking kernels against torch at its best, and check the figures.

    Packing, layout and reset lie inside the timer. Exit status 0 only if every
    check holds. A GPU record is written stage by stage into the file of --out;
    the same file in a later call is completed. All suites take half an hour
    on two cores, and longer than ten minutes on a GPU.

    **Examples**

    - `sparseflow spike bench --suite network` — the trained network alone
    - `sparseflow spike bench --threads 1 --suite layers`
    - `sparseflow spike bench --json > bench.json`
    - `sparseflow spike bench --target h200 --suite blocks --out bench.json`
    """
    import json

    both = {"out": out, "repeats": repeats, "configurations": configurations}
    cpu = {"threads": threads, "compile": compile}
    gpu = {"precision": precision, "budget": budget, "quick": quick or None}
    on_gpu = target in ("h200", "h100")
    for name, value in (cpu if on_gpu else gpu).items():
        if value is not None:
            raise ConfigError(f"target {target!r} has no --{name}; leave it out, or name another target")
    own = {k: v for k, v in {**both, **cpu, **gpu}.items() if v is not None}
    body, text = (_on_gpu if on_gpu else _on_cpu)(target, tuple(suite or ()), tuple(checkpoint or ()), own)
    checks = body["checks"]
    if json_:
        typer.echo(json.dumps(body, indent=2, ensure_ascii=False))
    elif text:
        typer.echo(text)
    else:
        show_checks(checks)
    if not checks or not body.get("ok", all(c["ok"] for c in checks)):
        raise typer.Exit(1)


def _on_cpu(target: str, suites: Names, checkpoints: Names, given: dict[str, Any]) -> tuple[dict[str, Any], str]:
    from sparseflow.recipes import spike_bench

    if len(checkpoints) > 1:
        raise ConfigError(f"target {target!r} measures one network; {len(checkpoints)} are given by --checkpoint")
    if "threads" in given:
        given["threads"] = tuple(given["threads"])
    if suites:
        given["suites"] = suites
    if checkpoints:
        given["checkpoint"] = checkpoints[0]
    return spike_bench.bench(spike_bench.SpikeBenchConfig(target=target, **given)), ""


def _on_gpu(target: str, stages: Names, checkpoints: Names, given: dict[str, Any]) -> tuple[dict[str, Any], str]:
    from sparseflow.recipes.spike_bench import gpu

    given = {{"repeats": "rounds", "budget": "budget_s"}.get(k, k): v for k, v in given.items()}
    config = gpu.GpuBenchConfig(target=target, only=stages, checkpoints=checkpoints, **given)
    body = gpu.bench_gpu(config, say=lambda line: typer.echo(line, err=True))
    return body, gpu.tables(body, config.stages)
