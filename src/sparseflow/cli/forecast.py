"""`sparseflow forecast`: train a forecaster of time series, score it, and forecast."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sparseflow.cli import forecast_fpga, forecast_integers
from sparseflow.cli._group import make_app, positive, show_checks
from sparseflow.cli._options import Check, Config, Device, File, Json, settings_file

__all__ = ["app"]

app = make_app(
    """
Forecast time series with CMamba, a state-space network.

1. **train**: on ETTh1, which ships, or on any CSV file; the best weights on val are kept.
2. **eval**: MSE and MAE on all windows of the test, means over seeds and horizons.
3. **predict**: the readings that come after the end of a file.

A forecaster of ETTh1, 96 readings ahead, ships: `cmamba_etth1_96`. **demo** looks at it.
"""
)

SHIPPED = ("cmamba_etth1_96",)

Data = Annotated[
    str | None, typer.Option(help="File of the data set, or its folder.", show_default="the shipped ETTh1")
]
Checkpoints = Annotated[
    list[str] | None,
    typer.Option(
        help="File of a training, or the name of one that ships; repeated for seeds and horizons.",
        show_default="cmamba_etth1_96",
    ),
]
Missing = Annotated[
    float | None,
    typer.Option(help="Number that stands for a missing reading of a CSV, as -9999.", show_default=False),
]


@app.command()
def train(
    file: File = None,
    config: Config = None,
    dataset: Annotated[str | None, typer.Option(help="ETTh1, ETTh2, ETTm1 or ETTm2.", show_default="ETTh1")] = None,
    data: Data = None,
    csv: Annotated[str | None, typer.Option(help="Any series in a CSV file instead.", show_default=False)] = None,
    npz: Annotated[
        str | None,
        typer.Option(help="Windows as they are instead: X_train, y_train, X_val, y_val.", show_default=False),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Variate to forecast; may be repeated.", show_default="all")
    ] = None,
    missing: Missing = None,
    seq_len: Annotated[int | None, typer.Option(callback=positive, help="Readings seen.", show_default="96")] = None,
    forecast_len: Annotated[
        int | None, typer.Option(callback=positive, help="Readings asked for.", show_default="96")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="official or seed.", show_default="official")] = None,
    d_model: Annotated[int | None, typer.Option(callback=positive, help="Width.", show_default="128")] = None,
    n_layer: Annotated[int | None, typer.Option(callback=positive, help="Blocks.", show_default="3")] = None,
    d_state: Annotated[int | None, typer.Option(callback=positive, help="States a channel.", show_default="16")] = None,
    patch_len: Annotated[
        int | None, typer.Option(callback=positive, help="Readings a patch.", show_default="16")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(callback=positive, help="Readings between patches.", show_default="8")
    ] = None,
    epochs: Annotated[int | None, typer.Option(callback=positive, help="Passes at most.", show_default="100")] = None,
    patience: Annotated[
        int | None, typer.Option(callback=positive, help="Worse passes before stopping.", show_default="3")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(callback=positive, help="Windows a step.", show_default="64")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="First learning rate.", show_default="0.0005")] = None,
    sigma: Annotated[float | None, typer.Option(help="Of Channel Mixup; 0 for none.", show_default="1")] = None,
    ema: Annotated[
        float | None, typer.Option(help="Keep a running mean of the weights, as 0.995.", show_default="none")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bfloat16, tf32 or float32.", show_default="auto")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default="auto")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed.", show_default="2021")] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the runs.", show_default="outputs/forecast")] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write report.html beside the checkpoint.")] = True,
    json_: Json = False,
) -> None:
    """Train a forecaster until the loss on val stops falling; writes `forecaster.safetensors` and a page.

    The defaults are the published ones for ETTh1; the files in `configs/` may add the running mean of the weights. The
    state is saved after every epoch: the same command goes on after Ctrl-C or a kill. Several processes of `torchrun`
    share the windows of each step.

    **Examples**

    - `sparseflow forecast train configs/cmamba_etth1_96.yaml` — the forecaster that ships
    - `sparseflow forecast train configs/cmamba_ettm1_336.yaml --data ~/ETT-small --device cuda`
    - `sparseflow forecast train --csv load.csv --target OT --forecast-len 24`
    - `torchrun --nproc-per-node 2 --no-python sparseflow forecast train`
    """
    import json

    from sparseflow.errors import ConfigError
    from sparseflow.recipes.forecast import ForecastConfig, train_forecaster
    from sparseflow.recipes.ranks import is_first
    from sparseflow.recipes.settings import read_settings

    if sum(chosen is not None for chosen in (csv, npz, dataset)) > 1:
        raise ConfigError("--dataset, --csv and --npz name different data; give one")
    if (csv or npz) and data is not None:
        raise ConfigError("--data goes with --dataset; --csv and --npz name their file themselves")
    # Sizes of the network are merged into those of the file, which would else be lost.
    network = {"d_model": d_model, "n_layer": n_layer, "d_state": d_state, "patch_len": patch_len, "stride": stride}
    given: dict[str, Any] = {
        "dataset": "csv" if csv else "npz" if npz else dataset,
        "data": csv or npz or data,
        "targets": tuple(target) if target else None,
        "missing": missing, "seq_len": seq_len, "forecast_len": forecast_len, "variant": variant, "epochs": epochs,
        "patience": patience, "batch_size": batch_size, "lr": lr, "sigma": sigma, "ema": ema,
        "precision": precision, "device": device, "seed": seed, "out": out,
    }  # fmt: skip
    settings = read_settings(ForecastConfig, settings_file(file, config), **given)
    if sizes := {k: v for k, v in network.items() if v is not None}:
        settings = ForecastConfig.from_dict(settings.to_dict(all=True) | {"model_args": settings.model_args | sizes})
    record = train_forecaster(settings, progress=not json_)
    if not is_first():
        return
    if page:
        from sparseflow.recipes.forecast.page import forecast_page

        part = "test" if "test" in record else "val"
        forecast_page(
            [record["file"]],
            settings.folder,
            split=part,
            device=settings.device,
            command=_command(record, split=None if part == "test" else part),
        )
    if json_:
        typer.echo(json.dumps(record, indent=2))
        return
    typer.echo(f"{record['task']}: best of {record['epochs']} epochs, MAE on val {record['val']['mae']:.4f}")
    if "test" in record:
        test = record["test"]
        typer.echo(f"test, {test['windows']} windows: MSE {test['mse']:.4f}, MAE {test['mae']:.4f}")
    typer.echo(record["file"])
    if page:
        typer.echo(settings.folder / "report.html")


@app.command("eval")
def evaluate(
    checkpoint: Checkpoints = None,
    data: Annotated[
        str | None, typer.Option(help="File of the data set, or its folder.", show_default="as in the training")
    ] = None,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="float32, tf32 or bfloat16.")] = "float32",
    batch_size: Annotated[int, typer.Option(callback=positive, help="Windows a call.")] = 512,
    out: Annotated[Path | None, typer.Option(help="Write the JSON there.", show_default=False)] = None,
    check: Check = False,
    json_: Json = False,
) -> None:
    """Score forecasters on all windows of a split, none left out, in units of the training part's deviations.

    Checkpoints of one task with several seeds give their mean and deviation; those of all four horizons of an ETT
    series also give the average that papers tell, held against that of CMamba's.

    **Examples**

    - `sparseflow forecast eval --json` — the forecaster that ships
    - `sparseflow forecast eval --checkpoint a.safetensors --checkpoint b.safetensors --data ~/ETT-small`
    """
    from sparseflow.recipes.forecast import evaluate as run

    body = run(
        checkpoint or SHIPPED, data=data, split=split, device=device, precision=precision, batch_size=batch_size,
        out=out,
    )  # fmt: skip
    if not json_:
        for one in body["runs"]:
            typer.echo(f"{one['file']}: MSE {one['mse']:.4f}, MAE {one['mae']:.4f}")
    _tell(body, check, json_)


@app.command()
def report(
    checkpoint: Checkpoints = None,
    out: Annotated[str, typer.Option(help="Folder for report.html and report.json.")] = "runs/forecast",
    data: Annotated[
        str | None, typer.Option(help="File of the data set, or its folder.", show_default="as in the training")
    ] = None,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    moments: Annotated[int, typer.Option(callback=positive, help="Windows to draw.")] = 3,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Write the page of one forecaster, or of several seeds of one task.

    Forecasts against truth, the table of results beside naive forecasts, errors by variate and by distance, and the
    loss of every epoch.

    **Examples**

    - `sparseflow forecast report` — the forecaster that ships
    - `sparseflow forecast report --checkpoint a.safetensors --checkpoint b.safetensors --out runs/etth1`
    """
    import json

    from sparseflow.recipes.forecast.page import forecast_page

    names = checkpoint or list(SHIPPED)
    command = _command(
        *({"file": name} for name in names), data=data, split=None if split == "test" else split, moments=moments
    )  # fmt: skip
    body = forecast_page(names, out, data=data, split=split, device=device, moments=moments, command=command)
    if json_:
        typer.echo(json.dumps(body, ensure_ascii=False))
        return
    typer.echo(body["headline"])
    typer.echo(body["files"][0])


