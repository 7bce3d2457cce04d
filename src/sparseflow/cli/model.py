"""`sparseflow trace` and `sparseflow optimize`: one model, looked at or made faster."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparseflow.cli._group import positive, wide_console

if TYPE_CHECKING:
    from sparseflow.ir import LayerReport, Report, Workload

__all__ = ["optimize", "trace"]

_Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Zoo name, checkpoint, SpikingJelly builder, module:factory or file.py:factory.",
        show_default=False,
    ),
]
_Shape = Annotated[
    str | None, typer.Option(metavar="SIZES", help="Shape of the sample, as 1,3,32,32.", show_default="the model's own")
]
_Batch = Annotated[int, typer.Option(callback=positive, help="Images in the sample.")]
_Threads = Annotated[
    int | None, typer.Option(callback=positive, help="Threads to run with.", show_default="torch's own")
]
_Seed = Annotated[int, typer.Option(help="Seed of fresh weights and of noise.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def trace(
    model: _Model,
    shape: _Shape = None,
    batch: _Batch = 1,
    seed: _Seed = 0,
    json_: _Json = False,
) -> None:
    """Show what a model computes: layers, shapes, work, and how sparse each input is.

    The model runs once on a sample. Edges are those that the tensors took, not
    the order of execution; a model that cannot be followed is refused with the
    reason.

    **Examples**

    - `sparseflow trace spiking_vgg9`
    - `sparseflow trace spiking_vgg11_bn --json > vgg11.json` — a builder of SpikingJelly
    - `sparseflow trace mynet.py:build --shape 4,1,2,64,64` — your own factory
    """
    from sparseflow.recipes.pick import pick
    from sparseflow.trace import trace as run

    picked = pick(model, shape=_sizes(shape), batch=batch, seed=seed)
    workload = run(picked.model, picked.sample)
    if json_:
        typer.echo(workload.to_json())
    else:
        _show_workload(workload, picked.origin)


def optimize(
    model: _Model,
    shape: _Shape = None,
    batch: _Batch = 8,
    threads: _Threads = None,
    policy: Annotated[
        str, typer.Option(help="measured: keep what is faster here; block: the block rule; always: replace all.")
    ] = "measured",
    fuse: Annotated[bool, typer.Option("--fuse/--no-fuse", help="Fuse convolution, batch norm and neuron.")] = True,
    device: Annotated[str, typer.Option(help="cpu or cuda: where the model runs.")] = "cpu",
    precision: Annotated[str, typer.Option(help="On a GPU, how weights may be rounded: fp16, exact, int8.")] = "fp16",
    html: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Write report.html and report.json there.", show_default=False)
    ] = None,
    seed: _Seed = 0,
    json_: _Json = False,
) -> None:
    """Make a model faster on this machine, and print what was done and what was refused.

    Nothing is saved: it is the dry run of `sparseflow.optimize(model, sample)`.

    **Examples**

    - `sparseflow optimize spiking_vgg9_cifar10 --batch 32`
    - `sparseflow optimize sew_resnet18 --threads 1 --html runs/sew`
    - `sparseflow optimize mynet.py:build --shape 4,1,2,64,64 --json`
    - `sparseflow optimize sew_resnet18 --device cuda --precision int8`
    """
    import json

    import torch

    import sparseflow.api as api
    from sparseflow.recipes.pick import pick

    sizes = _sizes(shape)
    folder = None
    if html is not None:
        from sparseflow.report import prepare_folder

        folder = prepare_folder(html)
    if threads is not None:
        torch.set_num_threads(threads)
    picked = pick(model, shape=sizes, batch=batch, seed=seed)
    found, sample = _placed(picked.model, picked.sample, device)
    _, report = api.optimize(found, sample, policy=policy, fuse=fuse, precision=precision, report=True)
    if folder is not None:
        from sparseflow.report import Run, describe, write_run

        environment = {"Threads": str(torch.get_num_threads()), **describe()}
        written, _ = write_run(Run(title=picked.name, report=report, batch=batch, environment=environment), folder)
        typer.echo(f"report  {written}", err=True)
    if json_:
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        _show_report(report, picked.origin)


def _placed(model: Any, sample: Any, device: str) -> tuple[Any, Any]:
    """Move a model and its sample to a device."""
    import torch
    from torch.utils._pytree import tree_map_only

    if device == "cpu":
        return model, sample
    if device.partition(":")[0] != "cuda" or not torch.cuda.is_available():
        there = "no CUDA device is at hand" if device.startswith("cuda") else "expected cpu or cuda"
        raise typer.BadParameter(f"device is {device!r}: {there}")
    return model.to(device), tree_map_only(torch.Tensor, lambda t: t.to(device), sample)


def _sizes(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no shape; write sizes with commas, as 1,3,32,32") from None


def _show_workload(workload: "Workload", origin: str) -> None:
    from rich import box

    from sparseflow.trace import table

    shown = table(workload)
    shown.box, shown.title_justify = box.SIMPLE_HEAD, "left"
    shown.columns[0].no_wrap = True
    console = wide_console()
    console.print(shown)
    console.print(f"from {origin}", style="dim")


def _show_report(report: "Report", origin: str) -> None:
    from rich import box
    from rich.table import Table

    from sparseflow.report.words import percent, ratio, seconds

    console = wide_console()
    table = Table(title=f"{report.model}: {origin}", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("layer", "operator", "spikes from", "kernel"):
        table.add_column(column, overflow="fold")
    for column in ("density", "dense", "chosen", "predicted", "speed-up"):
        table.add_column(column, justify="right")
    for x in report.layers:
        taken = x.kernel != "dense"
        table.add_row(
            x.name,
            x.op,
            x.source,
            x.kernel if x.crossover is None else f"{x.kernel} (up to {percent(x.crossover, 2)} of spikes)",
            percent(x.density) if x.density is not None else "",
            seconds(x.dense_s),
            seconds(x.kernel_s),
            seconds(x.predicted_s),
            ratio(x.speedup) if taken else "",
            style="" if taken else "dim",
        )
    console.print(table)
    if slower := [x.name for x in report.layers if _best_of_the_slower(x)]:
        console.print(
            f"{', '.join(slower)}: faster alone as it came; here its spikes come packed, "
            "and this is the fastest form for those",
            style="dim",
            soft_wrap=True,
        )
    for r in report.refusals:
        console.print(f"[yellow]refused[/] {r.layer or 'whole model'}: {r.what}: {r.reason}", soft_wrap=True)
    for fallback in report.fallbacks:
        console.print(f"[yellow]fallback[/] {fallback}", soft_wrap=True)
    if report.speedup is not None:
        console.print(
            f"[bold]{seconds(report.dense_s)} → {seconds(report.optimized_s)}, {ratio(report.speedup)}[/] "
            "against the model as it came"
        )


def _best_of_the_slower(x: "LayerReport") -> bool:
    """Whether a layer is slower than as it came, though no other form that was timed in its place is faster."""
    forms = [time for form, time in x.timings_s.items() if form != "original"]
    return len(forms) > 1 and x.speedup is not None and x.speedup < 1 and x.kernel_s == min(forms)
