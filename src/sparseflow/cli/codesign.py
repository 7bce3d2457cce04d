"""`sparseflow codesign`: measure layers, fit proxies of their cost, and design networks and wafers for each other."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sparseflow.cli._group import make_app, positive, show_checks
from sparseflow.cli._options import Config, File, Json, settings_file

__all__ = ["app"]

app = make_app(
    """
A network and the chiplets that run it, designed together.

1. **measure**: time real layers on this machine, with their memory and power; **fit**: learn proxies of them.
2. **run**: weights and shares of tokens learn, chips are chosen, segments mapped, dies placed, in turn; or only the
   last three, for any traced network: `sparseflow trace`, then `--workload`.
3. **bench**: hold proxies, mapping, chips, layout, the joint loop and a real pipeline against their targets.

**experiments** lists the study's experiments with their commands, and runs each in smoke size.
"""
)

SUITES = ("proxy", "mapping", "chiplets", "layout", "joint", "pipeline")


@app.command()
def measure(
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[
        str, typer.Option(help="JSON lines; layers that it holds are not measured again.")
    ] = "runs/codesign/layers.jsonl",
    count: Annotated[int, typer.Option(callback=positive, help="Layers.")] = 1600,
    shard: Annotated[str, typer.Option(help="Which part of them, as 0/2 on the first of two devices.")] = "0/1",
    seconds: Annotated[float | None, typer.Option(help="Start no further layer then.", show_default="no end")] = None,
    threads: Annotated[
        int | None, typer.Option(callback=positive, help="Threads on a CPU.", show_default="torch's own")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the layers' draw.")] = 0,
    json_: Json = False,
) -> None:
    """Time real layers on this machine: attention, MLP, patch embedding, convolution, scan, over shapes and shares.

    Each gives latency, peak memory, and power by the GPU's energy counter, a CPU's, or a stated model. Lines are
    written as they come; the same command goes on where it was stopped.

    **Examples**

    - `sparseflow codesign measure --device cpu --count 400 --seconds 300`
    - `sparseflow codesign measure --device cuda --shard 0/2 --out layers0.jsonl`
    """
    import json

    from sparseflow.recipes.codesign.measure import MeasureConfig
    from sparseflow.recipes.codesign.measure import measure as room

    config = MeasureConfig(
        device=device, out=out, count=count, shard=shard, seconds=seconds, threads=threads, seed=seed
    )  # fmt: skip
    body = room(config, say=lambda line: typer.echo(line, err=True))
    if json_:
        typer.echo(json.dumps(body, indent=2))
        return
    typer.echo(f"{body['measured']} layers measured, {len(body['failed'])} failed, {body['left']} left")
    typer.echo(body["out"])


@app.command()
def fit(
    file: File = None,
    config: Config = None,
    data: Annotated[
        list[str] | None, typer.Option(help="File of measure; repeated.", show_default="as in the settings")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Device that they ran on: a name or a file.", show_default="h200")
    ] = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(help="lat_ms, mem_mb or power_w; repeated. Others stay as the file has them.", show_default="all"),
    ] = None,
    steps: Annotated[int | None, typer.Option(callback=positive, help="Of training.", show_default="3000")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed.", show_default="0")] = None,
    out: Annotated[str | None, typer.Option(help="New file.", show_default="runs/codesign/proxy.safetensors")] = None,
    json_: Json = False,
) -> None:
    """Fit proxies of latency, memory and power to measured layers: a roofline times a learned utilisation.

    **Examples**

    - `sparseflow codesign fit configs/proxy_ms_mem.yaml`
    - `sparseflow codesign fit --data runs/codesign/layers.jsonl --target cpu --out my.safetensors`
    """
    import json

    from sparseflow.recipes.codesign.fit import FitConfig
    from sparseflow.recipes.codesign.fit import fit as room
    from sparseflow.recipes.settings import read_settings

    settings = read_settings(
        FitConfig, settings_file(file, config), data=tuple(data) if data else None, target=target,
        figures=tuple(figure) if figure else None, steps=steps, seed=seed, out=out,
    )  # fmt: skip
    body = room(settings, say=lambda line: typer.echo(line, err=True))
    typer.echo(json.dumps(body, indent=2) if json_ else body["out"])


@app.command()
def run(
    file: File = None,
    config: Config = None,
    workload: Annotated[
        str | None, typer.Option(help="JSON of a traced network, or ZigZag's YAML.", show_default=False)
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the videos.", show_default="as in the settings")] = None,
    init_from: Annotated[
        str | None, typer.Option(help="Weights to start from, as of video train.", show_default="fresh")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="version_c_full or multi_chip_fixed.", show_default="version_c_full")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="serial, of one sample; or balanced, a full pipeline.", show_default="balanced")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="greedy_local, search, viterbi, dp, cp_sat or round_robin.", show_default="search"),
    ] = None,
    slots: Annotated[int | None, typer.Option(callback=positive, help="Slots of the wafer.", show_default="16")] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Type of chip; repeated.", show_default="all of the library")
    ] = None,
    library: Annotated[str | None, typer.Option(help="Types of chips.", show_default="gpu_data.yaml")] = None,
    proxy: Annotated[
        str | None, typer.Option(help="h200, cpu, a fitted file, or roofline.", show_default="h200")
    ] = None,
    layout: Annotated[
        bool | None, typer.Option("--layout/--no-layout", help="Move dies.", show_default="layout")
    ] = None,
    batch: Annotated[int | None, typer.Option(callback=positive, help="Samples at once.", show_default="1")] = None,
    outer_epochs: Annotated[int | None, typer.Option(callback=positive, help="Turns.", show_default="10")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed.", show_default="0")] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the runs.", show_default="outputs/codesign")] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write report.html beside the result.")] = True,
    json_: Json = False,
) -> None:
    """Design a wafer for a network, and where it learns, the network for the wafer.

    Writes `codesign.json`, `logs/version_c_stats.jsonl`, `report.html`, and the trained network. Chips, mapping
    and placement are taken only where the hard objective falls; the same seed writes the same log.

    **Examples**

    - `sparseflow codesign run configs/smoke_version_c_ucf101.yaml` — minutes on two cores
    - `sparseflow codesign run --config configs/vc_phase3_full_ucf101.yaml`
    - `sparseflow codesign run --workload w.json --proxy roofline --type big_core --type small_core --slots 8`
    """
    import json
    from dataclasses import replace

    from sparseflow.recipes.codesign.config import CodesignConfig
    from sparseflow.recipes.codesign.run import codesign
    from sparseflow.recipes.settings import read_settings

    settings = read_settings(
        CodesignConfig, settings_file(file, config), workload=workload, mode=mode, objective=objective,
        strategy=strategy, slots=slots, types=tuple(types) if types else None, library=library, proxy=proxy,
        optimize_layout=layout,
        batch=batch, outer_epochs=outer_epochs, seed=seed, out=out,
    )  # fmt: skip
    given: dict[str, Any] = {"data": data, "init_from": init_from}
    if task := {k: v for k, v in given.items() if v is not None}:
        settings = replace(settings, video=replace(settings.video, **task))
    body = codesign(settings, say=lambda line: typer.echo(line, err=True))
    if page:
        from sparseflow.recipes.codesign.page import codesign_page

        codesign_page([body["file"]], settings.folder)
    if json_:
        typer.echo(json.dumps(body, indent=2))
        return
    _tell(body)
    if page:
        typer.echo(settings.folder / "report.html")


@app.command()
def experiments(
    out: Annotated[Path | None, typer.Option(help="Write the table there, as Markdown.", show_default=False)] = None,
    run: Annotated[
        list[str] | None, typer.Option(help="Run this id in smoke size; repeated, or all.", show_default=False)
    ] = None,
    configs: Annotated[Path, typer.Option(help="Folder of the settings.")] = Path("configs"),
    runs: Annotated[Path, typer.Option(help="Folder of smoke runs.")] = Path("outputs/smoke"),
    json_: Json = False,
) -> None:
    """List the experiments of the study with their commands, or run some in smoke size.

    **Examples**

    - `sparseflow codesign experiments --out EXPERIMENTS_VERSION_C.md`
    - `sparseflow codesign experiments --run P3-1 --run AB-7`
    - `sparseflow codesign experiments --run all` — some minutes on two cores
    """
    import json

    from sparseflow.ir.files import write_atomic
    from sparseflow.recipes.codesign.experiments import EXPERIMENTS, experiments_table, smoke

    if run:
        names = [e.id for e in EXPERIMENTS] if run == ["all"] else run
        done = [smoke(n, out=runs, configs=configs, say=lambda line: typer.echo(line, err=True)) for n in names]
        typer.echo(json.dumps(done, indent=2, default=str) if json_ else f"{len(done)} experiments ran in smoke size")
        return
    if out is not None:
        write_atomic(out, experiments_table())
        typer.echo(out)
    elif json_:
        rows = [{"id": e.id, "purpose": e.purpose, "config": e.config, "command": e.command} for e in EXPERIMENTS]
        typer.echo(json.dumps(rows, indent=2))
    else:
        typer.echo(experiments_table())


@app.command()
def bench(
    suite: Annotated[list[str] | None, typer.Option(help=f"{', '.join(SUITES)}; repeated.", show_default="all")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few instances: a look, no proof.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON there.", show_default=False)] = None,
    json_: Json = False,
) -> None:
    """Hold every part against its target; exit status 0 only if all checks hold.

    - **proxy**: errors of the shipped proxies on layers of unseen sizes, beside the roofline and LightGBM.
    - **mapping**: random instances against CP-SAT, brute force, fine splits, rewired networks.
    - **chiplets**: gradients against finite differences, choices against all configurations.
    - **layout**: legal dies, communication, simulated annealing, temperatures against finite differences.
    - **joint**: the loop of all phases against two stages and four fixed chips, over three seeds.
    - **pipeline**: a real pipeline over two processes or GPUs, its period predicted and measured.

    **Examples**

    - `sparseflow codesign bench --json`
    - `sparseflow codesign bench --suite mapping --suite layout`
    """
    import json

    from sparseflow.ir.files import write_atomic
    from sparseflow.recipes.codesign.bench import bench as measure_all

    body = measure_all(tuple(suite or SUITES), quick=quick, say=lambda line: typer.echo(line, err=True))
    if out is not None:
        write_atomic(out, json.dumps(body, indent=1) + "\n")
    if json_:
        typer.echo(json.dumps(body, indent=2))
    else:
        show_checks(body["checks"])
    if not body["ok"]:
        raise typer.Exit(1)


@app.command()
def export(
    workload: Annotated[Path, typer.Argument(help="JSON of a traced network.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="New YAML file.", show_default=False)],
) -> None:
    """Write a traced network as Timeloop problems: its convolutions and matrix products as loop nests.

    **Examples**

    - `sparseflow codesign export w.json problems.yaml`
    """
    from sparseflow.export.timeloop import timeloop_problems
    from sparseflow.ir.files import write_atomic
    from sparseflow.recipes.codesign.workloads import read_workload

    text, left = timeloop_problems(read_workload(workload))
    write_atomic(out, text)
    typer.echo(f"{text.count('problem:')} loop nests; {len(left)} other operators are left out")
    typer.echo(out)


@app.command()
def report(
    results: Annotated[
        list[str], typer.Argument(metavar="CODESIGN.json...", help="Results of run.", show_default=False)
    ],
    out: Annotated[str, typer.Option(help="Folder for report.html and report.json.")] = "runs/codesign",
    json_: Json = False,
) -> None:
    """Write a page: wafer with dies and heat, pipeline per slot, convergence, Pareto front, sensitivity to each weight.

    **Examples**

    - `sparseflow codesign report outputs/codesign/version_c_full_seed0/codesign.json`
    """
    import json

    from sparseflow.recipes.codesign.page import codesign_page

    body = codesign_page(results, out)
    typer.echo(json.dumps(body, ensure_ascii=False) if json_ else body["files"][0])


def _tell(body: dict[str, Any]) -> None:
    f, test = body["figures"], body["test"]
    dies = ", ".join(f"{n} {name}" for name, n in _counted(body).items())
    typer.echo(f"{dies}: {f['latency_ms']:.4g} ms, {f['energy_mj']:.4g} mJ, {f['area_mm2']:.0f} mm²")
    typer.echo(f"energy-delay product {body['edp_ratio']:.3f} of the dense network on the fixed chips")
    if test is not None:
        typer.echo(f"{100 * test['top1']:.2f} % of {test['videos']} videos; {body['keeps']['token']:.0%} of the tokens")
    typer.echo(body["file"])


def _counted(body: dict[str, Any]) -> dict[str, int]:
    names = [die["type"] for die in body["design"]["dies"]]
    return {name: names.count(name) for name in sorted(set(names))}
