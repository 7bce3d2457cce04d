"""The commands of `sparseflow triseg` that judge a result or hand it on."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from sparseflow.cli import _triseg_options as options
from sparseflow.cli._group import positive, show_checks

__all__ = ["accuracy", "bench", "evaluate", "export", "told_line", "zoo"]


def evaluate(
    model: options.Model = None,
    data: options.Data = None,
    out: options.Out = None,
    config_path: Annotated[
        str | None,
        typer.Option(metavar="RESULT.json", help="A result.", show_default="result.json in {out}/tri_ppo_int_codes"),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="The INT8 network without any change.")] = False,
    floating: Annotated[bool, typer.Option("--float", help="The network in float32.")] = False,
    split: Annotated[
        str | None, typer.Option(help="test, val, calib, or train with --int8 or --float.", show_default="test")
    ] = None,
    attention: Annotated[bool, typer.Option("--reward", help="Measure the reward too.")] = False,
    report: Annotated[
        str | None, typer.Option(metavar="FILE", help="The report.", show_default="eval_report.json beside the result")
    ] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Measure a result on images that nothing was chosen by: opens the test images.

    Writes `eval_report.json` with the earlier project's keys. A fine-tuned result is measured with its own weights,
    which are looked for in --out, and held against the INT8 network that they started from.

    **Examples**

    - `sparseflow triseg eval --model alexnet --config-path outputs/tri_ppo_int_codes/alexnet_exp1.json`
    - `sparseflow triseg eval --model alexnet --int8 --data ~/cifar10`
    - `sparseflow triseg eval --model alexnet --config-path outputs/tri_ppo_int_codes/alexnet_finetuned_pass_seed0.json`
    """
    from sparseflow.recipes.settings import read_settings

    shared = {"model": model, "data": data, "out": out, "device": device}
    if int8 or floating:
        if config_path is not None or (int8 and floating):
            raise typer.BadParameter("give one of --config-path, --int8 and --float")
        from sparseflow.recipes.triseg.analyze import AnalyzeConfig
        from sparseflow.recipes.triseg.dump import baseline

        look = replace(read_settings(AnalyzeConfig, None, **shared, split=split or "test"), batches=None)
        told = baseline(look, floating=floating)
        told_line(
            told, json_,
            f"{told['model']} ({told['network']}): {told['accuracy']:.2f} % on {told['images']} {told['split']} images",
        )  # fmt: skip
        return
    from sparseflow.recipes.triseg.evaluate import EvalConfig
    from sparseflow.recipes.triseg.evaluate import evaluate as run

    settings = read_settings(
        EvalConfig, None, **shared, config_path=config_path, split=split, attention=attention, report=report
    )
    told = run(settings)
    told_line(
        told, json_,
        f"{told['model']}: INT8 {told['acc_baseline']:.2f} %, three values {told['acc_modified']:.2f} %, drop "
        f"{told['acc_drop']:.2f}, on {told['images']} {told['split']} images; same answer {told['agreement']:.2f} %",
        "report",
    )  # fmt: skip