@app.command()
def demo(
    out: Annotated[str, typer.Option(help="Folder for report.html and report.json.")] = "runs/forecast",
    json_: Json = False,
) -> None:
    """Forecast with the network that ships: all test windows of ETTh1 scored, some drawn, and one page.

    Nothing is downloaded or trained; less than a minute on two cores.

    **Examples**

    - `sparseflow forecast demo`
    """
    report(out=out, moments=5, json_=json_)


@app.command()
def table(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUNS...", help="Folders of trainings, their record.json, or tables made before."),
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option(help="The same with other settings, to choose between them on val.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table there, as JSON.", show_default=False)] = None,
    check: Check = False,
    json_: Json = False,
) -> None:
    """Put what trainings reached into one table, from the records that they left; nothing is run.

    **Examples**

    - `sparseflow forecast table outputs/forecast`
    - `sparseflow forecast table outputs/forecast --out benchmarks/results/forecast_h200.json`
    - `sparseflow forecast table outputs/ema --against outputs/forecast` — which setting does better on val?
    """
    import json

    from sparseflow.ir.files import write_atomic
    from sparseflow.recipes.forecast import table_of

    body = table_of(runs, against=against or ())
    if out is not None:
        write_atomic(out, json.dumps(body, indent=1) + "\n")
    _tell(body, check, json_)


