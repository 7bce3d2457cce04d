"""`sparseflow triseg`: train a network on codes, find three values for its activations, and measure what they cost."""

from typing import Annotated, Any

import typer

from sparseflow.cli import _triseg_options as options
from sparseflow.cli import triseg_look
from sparseflow.cli._group import make_app, positive

__all__ = ["app"]

app = make_app(
    """
Give the activations of an INT8 network three values, found by search.

Each code becomes 0, v1 or v2, and the few beyond tmax stay as they are: about two bits an activation, and additions
instead of most multiplies. The way from nothing to an answer:

1. **train-float**, then **train-qat**: a network on codes (an AlexNet ships; skip this to try).
2. **search**: thresholds and values for every layer, chosen on validation images.
3. **finetune**: weights, values and thresholds together, for the last points of accuracy.
4. **eval --split test**: the one figure that is told. **report**: pictures and the cost in hardware.
5. **export**: plan, weights and codes that C reads without Python.

**variance**, **percentiles**, **coverage** and **sensitivity** look into a network; **dump** and **edit** show what
flows through it. Without --data everything runs on 2000 images that ship: a trial, no result.
"""
)


@app.command("train-float")
def train_float(
    config: options.Config = None,
    model: options.Model = None,
    data: options.Data = None,
    out: options.Out = None,
    epochs: Annotated[int | None, typer.Option(callback=positive, help="Passes.", show_default="20")] = None,
    minutes: options.Minutes = None,
    batch_size: options.BatchSize = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.", show_default="0.01")] = None,
    device: options.Device = None,
    seed: options.Seed = None,
    json_: options.Json = False,
) -> None:
    """Train a network in float32; writes `{model}_float_unfused.safetensors`.

    The defaults are the earlier project's recipe. The state is saved after every epoch: the same command goes on.

    **Examples**

    - `sparseflow triseg train-float --model alexnet --data ~/cifar10`
    - `sparseflow triseg train-float configs/triseg_alexnet_float.yaml --data ~/cifar10 --device cuda`
    - `sparseflow triseg train-float --model mynet.py:build --epochs 2`
    """
    from sparseflow.recipes.settings import read_settings
    from sparseflow.recipes.triseg.config import TrainConfig
    from sparseflow.recipes.triseg.train import train_float as run

    settings = read_settings(
        TrainConfig, config, model=model, data=data, out=out, epochs=epochs, minutes=minutes, batch_size=batch_size,
        lr=lr, device=device, seed=seed,
    )  # fmt: skip
    record = run(settings, progress=not json_)
    _told(record, json_, f"{settings.name}: {_percent(record, 'val_accuracy')} on {record['val_images']} val images")


@app.command("train-qat")
def train_qat(
    config: options.Config = None,
    model: options.Model = None,
    data: options.Data = None,
    out: options.Out = None,
    qat_epochs: Annotated[
        int | None, typer.Option("--qat-epochs", "--epochs", callback=positive, help="Passes.", show_default="10")
    ] = None,
    minutes: options.Minutes = None,
    batch_size: options.BatchSize = None,
    qat_lr: Annotated[
        float | None, typer.Option("--qat-lr", "--lr", help="Peak learning rate.", show_default="0.001")
    ] = None,
    warmup_float_epochs: Annotated[
        float | None, typer.Option(help="Epochs at the start without rounding.", show_default="2")
    ] = None,
    calib_batches: options.CalibBatches = None,
    start: Annotated[
        str | None, typer.Option(help="Checkpoint in float32.", show_default="that of train-float in --out")
    ] = None,
    device: options.Device = None,
    seed: options.Seed = None,
    json_: options.Json = False,
) -> None:
    """Train on fake-quantised INT8 codes; writes `{model}_qat_preconvert.safetensors`.

    Starts from what train-float wrote. Convolution, batch norm and ReLU are fused, and the norms stay trainable.

    **Examples**

    - `sparseflow triseg train-qat --model alexnet --data ~/cifar10`
    - `sparseflow triseg train-qat --model vgg16 --qat-epochs 10 --qat-lr 0.001 --data ~/cifar10`
    """
    from sparseflow.recipes.settings import read_settings
    from sparseflow.recipes.triseg.config import QatConfig
    from sparseflow.recipes.triseg.qat import train_qat as run

    settings = read_settings(
        QatConfig, config, model=model, data=data, out=out, epochs=qat_epochs, minutes=minutes, batch_size=batch_size,
        lr=qat_lr, warmup_float_epochs=warmup_float_epochs, calib_batches=calib_batches, start=start, device=device,
        seed=seed,
    )  # fmt: skip
    record = run(settings, progress=not json_)
    _told(
        record, json_,
        f"{settings.name}: {_percent(record, 'val_accuracy')} on {record['val_images']} val images as INT8, "
        f"{_percent(record, 'float_val')} in float32",
    )  # fmt: skip


