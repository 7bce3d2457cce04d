"""Append-only measurements: the only place where results live."""

from sparseflow.records.record import Key, Record, source_hash
from sparseflow.records.store import Store

__all__ = ["Key", "Record", "Store", "source_hash"]
