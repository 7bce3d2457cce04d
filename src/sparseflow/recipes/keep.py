"""Keep what a run measured in the record store, whole networks and single layers, failures too."""

from importlib.metadata import version

from sparseflow.errors import ConfigError, RecordError
from sparseflow.ir import Target
from sparseflow.records import Key, Record, Store
from sparseflow.report import Run

__all__ = ["keep", "to_records"]


def keep(run: Run, target: Target, *, name: str, store: Store | None = None) -> str:
    """Append what a run measured, and return where it is or why it is not.

    A store that refuses does not spoil a run that is done.

    Args:
        run: what was measured.
        target: where.
        name: what ran, as "demo"; part of the protocol.
        store: where to; None is the user's own store.
    """
    try:
        opened = Store() if store is None else store
        found = opened.extend(to_records(run, target, name=name))
        return f"{len(found)} measurements in {opened.place}"
    except (ConfigError, RecordError) as e:
        return f"measurements not recorded: {e}"


def to_records(run: Run, target: Target, *, name: str) -> list[Record]:
    """Return a record for every kernel of every layer, then for every form of the whole network.

    What was recalled from an earlier run is left out: it was not measured.

    >>> from sparseflow.hardware import load_target
    >>> from sparseflow.ir import LayerReport, Report
    >>> report = Report(model="m", target="cpu", layers=(LayerReport(name="a", op="conv2d", timings_s={"event": 0.5}),))
    >>> found = to_records(Run(title="m", report=report), load_target("cpu", describe=False), name="demo")
    >>> [(r.name, r.key.decision, r.value) for r in found]
    [('a', 'event', 0.5)]
    """
    threads = run.environment.get("Threads", "")
    protocol, source = f"{name} batch={run.batch} threads={threads}", f"sparseflow {version('sparseflow')}"

    def key(layer: str, decision: str) -> Key:
        return Key(layer=layer, decision=decision, target=target.key, protocol=protocol, source=source)

    layers = [
        Record(
            key=key(f"{run.title}: {x.name}", kernel),
            value=seconds,
            name=x.name,
            decision={"kernel": kernel},
            stats={} if x.density is None else {"density": x.density},
            run=name,
        )
        for x in run.report.layers
        for kernel, seconds in x.timings_s.items()
    ]
    networks = [
        Record(
            key=key(run.title, v.name),
            value=v.latency_s,
            failure=None if v.latency_s is not None else v.note or "not run",
            name=run.title,
            decision={"form": v.name},
            stats={} if v.latency_s is None else {"iqr_s": v.iqr_s, "repeats": float(v.repeats)},
            run=name,
        )
        for v in run.variants
        if not v.measured
    ]
    return layers + networks
