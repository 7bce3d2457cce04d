"""The commands of `sparseflow triseg` that look into a network and change nothing."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparseflow.cli import _triseg_options as options
from sparseflow.cli._group import positive, wide_console

if TYPE_CHECKING:
    from sparseflow.recipes.triseg.analyze import Analysis, AnalyzeConfig

__all__ = ["coverage", "dump", "edit", "percentiles", "report", "sensitivity", "variance"]


def variance(
    model: options.Model = None,
    data: options.Data = None,
    out: options.Out = None,
    batch_size: options.BatchSize = None,
    batches: options.Images = 10,
    split: options.Split = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Show how the codes of every layer are spread: mean, variance, zeros, the largest.

    Writes `{model}_variance.json` and `.csv` too.

    **Example:** `sparseflow triseg variance --model alexnet --data ~/cifar10`
    """
    _analyze("variance", json_, model=model, data=data, out=out, batch_size=batch_size, batches=batches, split=split,
             device=device)  # fmt: skip


def percentiles(
    model: options.Model = None,
    data: options.Data = None,
    out: options.Out = None,
    batch_size: options.BatchSize = None,
    batches: options.Images = 20,
    split: options.Split = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Show at which code 20, 40, 60, 80, 90 and 100 % of the codes other than 0 lie, and the tmax that follows.

    Writes `{model}_percentiles.json` and `.csv` too.

    **Example:** `sparseflow triseg percentiles --model vgg16 --data ~/cifar10`
    """
    _analyze("percentiles", json_, model=model, data=data, out=out, batch_size=batch_size, batches=batches,
             split=split, device=device)  # fmt: skip


def coverage(
    model: options.Model = None,
    data: options.Data = None,
    out: options.Out = None,
    batch_size: options.BatchSize = None,
    batches: options.Images = 20,
    config_path: options.ConfigPath = None,
    coverage_ignore_zeros: Annotated[
        bool, typer.Option("--coverage-ignore-zeros", help="Leave code 0 out of both numbers.")
    ] = False,
    tmax_mode: options.TmaxMode = None,
    tmax_fixed: options.TmaxFixed = None,
    tmax_percentile: options.TmaxPercentile = None,
    tmax_offset: options.TmaxOffset = None,
    split: options.Split = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Show which share of the codes of every layer lies at or below its tmax; the rest are escapes.

    Writes `{model}_coverage.json` and `.csv` too.

    **Examples**

    - `sparseflow triseg coverage --model alexnet --coverage-ignore-zeros`
    - `sparseflow triseg coverage --model alexnet --config-path outputs/tri_ppo_int_codes/alexnet_exp1.json`
    """
    _analyze("coverage", json_, model=model, data=data, out=out, batch_size=batch_size, batches=batches, split=split,
             device=device, config_path=config_path, ignore_zeros=coverage_ignore_zeros,
             tmax=_tmax(tmax_mode, tmax_fixed, tmax_percentile, tmax_offset))  # fmt: skip


def sensitivity(
    model: options.Model = None,
    data: options.Data = None,
    out: options.Out = None,
    batch_size: options.BatchSize = None,
    batches: options.Images = None,
    config_path: options.ConfigPath = None,
    tmax_mode: options.TmaxMode = None,
    tmax_fixed: options.TmaxFixed = None,
    tmax_percentile: options.TmaxPercentile = None,
    tmax_offset: options.TmaxOffset = None,
    split: options.Split = "val",
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Approximate one layer at a time, and leave one out at a time: which layers cost accuracy?

    By percentiles, 0 | p40 | p80 with steps at p20 and p60, or by the codes of --config-path. Writes
    `{model}_sensitivity.json` and `.csv` too.

    **Examples**

    - `sparseflow triseg sensitivity --model alexnet --data ~/cifar10`
    - `sparseflow triseg sensitivity --model alexnet --config-path outputs/tri_ppo_int_codes/alexnet_exp1.json`
    """
    _analyze("sensitivity", json_, model=model, data=data, out=out, batch_size=batch_size, batches=batches,
             split=split, device=device, config_path=config_path,
             tmax=_tmax(tmax_mode, tmax_fixed, tmax_percentile, tmax_offset))  # fmt: skip


def dump(
    path: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help=".safetensors or .pt.", show_default="{model}_acts_int8.safetensors"),
    ] = None,
    model: options.Model = None,
    data: options.Data = None,
    out: options.Out = None,
    batch_size: options.BatchSize = None,
    floating: Annotated[bool, typer.Option("--float", help="The network in float32.")] = False,
    split: options.Split = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Write the activations of one batch, under names as `block_output.conv1` and `classifier.fc1.out`.

    **Examples**

    - `sparseflow triseg dump --model alexnet --batch-size 16`
    - `sparseflow triseg dump acts.pt --model vgg16 --float`
    """
    import json

    from sparseflow.recipes.triseg.dump import dump as run

    config = _config(model=model, data=data, out=out, batch_size=batch_size, split=split, device=device)
    file = run(config, path, floating=floating)
    typer.echo(json.dumps({"file": str(file)}, indent=2) if json_ else str(file))


def edit(
    model: options.Model = None,
    data: options.Data = None,
    out: options.Out = None,
    batch_size: options.BatchSize = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer whose channels are zeroed.", show_default="the first")
    ] = None,
    channels: Annotated[int, typer.Option(callback=positive, help="Channels to zero.")] = 8,
    buckets: Annotated[
        bool, typer.Option("--buckets", help="Instead map 1..4 to 4, 5..11 to 8, 12..17 to 14, in every layer.")
    ] = False,
    floating: Annotated[bool, typer.Option("--float", help="The network in float32.")] = False,
    split: options.Split = "val",
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Show what zeroing channels, or a fixed map of codes, does to the accuracy.

    **Examples**

    - `sparseflow triseg edit --model alexnet --layer conv3 --channels 8`
    - `sparseflow triseg edit --model alexnet --buckets --json`
    """
    import json

    from sparseflow.recipes.triseg.dump import EditConfig
    from sparseflow.recipes.triseg.dump import edit as run

    look = _config(model=model, data=data, out=out, batch_size=batch_size, split=split, device=device, batches=None)
    told = run(
        EditConfig(what="buckets" if buckets else "zero", layer=layer, channels=channels, floating=floating, look=look)
    )
    if json_:
        typer.echo(json.dumps(told, indent=2))
        return
    what = "buckets" if buckets else f"{channels} channels of {told['layers'][0]} at 0"
    typer.echo(
        f"{told['model']} ({told['network']}), {told['images']} {told['split']} images: {told['acc_baseline']:.2f} %, "
        f"with {what} {told['acc_modified']:.2f} %, drop {told['acc_drop']:.2f}"
    )


def report(
    config_path: Annotated[str, typer.Argument(metavar="RESULT.json", help="A result.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(
            help="Network, as for search; the weights of a fine-tuned result are found beside it.",
            show_default="as in the result",
        ),
    ] = None,
    search: Annotated[
        list[str] | None, typer.Option(help="JSON of a search; may be repeated.", show_default=False)
    ] = None,
    tuned: Annotated[
        list[str] | None,
        typer.Option(help="Result of finetune to draw beside; may be repeated.", show_default=False),
    ] = None,
    data: options.Data = None,
    out: options.Out = None,
    folder: Annotated[str | None, typer.Option(help="Where to.", show_default="{out}/reports/{result}")] = None,
    split: options.Split = None,
    images: Annotated[
        int | None, typer.Option(callback=positive, help="Images to judge on.", show_default=False)
    ] = None,
    batch_size: options.BatchSize = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Measure each layer's own drop too; takes a while.")
    ] = False,
    energy: Annotated[
        str | None, typer.Option(metavar="TABLE.yaml", help="Energies of your technology.", show_default="45 nm")
    ] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Draw a result on one page: codes with their segments, the search, accuracy against bits, cost in hardware.

    The cost is counted, not estimated: bits and multiplies where layers read the codes, beside an INT8 machine and
    one that skips zeros.

    **Examples**

    - `sparseflow triseg report outputs/tri_ppo_int_codes/alexnet_exp1.json`
    - `sparseflow triseg report outputs/tri_ppo_int_codes/alexnet_finetuned_pass_seed0.json --split test`
    - `sparseflow triseg report outputs/tri_ppo_int_codes/mine.json --model mynet.py:build`
    """
    import json

    from sparseflow.recipes.settings import read_settings
    from sparseflow.recipes.triseg.report import ReportConfig
    from sparseflow.recipes.triseg.report import report as run

    config = read_settings(
        ReportConfig, None, config_path=config_path, model=model, searches=tuple(search) if search else None,
        tuned=tuple(tuned) if tuned else None,
        data=data, out=out, folder=folder, split=split, images=images, batch_size=batch_size,
        sensitivity=sensitivity, energy=energy, device=device,
    )  # fmt: skip
    body = run(config)
    if json_:
        typer.echo(json.dumps(body, indent=2, ensure_ascii=False))
        return
    typer.echo(body["headline"])
    for machine in body["cost"]["machines"]:
        typer.echo(f"  {machine['name']:22} {machine['energy_j'] * 1e6:8.3g} µJ an image, "
                   f"{machine['multiplies'] + machine['level_multiplies']:12,.0f} multiplies")  # fmt: skip
    typer.echo(f"report  {body['files'][0]}")


def _tmax(mode: str | None, fixed: int | None, percentile: float | None, offset: int | None) -> Any:
    from sparseflow.compress.approximate import TmaxRule
    from sparseflow.recipes.settings import read_settings

    return read_settings(TmaxRule, None, mode=mode, fixed=fixed, percentile=percentile, offset=offset)


def _config(*, batches: int | None = 20, **given: Any) -> "AnalyzeConfig":
    from sparseflow.recipes.settings import read_settings
    from sparseflow.recipes.triseg.analyze import AnalyzeConfig

    return replace(read_settings(AnalyzeConfig, None, **given), batches=batches)


def _analyze(kind: str, json_: bool, *, batches: int | None, **given: Any) -> None:
    import json

    from sparseflow.recipes.triseg.analyze import analyze as run

    config = _config(batches=batches, **given)
    found = run(kind, config)
    files = found.write(config.out)
    if json_:
        typer.echo(json.dumps(found.to_dict(), indent=2))
        return
    _show(found)
    typer.echo(f"{files[0]} and {files[1].name}")


def _show(found: "Analysis") -> None:
    from rich import box
    from rich.table import Table

    notes = ", ".join(f"{key.replace('_', ' ')} {_text(value)}" for key, value in found.notes.items())
    title = f"{found.kind} of {found.model}, {found.images} {found.split} images" + (f": {notes}" if notes else "")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for i, key in enumerate(found.rows[0]):
        table.add_column(key.replace("_", " "), justify="right" if i else "left")
    for row in found.rows:
        table.add_row(*(_text(value) for value in row.values()))
    wide_console().print(table)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
