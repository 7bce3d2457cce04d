"""The commands of `sparseflow forecast` that make integers of a forecaster."""

from typing import Annotated

import typer

from sparseflow.cli._group import positive, show_checks

__all__ = ["quantize"]


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
    lr: Annotated[float, typer.Option(help="Learning rate of that training.")] = 5e-5,
    train_limit: Annotated[
        int | None, typer.Option(callback=positive, help="Windows of that training, evenly spread.", show_default="all")
    ] = None,
    split: Annotated[str, typer.Option(help="Part to score on: test or val.")] = "test",
    limit: Annotated[int | None, typer.Option(callback=positive, help="Windows to score.", show_default="all")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Hold the compiled engine to the reference on every window.")
    ] = False,
    out: Annotated[str, typer.Option(help="Folder of the files.")] = "outputs/forecast_integers",
    check: Annotated[bool, typer.Option("--check", help="Leave with 1 if a bound does not hold.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Bring a forecaster into integers, and score it in integers alone beside float32.

    Ranges are seen on the training part; `--epochs` trains on codes afterwards. Writes `forecaster.safetensors` with
    its QSpec, and `qspec.json`.

    **Examples**

    - `sparseflow forecast quantize --checkpoint forecaster.safetensors`
    - `sparseflow forecast quantize --checkpoint forecaster.safetensors --weights 4 --epochs 1 --json`
    - `sparseflow forecast quantize --checkpoint forecaster.safetensors --compare --check`
    """
    import json

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
