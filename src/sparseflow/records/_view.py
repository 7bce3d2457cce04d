"""Records for people and for other programs: tables, JSON and CSV."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from sparseflow.errors import ConfigError, RecordError
from sparseflow.records.record import Record
from sparseflow.records.store import Store

__all__ = ["export", "list_json", "list_table", "show_json", "show_table"]

_COLUMNS = (
    "id", "created_at", "name", "value", "unit", "failure", "layer", "decision_key", "target", "protocol", "source",
    "run", "decision", "stats",
)  # fmt: skip


def list_table(records: Iterable[Record], *, title: str = "") -> Table:
    """Return one line a record: what, on which target, how much or why not.

    Args:
        records: as from `Store.records`, in the order to be shown.
        title: text above the table, as `Store.place`.
    """
    table = Table(title=title or None, title_justify="left")
    for column, style in (("id", "dim"), ("when (UTC)", "dim"), ("what", "bold"), ("decision", ""), ("target", "")):
        table.add_column(column, style=style, justify="right" if column == "id" else "left", overflow="fold")
    table.add_column("value", justify="right")
    for record in records:
        when = "" if record.created_at is None else record.created_at.strftime("%Y-%m-%d %H:%M:%S")
        what, decision = record.name or record.key.layer, _short(record.decision) or record.key.decision
        table.add_row(*map(Text, (str(record.id), when, what, decision, record.key.target, _value(record))))
    return table


def show_table(record: Record) -> Table:
    """Return one record in full, one line a field."""
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    when = "" if record.created_at is None else record.created_at.isoformat(sep=" ", timespec="seconds")
    lines: dict[str, str] = {"id": str(record.id), "when": when, "what": record.name, "value": _value(record)}
    lines |= {name: f"{figure:.6g}" for name, figure in record.stats.items()}
    lines |= {f"key: {name}": part for name, part in asdict(record.key).items()}
    lines |= {"decision": json.dumps(dict(record.decision), sort_keys=True), "run": record.run}
    for name, text in lines.items():
        table.add_row(name, Text(text))
    return table


def list_json(records: Iterable[Record]) -> str:
    """Return records as a JSON list of what `Record.to_dict` gives."""
    return json.dumps([record.to_dict() for record in records], indent=2, allow_nan=False)


def show_json(record: Record) -> str:
    """Return one record as JSON."""
    return json.dumps(record.to_dict(), indent=2, allow_nan=False)


def export(store: Store, path: Path, *, format: str | None = None) -> int:
    """Write every record of a store to a file, oldest first, whole or not at all.

    Args:
        store: where the records are.
        path: file to write; an older one is replaced.
        format: "json" or "csv"; None takes the ending of `path`.

    Returns:
        Number of records written.

    Raises:
        ConfigError: neither JSON nor CSV.
        RecordError: the file cannot be written.
    """
    kind = format or path.suffix.removeprefix(".").lower()
    if kind not in ("json", "csv"):
        raise ConfigError(f"cannot export records as {kind!r}; end the path in .json or .csv, or name the format")
    records = list(store)
    text = list_json(records) + "\n" if kind == "json" else _csv(records)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            os.chmod(draft, 0o644)
            os.replace(draft, path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as e:
        raise RecordError(f"cannot write {path}: {e}; name a file in a folder that you may write") from e
    return len(records)


def _csv(records: Iterable[Record]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records:
        body: dict[str, Any] = record.to_dict()
        key = body.pop("key")
        key["decision_key"] = key.pop("decision")
        for name in ("decision", "stats"):
            body[name] = json.dumps(body[name], sort_keys=True)
        writer.writerow({**body, **key})
    return text.getvalue()


def _short(decision: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in decision.items() if value not in (None, [], ()))


def _value(record: Record) -> str:
    if record.value is None:
        return f"failed: {record.failure}"
    if record.unit != "s":
        return f"{record.value:.4g} {record.unit}"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if abs(record.value) * factor >= 1:
            return f"{record.value * factor:.4g} {unit}"
    return f"{record.value * 1e9:.4g} ns"
