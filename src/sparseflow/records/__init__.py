"""Append-only measurements: the only place where results live."""

from sparseflow.records._view import export, list_json, list_table, show_json, show_table
from sparseflow.records.record import Key, Record, source_hash
from sparseflow.records.store import Store

__all__ = [
    "Key",
    "Record",
    "Store",
    "export",
    "list_json",
    "list_table",
    "show_json",
    "show_table",
    "source_hash",
]
