"""The commands of `sparseflow forecast` that make packs for FPGAs and check them."""

import json
from typing import Annotated, Any

import typer

from sparseflow.cli._group import positive, show_checks
from sparseflow.cli._options import Check, Json

__all__ = ["export", "verify"]


def export(
    checkpoint: Annotated[str, typer.Option(help="File that `sparseflow forecast quantize` wrote.")],
    target: Annotated[str, typer.Option(help="Device; one name so far.")] = "zcu102",
    data: Annotated[
        str | None, typer.Option(help="File of the data set, or its folder.", show_default="as in the training")
    ] = None,
    windows: Annotated[int, typer.Option(callback=positive, help="Windows that become golden vectors.")] = 2,
    out: Annotated[str, typer.Option(help="Folder of the pack.")] = "outputs/forecast_pack",
    json_: Json = False,
) -> None:
    """Write a forecaster in integers as a pack for an FPGA.

    `manifest.json`, `weights.bin`, `golden.bin`, `cmamba_fpga.npz`, `cmamba_params.h`, HLS C++, Verilog, benches and
    `specs.md`. The same forecaster gives the same bytes.

    **Examples**

    - `sparseflow forecast export --checkpoint outputs/forecast_integers/forecaster.safetensors --out pack`
    """
    from sparseflow.errors import ConfigError
    from sparseflow.recipes.forecast.export import ExportConfig, export_forecaster

    if target != "zcu102":
        raise ConfigError(f"unknown target {target!r}; there is zcu102")
    body = export_forecaster(ExportConfig(checkpoint=checkpoint, data=data, windows=windows, out=out))
    if json_:
        typer.echo(json.dumps(body, indent=2))
    else:
        typer.echo(f"QSpec {body['digest']}, weights.bin {body['bytes']} bytes, {len(body['files'])} files in {out}")


def verify(
    pack: Annotated[str, typer.Argument(help="Folder of the pack.")],
    target: Annotated[str, typer.Option(help="Device of the estimate.")] = "zcu102",
    vectors: Annotated[
        int, typer.Option(help="Random and edge vectors of linear layers, and as many steps of scans.")
    ] = 10_000,
    pauses: Annotated[int, typer.Option(help="Percent of cycles in which the ports pause.")] = 30,
    cells: Annotated[bool, typer.Option("--cells", help="Count cells with yosys; takes a minute.")] = False,
    corruptions: Annotated[bool, typer.Option("--corruptions", help="Spoil copies; each has to be refused.")] = False,
    faults: Annotated[
        bool, typer.Option("--faults", help="Put faults into the Verilog; each has to be found.")
    ] = False,
    reader: Annotated[
        str | None,
        typer.Option(
            help="Program that reads the pack with NumPy alone, as examples/read_pack.py.", show_default=False
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(help="File for the JSON.", show_default=False)] = None,
    check: Check = False,
    json_: Json = False,
) -> None:
    """Check a pack: hashes, IntRef, C++ engine, HLS C++ and Verilog, bit for bit.

    Verilog runs under Verilator with random pauses at its ports. What is not installed stands in the table with the
    command that brings it.

    **Examples**

    - `sparseflow forecast verify outputs/forecast_pack`
    - `sparseflow forecast verify outputs/forecast_pack --cells --corruptions --faults --json`
    """
    from sparseflow.recipes.forecast.verify import VerifyConfig
    from sparseflow.recipes.forecast.verify import verify as run

    config = VerifyConfig(
        pack=pack, target=target, vectors=vectors, pauses=pauses, cells=cells, corruptions=corruptions, faults=faults,
        reader=reader, out=out,
    )  # fmt: skip
    body = run(config, say=(lambda _: None) if json_ else (lambda text: typer.echo(f"… {text}", err=True)))
    if json_:
        typer.echo(json.dumps(body, indent=2))
    else:
        _tell(body)
    if check and not body["ok"]:
        raise typer.Exit(1)


def _tell(body: dict[str, Any]) -> None:
    width = max(len(row["name"]) for row in body["rows"])
    for row in body["rows"]:
        if row["mismatches"] is None:
            typer.echo(f"{row['name']:{width}}  {row['note']}")
            continue
        cycles = f", {row['cycles']:,} cycles" if row["cycles"] else ""
        typer.echo(f"{row['name']:{width}}  {row['mismatches']} mismatches of {row['of']:,}{cycles}")
    estimate = body["estimate"]
    if estimate:
        energy = "" if estimate["energy_j"] is None else f", {1e3 * estimate['energy_j']:.3f} mJ"
        latency = f"{1e3 * estimate['latency_s']:.3f} ms a window{energy}"
        typer.echo(f"estimate for {estimate['target']}: {latency}; {estimate['note']}")
    if body["cells"]:
        _tell_cells(body["cells"])
    show_checks(body["checks"])


def _tell_cells(found: dict[str, Any]) -> None:
    if "total" not in found:
        typer.echo(f"cells: {found['note']}")
        return
    modules = [name for name in found if name.startswith("sf_")]
    for name in modules:
        typer.echo(f"cells, {name}: " + ", ".join(f"{kind} {count:,}" for kind, count in found[name].items()))
    shares = (f"{kind} {found['total'][kind]:,} of {has:,.0f} ({found['total'][kind] / has:.1%})"
              for kind, has in found["has"].items())  # fmt: skip
    typer.echo(f"cells, {found['target']}: " + ", ".join(shares))
    typer.echo(f"cells by {found['tool']}")
