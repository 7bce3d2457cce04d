import json

from sparseflow.recipes.codesign.sensitivity import read_config, sensitivity


def test_a_dearer_area_shrinks_the_wafer_and_the_settings_come_back(finished, tiny):
    body = json.loads(finished)
    rows = sensitivity(body, weights=("area", "energy"), factors=(1.0, 1000.0))
    assert [(r["weight"], r["factor"]) for r in rows] == [
        ("area", 1.0), ("area", 1000.0), ("energy", 1.0), ("energy", 1000.0),
    ]  # fmt: skip
    assert rows[1]["area_mm2"] <= rows[0]["area_mm2"]
    assert rows[3]["energy_mj"] <= rows[2]["energy_mj"] + 1e-9
    assert read_config(body["config"]).hw == tiny.hw