@app.command()
def check(
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="files: damaged weights are refused; parity: published weights give the forecasts of the published"
            " equations; resume: a killed training goes on.",
            show_default="all",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the JSON there.", show_default=False)] = None,
    json_: Json = False,
) -> None:
    """Check what is promised: damaged weights are refused, published ones forecast alike, a killed training goes on.

    20 damaged files of weights are refused by name; 20 state dicts of the published code, of 1 to 321 series, give the
    forecasts of the published equations; and a training after kill -9 ends with the same bits. Each in a folder that is
    removed afterwards.

    Exits with 1 if a promise does not hold. About a minute on two cores.

    **Examples**

    - `sparseflow forecast check --json`
    - `sparseflow forecast check --suite files`
    """
    import json

    from sparseflow.errors import ConfigError
    from sparseflow.recipes.forecast.checks import SUITES, check_forecast

    if unknown := [name for name in suite or () if name not in SUITES]:
        raise ConfigError(f"no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    body = check_forecast(tuple(suite or SUITES), out=out)
    if json_:
        typer.echo(json.dumps(body, indent=2))
    else:
        show_checks(body["checks"])
    if not body["ok"]:
        raise typer.Exit(1)


@app.command()
def predict(
    checkpoint: Annotated[str, typer.Option(help="File of a training, or the name of one that ships.")] = SHIPPED[0],
    csv: Annotated[
        str | None, typer.Option(help="Readings; what follows its last row is forecast.", show_default=False)
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(help="Or windows: .npz with x [B, V, L], in units of the data.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the forecast there, as CSV or .npz.", show_default="print it")
    ] = None,
    missing: Missing = None,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Forecast the readings after the end of a CSV file, or after windows in an .npz, in their units.

    **Examples**

    - `sparseflow forecast predict --checkpoint forecaster.safetensors --csv ETTh1.csv`
    - `sparseflow forecast predict --checkpoint forecaster.safetensors --csv ETTh1.csv --out ahead.csv`
    - `sparseflow forecast predict --checkpoint forecaster.safetensors --input test_data.npz --out y.npz`
    """
    import json

    from sparseflow.errors import ConfigError
    from sparseflow.ir.files import write_atomic
    from sparseflow.recipes.forecast import predict as run

    if (csv is None) == (input is None):
        raise ConfigError("give readings to forecast from: either --csv FILE or --input FILE.npz")
    if input is not None:
        _predict_windows(checkpoint, input, out, device, json_)
        return
    body = run(checkpoint, csv or "", missing=missing, device=device)
    rows = [",".join(["step", *body["columns"]])]
    rows += [",".join([str(i), *(f"{v:.6g}" for v in row)]) for i, row in enumerate(body["values"], 1)]
    if out is not None:
        write_atomic(out, "\n".join(rows) + "\n")
    if json_:
        typer.echo(json.dumps(body))
    elif out is not None:
        typer.echo(f"{len(body['values'])} readings of {len(body['columns'])} variates: {out}")
    else:
        typer.echo("\n".join(rows))


def _predict_windows(checkpoint: str, input: str, out: Path | None, device: str, json_: bool) -> None:
    import io
    import json

    import numpy as np

    from sparseflow.ir.files import write_atomic
    from sparseflow.recipes.forecast import predict_windows

    y = predict_windows(checkpoint, input, device=device)
    if out is not None:
        file = io.BytesIO()
        np.savez(file, y=y.numpy())
        write_atomic(out, file.getvalue())
    if json_:
        typer.echo(json.dumps({"shape": list(y.shape)} if out is not None else {"values": y.tolist()}))
    else:
        typer.echo(f"output: {tuple(y.shape)}" + ("" if out is None else f": {out}"))


def _command(*records: dict[str, Any], **more: object) -> str:
    """Return the command line that makes a page again."""
    import shlex

    parts = [word for record in records for word in ("--checkpoint", str(record["file"]))]
    given = [word for name, value in more.items() if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(["sparseflow", "forecast", "report", *parts, *given])


def _tell(body: dict[str, Any], check: bool, json_: bool) -> None:
    """Print a table of scores with its checks; leave with 1 if one is to hold and does not."""
    import json

    if json_:
        typer.echo(json.dumps(body, indent=2))
    else:
        for task in body["tasks"]:
            typer.echo(f"{task['task']}, {task['windows']} windows, mean of {len(task['seeds'])}: {_errors(task)}")
        for row in body["averages"]:
            typer.echo(f"{row['dataset']}, mean of the four horizons: {_errors(row)}")
        if "val" in body:
            val = body["val"]
            typer.echo(f"MAE on val, over that of the others: {val['ratio']:.4f} ({val['pairs']} trainings of each)")
        if "checks" in body:
            show_checks(body["checks"])
    if check and not body.get("ok", True):
        raise typer.Exit(1)


def _errors(row: dict[str, Any]) -> str:
    spread = {k: f" ± {row[f'{k}_stdev']:.4f}" if f"{k}_stdev" in row else "" for k in ("mse", "mae")}
    return f"MSE {row['mse']:.4f}{spread['mse']}, MAE {row['mae']:.4f}{spread['mae']}"


for command in (forecast_integers.quantize, forecast_integers.prove, forecast_fpga.export, forecast_fpga.verify):
    app.command(rich_help_panel="Integers and FPGAs")(command)


@app.command()
def bench(
    device: Device = "auto",
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="errors, speed (GPU), network or int8 (CPU); may be repeated.", show_default="all of the device"
        ),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option(help="How scans are called on a GPU: eager, graph or compiled.", show_default="all"),
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Threads on a CPU.", show_default="2, then 1")
    ] = None,
    repeats: Annotated[int, typer.Option(callback=positive, help="Rounds of a measurement.")] = 20,
    compile: Annotated[bool, typer.Option(help="Let torch.compile take part on a CPU.")] = True,
    int8: Annotated[bool, typer.Option("--int8", help="The integers against float32 alone, on a CPU.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the JSON there.", show_default="print it")] = None,
    json_: Json = False,
) -> None:
    """Measure the scan and the network against float64, plain torch and mambapy, and check the figures.

    On a GPU the scan, forwards and backwards; on a CPU one forecast and one step of a training. The rival is
    mambapy 1.2.0, which does not come along: `pip install mambapy==1.2.0`. Ends with status 1 if a check fails.

    **Examples**

    - `sparseflow forecast bench --json`
    - `sparseflow forecast bench --device cuda --out forecast_bench_h200.json`
    - `sparseflow forecast bench --suite errors`
    - `sparseflow forecast bench --int8 --json`
    """
    import json

    from sparseflow.recipes.forecast.bench import ForecastBenchConfig
    from sparseflow.recipes.forecast.bench import bench as run

    suites = ["int8"] if int8 else suite
    given: dict[str, Any] = {"suites": suites, "forms": form, "threads": threads}
    chosen = {name: tuple(values) for name, values in given.items() if values}
    config = ForecastBenchConfig(
        device="cpu" if int8 else device,
        repeats=repeats,
        compile=compile,
        out=None if out is None else str(out),
        **chosen,
    )
    body = run(config, progress=not json_)
    if json_:
        typer.echo(json.dumps(body, indent=1))
    else:
        show_checks(body["checks"])
    if not body["ok"]:
        raise typer.Exit(1)
