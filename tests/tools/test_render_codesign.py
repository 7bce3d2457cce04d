from tools.render_codesign import rivals


def test_arms_stand_beside_the_joint_loop():
    def row(arm: str, edp: float) -> dict[str, object]:
        return {
            "arm": arm, "seed": 0, "edp": edp, "top1": 0.9, "latency_ms": 2.0, "energy_mj": 3.0, "area_mm2": 600.0,
            "chips": 1, "keeps": {"token": 0.25},
        }  # fmt: skip

    rows = [row("full", 10.0), row("fixed4", 15.0)]
    means = {r["arm"]: {"edp": r["edp"], "top1": r["top1"]} for r in rows}
    text = rivals({"suites": {"joint": {"rows": rows, "means": means, "proxy": "h200"}}})
    assert "| joint, four fixed chips | 15 | 1.50× | 2 | 3 | 90.00 % | 25% | 1.0, 600 | 1 |" in text
    assert "first the network" not in text
    assert "h200" in text
