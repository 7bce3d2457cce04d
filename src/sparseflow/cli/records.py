"""`sparseflow records`: look at what was ever measured."""

from pathlib import Path
from typing import Annotated

import typer

from sparseflow.cli._group import make_app, positive, wide_console

__all__ = ["app"]

app = make_app("Look at what was measured: records are only ever added, failures too.")

_Store = Annotated[
    str | None, typer.Option(metavar="URL", help="SQLite path or database URL.", show_default="$SPARSEFLOW_RECORDS")
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("list")
def list_(
    store: _Store = None,
    limit: Annotated[int, typer.Option(callback=positive, help="Newest records to show.")] = 20,
    layer: Annotated[str | None, typer.Option(help="Only this layer key.", show_default=False)] = None,
    target: Annotated[str | None, typer.Option(help="Only this target.", show_default=False)] = None,
    failed: Annotated[bool | None, typer.Option("--failed/--ok", help="Only failures, or only values.")] = None,
    json_: _Json = False,
) -> None:
    """List records, newest first.

    **Examples**

    - `sparseflow records list`
    - `sparseflow records list --target cpu --failed --limit 100`
    """
    from sparseflow.records import Store, list_json, list_table

    only = {name: value for name, value in (("layer", layer), ("device", target)) if value is not None}
    with Store(store) as opened:
        found = opened.records(limit=limit, failed=failed, **only)
        if json_:
            typer.echo(list_json(found))
            return
        if not found:
            typer.echo(f"no records in {opened.place}; measure something first, as with: sparseflow demo")
            return
        wide_console().print(list_table(found, title=opened.place))


@app.command()
def show(
    id: Annotated[int, typer.Argument(help="Number of the record.", show_default=False)],
    store: _Store = None,
    json_: _Json = False,
) -> None:
    """Show one record in full.

    **Example:** `sparseflow records show 17 --json`
    """
    from sparseflow.records import Store, show_json, show_table

    with Store(store) as opened:
        record = opened.get(id)
    if json_:
        typer.echo(show_json(record))
    else:
        wide_console().print(show_table(record))


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="File to write, .json or .csv.", show_default=False)],
    store: _Store = None,
    format: Annotated[str | None, typer.Option(help="json or csv.", show_default="by the ending")] = None,
) -> None:
    """Write every record to a file, whole or not at all.

    **Example:** `sparseflow records export runs/records.csv`
    """
    from sparseflow.records import Store
    from sparseflow.records import export as write

    with Store(store) as opened:
        count = write(opened, path, format=format)
        typer.echo(f"{count} records of {opened.place} written to {path}")
