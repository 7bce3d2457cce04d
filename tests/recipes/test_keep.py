"""A run leaves its measurements in the store, and a store that refuses leaves the run alone."""

from pathlib import Path

from sparseflow.hardware import load_target
from sparseflow.ir import LayerReport, Report
from sparseflow.recipes.keep import keep, to_records
from sparseflow.records import Store
from sparseflow.report import Run, Variant

CPU = load_target("cpu", describe=False)
LAYERS = (
    LayerReport(name="conv1", op="conv2d", density=0.05, timings_s={"dense": 2.0, "event": 1.0}),
    LayerReport(name="sn1", op="lif"),
)
RUN = Run(
    title="a network",
    report=Report(model="Net", target="cpu", layers=LAYERS),
    batch=8,
    environment={"Threads": "2"},
    variants=(
        Variant(name="sparseflow", kind="optimized", latency_s=0.1, iqr_s=0.01, repeats=5),
        Variant(name="torch, eager", kind="dense", latency_s=0.4, iqr_s=0.02, repeats=5),
        Variant(name="torch, compiled", kind="dense", note="no compiler"),
        Variant(name="torch, frozen", kind="dense", latency_s=0.3, measured="yesterday"),
    ),
)


def test_every_measurement_and_every_failure_but_nothing_recalled() -> None:
    found = {(r.name, r.key.decision): r for r in to_records(RUN, CPU, name="demo")}
    assert {k: r.value for k, r in found.items()} == {
        ("conv1", "dense"): 2.0,
        ("conv1", "event"): 1.0,
        ("a network", "sparseflow"): 0.1,
        ("a network", "torch, eager"): 0.4,
        ("a network", "torch, compiled"): None,
    }
    assert found["a network", "torch, compiled"].failure == "no compiler"
    assert found["conv1", "event"].stats == {"density": 0.05}
    assert {r.key.protocol for r in found.values()} == {"demo batch=8 threads=2"}
    assert {r.key.target for r in found.values()} == {CPU.key}


def test_kept_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "records.sqlite")
    said = keep(RUN, CPU, name="demo", store=store)
    assert said.startswith("5 measurements in record store")
    best = store.best(layer="a network")
    assert best is not None
    assert best.key.decision == "sparseflow"


def test_a_store_that_refuses_does_not_spoil_the_run(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SPARSEFLOW_RECORDS", "/proc/nowhere/records.sqlite")
    assert keep(RUN, CPU, name="demo").startswith("measurements not recorded: cannot make folder /proc/nowhere")