def bench(
    config: options.Config = None,
    model: Annotated[str | None, typer.Option(help="Network, as for search.", show_default="alexnet")] = None,
    data: options.Data = None,
    checkpoints: Annotated[str | None, typer.Option(help="Folder of the checkpoints.", show_default="outputs")] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(help="exact, rate, search, engine or faults; may be repeated.", show_default="all"),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Searcher to compare; may be repeated.", show_default="all but gp")
    ] = None,
    seeds: Annotated[int | None, typer.Option(callback=positive, help="Seeds of each.", show_default="5")] = None,
    episodes: Annotated[
        int | None, typer.Option(callback=positive, help="Evaluations of each.", show_default="600")
    ] = None,
    original_episodes: Annotated[
        int | None,
        typer.Option(help="Evaluations of the earlier PPO beside them; 0 leaves it out.", show_default="10000"),
    ] = None,
    batch_size: options.BatchSize = None,
    rate_model: Annotated[
        list[str] | None, typer.Option(help="One more network to take rates of; may be repeated.", show_default=False)
    ] = None,
    threads: Annotated[int | None, typer.Option(callback=positive, help="Threads.", show_default="torch's own")] = None,
    jobs: Annotated[
        int | None, typer.Option(callback=positive, help="Searches that run at a time.", show_default="1")
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write the JSON there.", show_default=False)
    ] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Compare the searchers at one budget, time scores, and check that everything is exact and every error is clear.

    Exit status 0 only if every check holds.

    **Examples**

    - `sparseflow triseg bench --model alexnet --data ~/cifar10 --out bench.json`
    - `sparseflow triseg bench --model alexnet --suite rate --threads 2`
    - `sparseflow triseg report r.json --search bench.json` — draws the curves of all searchers
    """
    import json

    from sparseflow.recipes.settings import read_settings
    from sparseflow.recipes.triseg.bench import TriSegBenchConfig
    from sparseflow.recipes.triseg.bench import bench as run

    settings = read_settings(
        TriSegBenchConfig, config, model=model, data=data, out=checkpoints, suites=tuple(suite) if suite else None,
        methods=tuple(method) if method else None, seeds=seeds, episodes=episodes,
        original_episodes=original_episodes, batch_size=batch_size, threads=threads, jobs=jobs, report=out,
        rate_models=tuple(rate_model) if rate_model else None, device=device,
    )  # fmt: skip
    body = run(settings, progress=not json_)
    if json_:
        typer.echo(json.dumps(body, indent=2, ensure_ascii=False))
    else:
        show_checks(body["checks"])
    if not body["ok"]:
        raise typer.Exit(1)


def accuracy(
    results: Annotated[
        list[str] | None, typer.Argument(metavar="RESULT.json...", help="Results of searches.", show_default=False)
    ] = None,
    tuned: Annotated[
        list[str] | None, typer.Option(help="Result of finetune; may be repeated.", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="Network, as for search.", show_default="alexnet")] = None,
    checkpoints: Annotated[str | None, typer.Option(help="Folder of the checkpoints.", show_default="outputs")] = None,
    data: options.Data = None,
    split: Annotated[str | None, typer.Option(help="test, or val for a trial.", show_default="test")] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write the JSON there.", show_default=False)
    ] = None,
    device: options.Device = None,
    json_: options.Json = False,
) -> None:
    """Measure the results of several seeds on test images, which are opened once, and check what is claimed of them.

    Mean drops with confidence intervals, bits an activation, multiplies saved. Exit status 0 only if every check
    holds.

    **Example:** `sparseflow triseg accuracy outputs/tri_ppo_int_codes/alexnet_seed*.json
    --tuned outputs/tri_ppo_int_codes/alexnet_finetuned_pass_seed0.json --model alexnet --data ~/cifar10`
    """
    import json

    from sparseflow.recipes.settings import read_settings
    from sparseflow.recipes.triseg.accuracy import AccuracyConfig, accuracy_bench

    settings = read_settings(
        AccuracyConfig, None, results=tuple(results) if results else None, tuned=tuple(tuned) if tuned else None,
        model=model, checkpoints=checkpoints, data=data, split=split, report=out, device=device,
    )  # fmt: skip
    body = accuracy_bench(settings)
    if json_:
        typer.echo(json.dumps(body, indent=2, ensure_ascii=False))
    else:
        for row in body["rows"]:
            typer.echo(
                f"{row['result']:40} {row['kind']:10} {row['accuracy']:6.2f} %, drop {row['drop']:5.2f}, "
                f"{row['bits']:.2f} bits, {100 * row['avoided']:.1f} % of multiplies saved"
            )
        show_checks(body["checks"])
    if not body["ok"]:
        raise typer.Exit(1)


def zoo(
    networks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NETWORK...]",
            help="Names, or your own as file.py:function; `all` is the whole zoo.",
            show_default="all",
        ),
    ] = None,
    data: options.Data = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(help="Folder of the checkpoints; what lies there is not trained.", show_default="outputs"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(callback=positive, help="Passes of each training.", show_default="2")
    ] = None,
    minutes: options.Minutes = None,
    lr: Annotated[float | None, typer.Option(help="Peak rate in float32.", show_default="0.02")] = None,
    episodes: Annotated[
        int | None, typer.Option(callback=positive, help="Configurations to score.", show_default="60")
    ] = None,
    max_acc_drop: Annotated[
        float | None, typer.Option(help="Points of accuracy that may be lost.", show_default="2.0")
    ] = None,
    split: Annotated[str | None, typer.Option(help="val or test.", show_default="val")] = None,
    judged: Annotated[
        int | None, typer.Option(callback=positive, help="Images of val to choose by.", show_default="all")
    ] = None,
    resume: Annotated[
        bool | None, typer.Option("--resume/--no-resume", help="Go on from an earlier start.", show_default="on")
    ] = None,
    jobs: Annotated[int | None, typer.Option(callback=positive, help="Networks at a time.", show_default="1")] = None,
    graph: Annotated[bool | None, typer.Option("--graph", help="Replay training steps on CUDA.")] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write the JSON there.", show_default=False)
    ] = None,
    device: options.Device = None,
    seed: options.Seed = None,
    json_: options.Json = False,
) -> None:
    """Take many networks from nothing to an exported result, by the same calls: train, search, measure, export.

    Residual and depthwise ones are among the zoo, and your own go the same way. Exit status 0 only if every activation
    found was approximated in each, within --max-acc-drop, and every export computes what Python computes.

    **Examples**

    - `sparseflow triseg zoo all mynet.py:build --data ~/cifar10 --minutes 5`
    - `sparseflow triseg zoo lenet5 resnet18 --epochs 1 --json`

    Stopped by Ctrl-C, the same command goes on: networks that were through come from their files, and searches and
    trainings by epochs from their state. On two cores `--judged 1000` keeps deep networks quick.
    """
    import json

    from sparseflow.nn import models
    from sparseflow.recipes.settings import read_settings
    from sparseflow.recipes.triseg.zoo import ZooConfig
    from sparseflow.recipes.triseg.zoo import zoo as run

    whole = models.names("convnets")
    chosen = [name for given in networks or ["all"] for name in (whole if given == "all" else [given])]
    settings = read_settings(
        ZooConfig, None, networks=tuple(dict.fromkeys(chosen)), data=data, out=checkpoints, epochs=epochs,
        minutes=minutes, lr=lr, episodes=episodes, max_acc_drop=max_acc_drop, split=split,
        judged=judged, resume=resume, jobs=jobs, graph=graph, report=out, device=device, seed=seed,
    )  # fmt: skip
    body = run(settings, progress=not json_)
    if json_:
        typer.echo(json.dumps(body, indent=2, ensure_ascii=False))
    else:
        for row in body["rows"]:
            typer.echo(
                f"{row['name']:14} {row['error']}"
                if "error" in row
                else f"{row['name']:14} {len(row['sites']):2} layers, INT8 {row['acc_teacher']:.2f} %, drop "
                f"{row['drop']:5.2f}, {row['bits']:.2f} bits, {100 * row['avoided']:.1f} % of multiplies saved"
            )
        show_checks(body["checks"])
    if not body["ok"]:
        raise typer.Exit(1)


def export(
    model: options.Model = None,
    data: options.Data = None,
    out: options.Out = None,
    config_path: Annotated[
        str | None,
        typer.Option(metavar="RESULT.json", help="A result.", show_default="result.json in {out}/tri_ppo_int_codes"),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="The INT8 network without any change.")] = False,
    folder: Annotated[str | None, typer.Option(help="Where to.", show_default="{out}/export/{model}")] = None,
    name: Annotated[
        str | None, typer.Option(help="Prefix of the C files and symbols.", show_default="the network")
    ] = None,
    format: Annotated[
        list[str] | None, typer.Option(help="plan, c, onnx or pt2e; may be repeated.", show_default="plan and c")
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Images that all must answer alike; 0 for none.", show_default="1000")
    ] = None,
    json_: options.Json = False,
) -> None:
    """Write a network with its codes as files: a plan for the C++ engine, C99 sources, ONNX, PT2E.

    All are run on real images, and every output must equal Python's to the bit; a PT2E file, which back ends of torchao
    lower to their integer layers, is compared by classes.

    **Examples**

    - `sparseflow triseg export --model alexnet --config-path outputs/tri_ppo_int_codes/alexnet_exp1.json`
    - `sparseflow triseg export --model alexnet --plain --format c --folder firmware`
    - `sparseflow triseg export --model alexnet --format onnx` — for ONNX Runtime, with `pip install sparseflow[onnx]`
    - `sparseflow triseg export --model alexnet --format pt2e` — for torchao, with `pip install sparseflow[pt2e]`
    """
    from sparseflow.recipes.settings import read_settings
    from sparseflow.recipes.triseg.export import ExportConfig
    from sparseflow.recipes.triseg.export import export as run

    settings = read_settings(
        ExportConfig, None, model=model or "vgg16", data=data, out=out, config_path=config_path, plain=plain,
        folder=folder, name=name, formats=tuple(format) if format else None, images=images,
    )  # fmt: skip
    told = run(settings)
    checks = told.get("checks", {})
    said = [
        f"{kind}: {found}"
        if not isinstance(found, dict)
        else f"{kind} equals Python on {found['images'] - found['unequal']} of {found['images']} images"
        if "unequal" in found
        else f"{kind} names Python's class on {found['images'] - found['other_class']} of {found['images']} images"
        for kind, found in checks.items()
    ]
    told_line(told, json_, "\n".join([*told["files"], *said]))


def told_line(record: dict[str, Any], json_: bool, line: str, *files: str) -> None:
    """Print a record as JSON, or what it says in a line and the files that it names."""
    import json

    if json_:
        typer.echo(json.dumps(record, indent=2, ensure_ascii=False))
        return
    typer.echo(line)
    for key in ("file", *files):
        if key in record:
            typer.echo(f"{key:7} {record[key]}")