@app.command()
def finetune(
    config: options.Config = None,
    model: options.Model = None,
    data: options.Data = None,
    out: options.Out = None,
    config_path: options.ConfigPath = None,
    mode: Annotated[
        str | None,
        typer.Option(help="pass: codes beyond tmax stay; saturate: they become v2, 2 bits.", show_default="pass"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(callback=positive, help="Passes.", show_default="5")] = None,
    minutes: options.Minutes = None,
    batch_size: options.BatchSize = None,
    lr: Annotated[float | None, typer.Option(help="Peak rate of the weights.", show_default="0.001")] = None,
    code_lr: Annotated[float | None, typer.Option(help="Peak rate of the codes.", show_default="0.05")] = None,
    kd_t: Annotated[
        float | None, typer.Option("--kd-T", "--kd-t", help="Temperature of the teacher.", show_default="2")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Share of the labels in the loss; the teacher's is the rest.", show_default="0.3"),
    ] = None,
    calib_batches: options.CalibBatches = None,
    result_file: Annotated[str | None, typer.Option(help="Name of the result.", show_default=False)] = None,
    device: options.Device = None,
    seed: options.Seed = None,
    json_: options.Json = False,
) -> None:
    """Train weights, values and thresholds of an approximated network together.

    Starts from a result of search, or from the optimum of the Fisher-weighted histograms. Writes
    `{model}_finetuned_{mode}_seed{seed}.safetensors` and its result below `tri_ppo_int_codes/`.

    **Examples**

    - `sparseflow triseg finetune --model alexnet --config-path outputs/tri_ppo_int_codes/alexnet_exp1.json`
    - `sparseflow triseg finetune --model vgg16 --mode saturate --data ~/cifar10 --device cuda`
    """
    from sparseflow.recipes.settings import read_settings
    from sparseflow.recipes.triseg.config import FinetuneConfig
    from sparseflow.recipes.triseg.finetune import finetune_triseg as run

    settings = read_settings(
        FinetuneConfig, config, model=model, data=data, out=out, config_path=config_path, mode=mode, epochs=epochs,
        minutes=minutes, batch_size=batch_size, lr=lr, code_lr=code_lr, kd_t=kd_t,
        kd_weight=None if alpha is None else 1 - alpha, calib_batches=calib_batches, result_file=result_file,
        device=device, seed=seed,
    )  # fmt: skip
    record = run(settings, progress=not json_)
    _told(
        record, json_,
        f"{settings.name}: INT8 {_percent(record, 'acc_teacher')}, frozen {_percent(record, 'acc_frozen')}, "
        f"fine-tuned {_percent(record, 'acc_student')} on {record['val_images']} val images",
        "result",
    )  # fmt: skip


for look in (
    triseg_look.variance,
    triseg_look.percentiles,
    triseg_look.coverage,
    triseg_look.sensitivity,
    triseg_look.dump,
    triseg_look.edit,
    triseg_look.report,
):
    app.command()(look)


def _percent(record: dict[str, Any], key: str) -> str:
    return f"{100 * record[key]:.2f} %"


def _told(record: dict[str, Any], json_: bool, line: str, *files: str) -> None:
    import json

    if json_:
        typer.echo(json.dumps(record, indent=2, ensure_ascii=False))
        return
    typer.echo(line)
    for key in ("file", *files):
        if key in record:
            typer.echo(f"{key:7} {record[key]}")
