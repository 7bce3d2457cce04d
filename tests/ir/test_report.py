import json

from sparseflow.ir import Decision, LayerReport, Plan, Refusal, Report


def report() -> Report:
    return Report(
        model="net",
        target="cpu",
        captured_by="fx",
        layers=(LayerReport(name="c1", op="conv2d", density=0.05, kernel="event", dense_s=4e-3, kernel_s=1e-3),),
        refusals=(Refusal(layer="c2", what="amx", reason="this processor has no AMX"),),
        fallbacks=("c3 runs dense",),
        plan=Plan(workload_hash="0" * 16, decisions={"c1": Decision(kernel="event")}),
        dense_s=1e-2,
        optimized_s=5e-3,
        parity={"top1_agreement": 1.0},
    )


def test_speedups_are_dense_over_chosen() -> None:
    assert report().speedup == 2.0
    assert report().layers[0].speedup == 4.0


def test_what_was_not_measured_has_no_speedup() -> None:
    assert Report(model="net", target="cpu").speedup is None
    assert Report(model="net", target="cpu", dense_s=1.0, optimized_s=0.0).speedup is None
    assert LayerReport(name="c1", op="conv2d", kernel_s=1.0).speedup is None


def test_the_body_is_plain_json_and_whole() -> None:
    body = json.loads(json.dumps(report().to_dict(), allow_nan=False))
    assert body["speedup"] == 2.0
    assert body["layers"][0]["speedup"] == 4.0
    assert body["refusals"] == [{"layer": "c2", "what": "amx", "reason": "this processor has no AMX"}]
    assert body["plan"]["decisions"]["c1"]["kernel"] == "event"
    assert Report(model="net", target="cpu").to_dict()["plan"] is None
