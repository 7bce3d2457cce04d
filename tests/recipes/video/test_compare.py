import json

import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.video.compare import Arm, compare, parse_arm, plan_of, read_records, table_of
from tests.video_runs import dense, small_video


def record(score=None, keep=1.0, seed=0, right=95, dataset="digits", videos=100, **more):
    mode = "dense_baseline" if score is None else "single_device_ast"
    cfg = {} if score is None else {"score": score, "keep": keep, **more}
    test = {"top1": right / videos, "right": right, "videos": videos, "keeps": {"token": keep}}
    return {
        "dataset": dataset, "mode": mode, "seed": seed, "config": {"ast_cfg": cfg}, "test": test, "synthetic": True,
        "train_s": 1.0 + seed, "device": "x", "commit": "abc",
    }  # fmt: skip


def test_the_checks_are_those_of_the_means():
    runs = [record(seed=s, right=r) for s, r in enumerate((94, 95, 96))]
    runs += [record("motion", 0.5, s, r) for s, r in enumerate((94, 94, 95))]
    runs += [record("motion", 0.25, s, r) for s, r in enumerate((91, 92, 93))]
    runs += [record("entropy", 0.25, s, 80) for s in range(3)]
    runs += [record("random", 0.25, s, r) for s, r in enumerate((88, 89, 90))]
    body = table_of(runs)
    values = [(round(c["value"], 6), c["ok"]) for c in body["checks"]]
    assert values == [(95.0, True), (0.666667, True), (3.0, True), (3.0, True), (3, True)]
    rows = {r["arm"]: r for r in body["rows"]}
    at = " before block 1"
    assert list(rows) == ["dense", *(n + at for n in ("motion 0.5", "motion 0.25", "entropy 0.25", "random 0.25"))]
    assert rows["motion 0.25" + at]["drop"] == pytest.approx(0.03)
    assert rows["motion 0.25" + at]["drop_interval"] == pytest.approx([0.03, 0.03])
    # Student with two degrees of freedom: 4.303 · 0.57735 / √3 points.
    low, high = rows["motion 0.5" + at]["drop_interval"]
    assert ((high - low) / 2, (high + low) / 2) == (pytest.approx(0.0143, abs=1e-4), pytest.approx(0.00667, abs=1e-5))
    assert rows["dense"]["low"] < 0.95 < rows["dense"]["high"]
    assert (rows["dense"]["seeds"], rows["dense"]["train_s"]) == ([0, 1, 2], 2.0)
    worse = table_of([*runs, record("random", 0.25, 2, 100)])
    assert [c["ok"] for c in worse["checks"]] == [True, True, True, False, True]
    # What leaves tokens behind earlier counts, held against what does the same, and over the seeds that both have.
    early = [record(score, 0.25, right=r, prune_before=0) for score, r in (("motion", 91), ("random", 89))]
    assert [round(c["value"], 6) for c in table_of([*runs, *early])["checks"]] == [95.0, 3.0, 2.0, 1]


def test_of_real_actions_figures_are_told_without_a_bound():
    body = table_of([record(dataset="jhmdb"), record("motion", 0.5, dataset="jhmdb", right=94)])
    assert body["checks"] == []
    assert body["rows"][1]["drop"] == pytest.approx(0.01)
    assert body["rows"][1]["drop_interval"] is None


def test_arms_and_plans():
    assert parse_arm("dense") == Arm()
    assert parse_arm("evit:0.25") == Arm(score="evit", keep=0.25)
    for text in ("motion", "motion:x", "motion:0.5:x", "motion:0.5:1:2"):
        with pytest.raises(ConfigError, match="is no arm"):
            parse_arm(text)
    arms = [Arm(), Arm(score="entropy", keep=0.25)]
    runs = plan_of(dense("out", name="other"), arms, (0, 4))
    assert [r.seed for r in runs] == [0, 0, 4, 4]
    own = {"gate": "hard", "entropy_mode": "sliding", "score": "entropy", "keep": 0.25}
    assert runs[1].ast_cfg == own | {"prune_before": 1}
    first = dense("out", ast_cfg={"prune_before": 0}, mode="single_device_ast")
    texts = ("dense", "random:0.25", "evit:0.25", "random:0.25:1")
    early = plan_of(first, [parse_arm(text) for text in texts], (0,))
    assert [r.ast_cfg.get("prune_before") for r in early] == [None, 0, 1, 1]
    assert early[3].title == "digits_random_keep0.25_before1"
    assert len({r.folder for r in runs}) == 4
    jhmdb = plan_of(dense("out", dataset="jhmdb", data="x"), arms, (0, 4))
    assert [r.split for r in jhmdb] == [1, 1, 2, 2]
    for wrong, seeds in (([], (0,)), (arms[1:], (0,)), (arms * 2, (0,)), (arms, ()), (arms, (0, 0))):
        with pytest.raises(ConfigError, match="needs the arm dense"):
            plan_of(dense("out"), wrong, seeds)


def test_a_comparison_goes_on_where_it_stopped(tmp_path):
    config = small_video(tmp_path, ast_cfg={}, epochs=1)
    arms, said = [Arm(), Arm(score="random", keep=0.25)], []
    body = compare(config, arms=arms, seeds=(0,), say=said.append, progress=False)
    assert len(said) == len(body["rows"]) == 2
    files = sorted(tmp_path.glob("**/record.json"))
    before = [f.stat().st_mtime_ns for f in files]
    assert all(row.pop("clips_per_s") > 0 for row in body["rows"])
    again = table_of(compare(config, arms=arms, seeds=(0,), progress=False)["runs"])
    assert [f.stat().st_mtime_ns for f in files] == before
    assert table_of(read_records([tmp_path]))["rows"] == again["rows"]
    assert all(row.pop("clips_per_s") is None for row in again["rows"])
    assert again["rows"] == body["rows"]


def test_bad_records(tmp_path):
    with pytest.raises(DataError, match=r"holds no record\.json"):
        read_records([tmp_path])
    (tmp_path / "record.json").write_text(json.dumps({"test": {}}))
    with pytest.raises(DataError, match="is no record"):
        read_records([tmp_path])
    with pytest.raises(ConfigError, match="no dense training of digits"):
        table_of([record("motion", 0.5)])
    with pytest.raises(ConfigError, match="no record"):
        table_of([])
