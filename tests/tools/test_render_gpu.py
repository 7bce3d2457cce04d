from tools.render_gpu import STAGES, headline, stage_table
from tools.render_tables import render

ROW = {
    "network": "sew", "batch": 32, "rival": "torch compile fp16", "rival_ms": 2.8, "ours_ms": 1.4, "over_dense": 2.0,
    "energy": {"ours": {"joules_an_image": 0.0125}, "dense": None},
}  # fmt: skip
BODY = {
    "device": "NVIDIA H200",
    "stages": {"network": {"rows": [ROW], "commit": "abc", "when": "today"}, "seed": {"rows": []}},
}


def test_rows_become_a_table_with_only_the_columns_that_were_measured():
    text = stage_table(BODY, "network")
    assert "| sew | 32 | torch compile fp16 | 2.800 | 1.400 | 2× | 0.0125 |" in text
    assert "over eager" not in text
    assert "dense J" not in text
    assert "<sub>NVIDIA H200; commit abc; today</sub>" in text
    assert "quick" in stage_table({**BODY, "quick": True}, "network")


def test_the_headline_has_the_default_precision_and_the_checks():
    rows = [{**ROW, "over_eager": 20.0}, {**ROW, "network": "sew, int8"}]
    text = headline({"device": "a GPU", "checks": [{"ok": True}, {"ok": False}], "stages": {"network": {"rows": rows}}})
    assert "| sew | 32 | 2.800 | 1.400 | 2× | 20× |" in text
    assert "int8" not in text
    assert "1 of 2 checks of the benchmark hold." in text
    assert text.endswith("<sub>a GPU</sub>")


def test_what_was_not_measured_says_so():
    assert stage_table(BODY, "seed") == "Not measured yet."
    assert stage_table({}, "blocks") == "Not measured yet."


def test_shares_and_bytes_read_well():
    body = {"stages": {"memory": {"rows": [{"network": "n", "dense_bytes": 2**30, "ours_bytes": 2**27, "ratio": 8.0}]}}}
    assert "| n | 1024 MiB | 128 MiB | 8× |" in stage_table(body, "memory")
    body = {"stages": {"blocks": {"rows": [{"block": "b", "density": 0.1}]}}}
    assert "| b | 10 % |" in stage_table(body, "blocks")


def test_the_stages_are_those_of_the_bench_and_a_missing_record_is_told_from_a_forgotten_one(tmp_path):
    assert {"blocks", "seed", "network", "memory", "coverage"} == set(STAGES)
    text = "<!-- table: spike_h200.blocks? -->\n<!-- /table -->"
    made = render(text, tmp_path)
    assert "Not measured yet." in made
    assert render(made, tmp_path) == made
