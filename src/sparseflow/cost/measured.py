"""Measured cost: the records first, then a measurement that becomes a record."""

import importlib.util
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path

from sparseflow import ops
from sparseflow.cost.measure import Timing
from sparseflow.cost.model import predict
from sparseflow.errors import MeasurementError, SparseFlowError, UnsupportedError
from sparseflow.ir import Cost, Decision, Layer, Plan, Target, Workload
from sparseflow.records import Key, Record, Store, source_hash

__all__ = ["Measured", "op_source"]

# Interquartile range of a normal distribution, in standard deviations.
_IQR_PER_STDEV = 1.349

TimeLayer = Callable[[Layer, Decision, Target], Timing]


def op_source(layer: Layer, decision: Decision) -> str:
    """Hash the code that runs a layer: its operator's files, the native kernels, and torch's version."""
    op = ops.find(layer)
    return _source("" if op is None or decision.kernel in (None, "dense") else op.name)


class Measured:
    """Looks a layer up in the records; times it where they are silent and a timer is given.

    Args:
        store: where measurements are looked for and appended.
        protocol: how is measured, as "rounds=20 warmup=3 threads=2"; part of
            the key, so that other protocols are not mixed in.
        time_layer: times one call of a layer; None never measures.
        source: gives the hash of the code that runs a layer.
        run: name of the run, for the records.
    """

    def __init__(
        self,
        store: Store,
        *,
        protocol: str,
        time_layer: TimeLayer | None = None,
        source: Callable[[Layer, Decision], str] = op_source,
        run: str = "",
    ) -> None:
        self.store = store
        self.protocol = protocol
        self.time_layer = time_layer
        self.source = source
        self.run = run

    def key(self, layer: Layer, decision: Decision, target: Target) -> Key:
        """Return the key under which a layer's measurements are kept."""
        return Key(
            layer=layer.key,
            decision=decision.key,
            target=target.key,
            protocol=self.protocol,
            source=self.source(layer, decision),
        )

    def predict_layer(self, layer: Layer, decision: Decision, target: Target) -> Cost:
        """Return the median of the records of a layer, or of a new measurement.

        Raises:
            UnsupportedError: no record and no timer.
            MeasurementError: the layer does not run like this, now or when it
                was recorded; gives the reason.
        """
        key = self.key(layer, decision, target)
        found = self.store.find(key)
        if found:
            if found[-1].failure is not None:
                raise MeasurementError(f"layer {layer.name!r} failed when it was recorded: {found[-1].failure}")
            return _cost([record for record in found if record.failure is None], "records")
        if self.time_layer is None:
            raise UnsupportedError(f"layer {layer.name!r} has no record on {target.key} and nothing is to be timed")
        return _cost([self._measure(key, self.time_layer, layer, decision, target)], "measured")

    def predict(self, workload: Workload, plans: Sequence[Plan], target: Target) -> list[Cost]:
        """Return the sum over the layers of one forward for every plan."""
        return predict(self, workload, plans, target)

    def _measure(self, key: Key, time_layer: TimeLayer, layer: Layer, decision: Decision, target: Target) -> Record:
        shown = {name: value for name, value in asdict(decision).items() if value not in (None, ())}
        try:
            timing = time_layer(layer, decision, target)
        except Exception as e:
            reason = str(e) if isinstance(e, SparseFlowError) else f"{type(e).__name__}: {e}"
            self.store.append(Record(key=key, failure=reason, name=layer.name, decision=shown, run=self.run))
            raise MeasurementError(f"layer {layer.name!r} cannot be timed: {reason}") from e
        stats = {"iqr_s": timing.iqr_s, "min_s": timing.min_s, "rounds": float(timing.repeats)}
        record = Record(key=key, value=timing.median_s, name=layer.name, decision=shown, stats=stats, run=self.run)
        return self.store.append(record)


def _cost(records: Sequence[Record], source: str) -> Cost:
    values = [record.value for record in records if record.value is not None]
    spread = statistics.median(record.stats.get("iqr_s", 0.0) for record in records) / _IQR_PER_STDEV
    return Cost(latency_s=statistics.median(values), stdev=spread or None, source=source)


@cache
def _source(op: str) -> str:
    spec = importlib.util.find_spec(f"sparseflow.ops.{op}") if op else None
    native = importlib.util.find_spec("sparseflow.ops._native") if op else None
    files = [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob("*.py"))
    if native is not None and native.origin is not None:
        files.append(Path(native.origin))
    return source_hash(op, version("torch"), *files)
