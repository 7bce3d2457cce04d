"""`sparseflow triseg`: train a network on codes, find three values for its activations, and measure what they cost."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from sparseflow.cli import _triseg_options as options
from sparseflow.cli import triseg_judge, triseg_look
from sparseflow.cli._group import make_app, positive
from sparseflow.cli.triseg_judge import told_line

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
    told_line(
        record, json_, f"{settings.name}: {_percent(record, 'val_accuracy')} on {record['val_images']} val images"
    )


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
        float | None,
        typer.Option(help="Epochs at the start without rounding.", show_default="2; a fifth of fewer than 10"),
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
    told_line(
        record, json_,
        f"{settings.name}: {_percent(record, 'val_accuracy')} on {record['val_images']} val images as INT8, "
        f"{_percent(record, 'float_val')} in float32",
    )  # fmt: skip


@app.command()
def search(
    config: options.Config = None,
    model: options.Model = None,
    data: options.Data = None,
    out: options.Out = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="default, cmaes-dp, coordinate, cmaes, tpe, gp, evolution, nsga2, random, ppo, or ppo-original.",
            show_default="default",
        ),
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(callback=positive, help="Configurations to score.", show_default="600")
    ] = None,
    batch_size: options.BatchSize = None,
    calib_batches: options.CalibBatches = None,
    eval_every: Annotated[
        int | None,
        typer.Option(callback=positive, help="Scores between two accuracies of the best.", show_default="never"),
    ] = None,
    result_file: Annotated[str | None, typer.Option(help="Name of the result.", show_default="result.json")] = None,
    max_acc_drop: Annotated[
        float | None, typer.Option(help="Points of accuracy that may be lost.", show_default="2.0")
    ] = None,
    overflow: Annotated[
        str | None,
        typer.Option(help="pass: codes beyond tmax stay; clip: they become v2; saturate: tmax.", show_default="pass"),
    ] = None,
    layers: Annotated[
        list[str] | None, typer.Option(help="Layer to approximate; may be repeated.", show_default="all")
    ] = None,
    masks: Annotated[
        str | None, typer.Option(help="Ranges of the codes: relative, or seed.", show_default="by method")
    ] = None,
    tmax_mode: options.TmaxMode = None,
    tmax_fixed: options.TmaxFixed = None,
    tmax_percentile: options.TmaxPercentile = None,
    tmax_offset: options.TmaxOffset = None,
    tmax_reach: Annotated[int | None, typer.Option(help="How far the search may move tmax.", show_default="0")] = None,
    tmax_share: Annotated[
        list[float] | None,
        typer.Option(
            help="Percent of the codes up to tmax, where more are too lossy; may be repeated.", show_default="none"
        ),
    ] = None,
    kd_t: Annotated[
        float | None, typer.Option("--kd-T", "--kd-t", help="Temperature of the reward.", show_default="2")
    ] = None,
    attention_weight: Annotated[
        float | None, typer.Option(help="Weight of the attention loss in the reward.", show_default="100")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of PPO.", show_default="by method")] = None,
    update_timestep: Annotated[
        int | None, typer.Option(callback=positive, help="Layers between updates of ppo-original.", show_default="50")
    ] = None,
    top: Annotated[
        int | None, typer.Option(callback=positive, help="Finalists judged on all val images.", show_default="30")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Written into the result.", show_default="fbgemm")] = None,
    resume: Annotated[
        bool | None, typer.Option("--resume/--no-resume", help="Take scores from an earlier start.", show_default="on")
    ] = None,
    device: options.Device = None,
    seed: options.Seed = None,
    json_: options.Json = False,
) -> None:
    """Find thresholds and values of every layer; writes the result below `tri_ppo_int_codes/`.

    Scores configurations on a fixed batch of calibration images (answers and attention maps close to the INT8
    network's), scores the best again on others, judges the finalists on all val images, and keeps the most accurate
    within --max-acc-drop. Killed, it goes on from its records. The same seed gives the same file.

    **Examples**

    - `sparseflow triseg search --model alexnet --result-file alexnet_exp1.json`
    - `sparseflow triseg search --model vgg16 --data ~/cifar10 --episodes 2000 --max-acc-drop 1.0 --device cuda`
    - `sparseflow triseg search --model mobilenetv1 --tmax-share 92 --tmax-share 85` — more codes pass if needed
    - `sparseflow triseg search --model alexnet --method ppo-original --episodes 10000 --batch-size 32 --lr 0.0003`
    """
    from sparseflow.recipes.settings import read_settings
    from sparseflow.recipes.triseg.search import search as run
    from sparseflow.recipes.triseg.search_config import SearchConfig

    settings = read_settings(
        SearchConfig, config, model=model, data=data, out=out, method=method, episodes=episodes,
        batch_size=batch_size, calib_batches=calib_batches, eval_every=eval_every, result_file=result_file,
        max_acc_drop=max_acc_drop, overflow=overflow, layers=tuple(layers) if layers else None, masks=masks,
        tmax_reach=tmax_reach, tmax_shares=tuple(tmax_share) if tmax_share else None, lr=lr,
        update_timestep=update_timestep, top=top, backend=backend, resume=resume,
        device=device, seed=seed,
    )  # fmt: skip
    rule = _given(mode=tmax_mode, fixed=tmax_fixed, percentile=tmax_percentile, offset=tmax_offset)
    reward = _given(temperature=kd_t, attention=attention_weight)
    settings = replace(settings, tmax=replace(settings.tmax, **rule), reward=replace(settings.reward, **reward))
    found = run(settings, progress=not json_)
    m = found.result.metrics
    told_line(
        {**found.to_dict(), "file": str(found.path)}, json_,
        f"{found.result.model}: INT8 {m.acc_teacher:.2f} %, three values {m.acc_student:.2f} % on val images; "
        f"{found.result.selection}",
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
        typer.Option(
            help="pass: codes beyond tmax stay; clip: they become v2; saturate: tmax, all that 2 bits hold.",
            show_default="pass",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(callback=positive, help="Passes.", show_default="5")] = None,
    minutes: options.Minutes = None,
    batch_size: options.BatchSize = None,
    lr: Annotated[float | None, typer.Option(help="Peak rate of the weights.", show_default="0.0003")] = None,
    code_lr: Annotated[float | None, typer.Option(help="Peak rate of the codes.", show_default="0.01")] = None,
    kd_t: Annotated[
        float | None, typer.Option("--kd-T", "--kd-t", help="Temperature of the teacher.", show_default="2")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Share of the labels in the loss; the teacher's is the rest.", show_default="0.1"),
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
    told_line(
        record, json_,
        f"{settings.name}: INT8 {_percent(record, 'acc_teacher')}, frozen {_percent(record, 'acc_frozen')}, "
        f"fine-tuned {_percent(record, 'acc_student')} on {record['val_images']} val images",
        "result",
    )  # fmt: skip


app.command("eval")(triseg_judge.evaluate)
for _look in (
    triseg_judge.export,
    triseg_judge.accuracy,
    triseg_judge.bench,
    triseg_judge.zoo,
    triseg_look.variance,
    triseg_look.percentiles,
    triseg_look.coverage,
    triseg_look.sensitivity,
    triseg_look.dump,
    triseg_look.edit,
    triseg_look.report,
):
    app.command()(_look)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _percent(record: dict[str, Any], key: str) -> str:
    return f"{100 * record[key]:.2f} %"
