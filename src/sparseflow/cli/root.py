"""`sparseflow` itself: version, debug, and the demonstration."""

from importlib import metadata
from typing import Annotated

import typer

from sparseflow.cli import codesign, forecast, model, records, spike, triseg, video
from sparseflow.cli._group import make_app, positive

__all__ = ["app"]

app = make_app(
    """
Make PyTorch models measurably cheaper on real hardware, with proof.

Start with **sparseflow demo**: it runs a trained spiking network on real
images, makes it faster, checks that no answer changed, and writes a report
that opens in any browser.

In Python the same is one line: `model = sparseflow.optimize(model, sample)`.
"""
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sparseflow {metadata.version('sparseflow')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error: sparseflow --debug COMMAND …")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Hold the options that stand before any command."""


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="Folder for report.html and report.json.")] = "runs/demo",
    checkpoint: Annotated[str, typer.Option(help="Shipped checkpoint, or the path of one.")] = "spiking_vgg9_cifar10",
    images: Annotated[
        int | None, typer.Option(callback=positive, help="Images to classify with both networks.", show_default="all")
    ] = None,
    batch: Annotated[int, typer.Option(callback=positive, help="Images in a timed batch.")] = 16,
    threads: Annotated[
        int | None, typer.Option(callback=positive, help="Threads of both networks.", show_default="torch's own")
    ] = None,
    repeats: Annotated[int, typer.Option(callback=positive, help="Timed rounds.")] = 15,
    compile: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Let the dense side use torch.compile.")
    ] = True,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Compile every rival again, whatever an earlier report tells.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Half a minute: few images and rounds, eager torch as the only rival.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON; progress goes to stderr.")] = False,
) -> None:
    """Make the shipped trained network faster on real images, and prove it.

    Times the unchanged network in every way torch can run it, times ours
    beside it, classifies every shipped image with both, and writes one page
    with charts, plan, refusals and protocol.

    **Examples**

    - `sparseflow demo` — the full comparison, one to three minutes on 2 cores
    - `sparseflow demo --quick` — a first look in half a minute
    - `sparseflow demo --threads 1 --batch 1 --out runs/one` — latency of one image
    """
    import json

    from rich.console import Console

    from sparseflow.recipes.demo import DemoConfig
    from sparseflow.recipes.demo import demo as run

    config = DemoConfig(
        out=out,
        checkpoint=checkpoint,
        images=images,
        batch=batch,
        threads=threads,
        repeats=repeats,
        compile=compile,
        fresh=fresh,
        quick=quick,
    )
    body = run(config, console=Console(stderr=json_, highlight=False))
    if json_:
        typer.echo(json.dumps(body, indent=2, ensure_ascii=False))


app.command("trace")(model.trace)
app.command("optimize")(model.optimize)
app.add_typer(spike.app, name="spike")
app.add_typer(triseg.app, name="triseg")
app.add_typer(forecast.app, name="forecast")
app.add_typer(video.app, name="video")
app.add_typer(codesign.app, name="codesign")
app.add_typer(records.app, name="records")
