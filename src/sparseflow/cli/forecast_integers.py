"""The commands of `sparseflow forecast` that make integers of a forecaster, and prove them."""

import json
from typing import Annotated

import typer

from sparseflow.cli._group import positive, show_checks
from sparseflow.cli._options import Check, Json

__all__ = ["prove", "quantize"]


def quantize(
    checkpoint: Annotated[str, typer.Option(help="File of a training, or the name of one that ships.")],
    data: Annotated[
        str | None, typer.Option(help="File of the data set, or its folder.", show_default="as in the training")
    ] = None,
    weights: Annotated[int, typer.Option(help="Bits of weights.")] = 8,
    activations: Annotated[int, typer.Option(help="Bits of activations.")] = 8,
    rule: Annotated[str, typer.Option(help="Scales by the largest value, or by least_error.")] = "largest",
    windows: Annotated[int, typer.Option(callback=positive, help="Windows to see ranges on.")] = 256,
    epochs: Annotated[int, typer.Option(help="Passes of training on codes, scales included (LSQ).")] = 0,
    lr: Annotated[float, typer.Option(help="Learning rate of that training.")] = 1e-5,
    train_limit: Annotated[
        int | None, typer.Option(callback=positive, help="Windows of that training, evenly spread.", show_default="all")
    ] = None,
    split: Annotated[str, typer.Option(help="Part to score on: test or val.")] = "test",
    limit: Annotated[int | None, typer.Option(callback=positive, help="Windows to score.", show_default="all")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Hold engine and FakeQuant to the reference, on every window and tensor.")
    ] = False,
    out: Annotated[str, typer.Option(help="Folder of the files.")] = "outputs/forecast_integers",
    check: Check = False,
    json_: Json = False,
) -> None:
    """Bring a forecaster into integers, and score it in integers alone beside float32.

    Ranges are seen on the training part; `--epochs` trains on codes afterwards. Writes `forecaster.safetensors` with
    its QSpec, and `qspec.json`.

    **Examples**

    - `sparseflow forecast quantize --checkpoint forecaster.safetensors`
    - `sparseflow forecast quantize --checkpoint forecaster.safetensors --weights 4 --epochs 1 --json`
    - `sparseflow forecast quantize --checkpoint forecaster.safetensors --compare --check`
    """
    from sparseflow.recipes.forecast.quantize import QuantizeConfig
    from sparseflow.recipes.forecast.quantize import quantize as run

    config = QuantizeConfig(
        checkpoint=checkpoint, data=data, weights=weights, activations=activations, rule=rule, windows=windows,
        epochs=epochs, lr=lr, train_limit=train_limit, split=split, limit=limit, compare=compare, out=out,
    )  # fmt: skip
    body = run(config, progress=not json_)
    if json_:
        typer.echo(json.dumps(body, indent=2))
    else:
        for name in ("fp32", "integers"):
            typer.echo(f"{name}: MSE {body[name]['mse']:.4f}, MAE {body[name]['mae']:.4f}")
        show_checks(body["checks"])
        typer.echo(body["files"][0])
    if check and not body["ok"]:
        raise typer.Exit(1)


def prove(
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="Forecaster; repeated for several. The first becomes the pack.", show_default="cmamba_etth1_96"
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of the data sets.", show_default="as in the training")
    ] = None,
    epochs: Annotated[int, typer.Option(callback=positive, help="Passes of training on 4-bit codes (LSQ).")] = 2,
    lr: Annotated[float, typer.Option(help="Learning rate of that training.")] = 1e-5,
    train_limit: Annotated[int, typer.Option(callback=positive, help="Windows of that training.")] = 2048,
    limit: Annotated[int | None, typer.Option(callback=positive, help="Windows to score.", show_default="all")] = None,
    vectors: Annotated[
        int,
        typer.Option(callback=positive, help="Random and edge vectors of linear layers, and as many steps of scans."),
    ] = 10_000,
    target: Annotated[str, typer.Option(help="Device of the estimate.")] = "zcu102",
    cells: Annotated[bool, typer.Option(help="Count cells with yosys.")] = True,
    reader: Annotated[
        str | None,
        typer.Option(
            help="Program that reads the pack with NumPy alone, as examples/read_pack.py.", show_default=False
        ),
    ] = None,
    folder: Annotated[str, typer.Option(help="Folder of forecasters in integers and of the pack.")] = (
        "outputs/forecast_proof"
    ),
    out: Annotated[str | None, typer.Option(help="File for the JSON.", show_default=False)] = None,
    check: Check = False,
    json_: Json = False,
) -> None:
    """Prove a forecaster's integers in one run: errors of 8 and 4 bits, then its pack from all sides.

    Each forecaster is scored in float32, W8A8, W4A8 and W4A8 trained on codes (LSQ). The compiled engine forecasts
    every window of the test as the reference does, on each instruction set. The first forecaster's pack goes through
    `verify` with corruptions, faults and cells.

    **Examples**

    - `sparseflow forecast prove --reader examples/read_pack.py`
    - `sparseflow forecast prove --checkpoint cmamba_etth1_96 --checkpoint etth2.safetensors --data ETT --check`
    """
    from sparseflow.recipes.forecast.prove import ProveConfig
    from sparseflow.recipes.forecast.prove import prove as run

    config = ProveConfig(
        checkpoints=tuple(checkpoint or ["cmamba_etth1_96"]), data=data, epochs=epochs, lr=lr, train_limit=train_limit,
        limit=limit, vectors=vectors, target=target, cells=cells, reader=reader, folder=folder, out=out,
    )  # fmt: skip
    body = run(
        config, progress=not json_, say=(lambda _: None) if json_ else (lambda text: typer.echo(f"… {text}", err=True))
    )
    if json_:
        typer.echo(json.dumps(body, indent=2))
    else:
        for task in body["tasks"]:
            forms = ", ".join(f"{name} {form['mse']:.4f}" for name, form in task["forms"].items())
            typer.echo(f"{task['task']}: MSE in float32 {task['fp32']['mse']:.4f}, {forms}")
        show_checks(body["checks"])
    if check and not body["ok"]:
        raise typer.Exit(1)
