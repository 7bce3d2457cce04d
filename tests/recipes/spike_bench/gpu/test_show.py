from sparseflow.recipes.spike_bench.gpu.show import tables

CHECK = {"show": "1", "name": "a block", "value": 2.5, "unit": "x", "target": ">= 2", "ok": True}
BODY = {
    "checks": [CHECK, {**CHECK, "name": "another", "value": None, "ok": False}],
    "stages": {
        "blocks": {"rows": [{"block": "3x3", "density": 0.1, "ratio": 2.5, "ours_us": 81.26}], "errors": {}},
        "seed": {"rows": [], "errors": {"layer1": "it broke"}},
        "correct": {"rows": [{"anything": 1}], "errors": {}},
    },
}


def test_rows_errors_and_checks_are_shown_with_gaps_for_what_is_missing():
    text = tables(BODY)
    assert "3x3    10%      -" in text
    assert "81.3" in text
    assert "!! seed: layer1: it broke" in text
    assert "ok   a block: 2.5 x (>= 2)" in text
    assert "FAIL another: - x (>= 2)" in text
    assert text.endswith("1 of 2 checks hold")


def test_stages_can_be_chosen():
    assert "3x3" not in tables(BODY, ("seed",))
