import csv
import json

import pytest
import torch

from sparseflow.compress.approximate import Metrics, TmaxRule, TriSegResult, clamp_codes
from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.triseg import tables
from sparseflow.recipes.triseg.analyze import (
    ANALYSES,
    BUCKETS,
    AnalyzeConfig,
    accuracy,
    analyze,
    collect,
    percentile_map,
    pick_images,
)
from sparseflow.recipes.triseg.teacher import load_teacher
from tests.triseg_teachers import images, save_teacher, splits

SITES = ("conv1", "conv2", "fc1", "fc2")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    save_teacher(folder)
    return folder


@pytest.fixture(scope="module")
def teacher(out):
    return load_teacher("lenet5", out)


def config(out, **changed):
    return AnalyzeConfig(**{"model": "lenet5", "out": str(out), "batch_size": 40, "batches": None, **changed})


def as_trained(part):
    return (part.images.float() / 255 - 0.5) / 0.25


def all_codes(teacher, part):
    return teacher.net.codes(as_trained(part), points=teacher.points)


def test_counts_are_those_of_the_codes_in_any_batches(teacher):
    part = images(50)
    counts = collect(teacher, part, 17).counts
    for row, node in zip(counts, teacher.points, strict=True):
        codes = all_codes(teacher, part)[node].flatten().long()
        assert torch.equal(row, torch.bincount(codes, minlength=256))


def test_variance_is_that_of_the_codes(out, teacher):
    parts = splits()
    found = analyze("variance", config(out), splits=parts)
    assert [row["layer"] for row in found.rows] == list(SITES)
    for row, node in zip(found.rows, teacher.points, strict=True):
        codes = all_codes(teacher, parts.train)[node].double()
        assert row["mean"] == pytest.approx(float(codes.mean()))
        assert row["variance"] == pytest.approx(float(codes.var(correction=0)))
        assert row["zeros"] == pytest.approx(float((codes == 0).double().mean()))
        assert row["largest"] == int(codes.max())
        scale = teacher.net.point(node).spec.scale
        assert row["variance_real"] == pytest.approx(float((codes * scale).var(correction=0)))


def test_percentiles_are_in_order_and_count_no_zeros(out):
    rule = TmaxRule(mode="percentile")
    rows = analyze("percentiles", config(out, split="calib", tmax=rule), splits=splits()).rows
    for row in rows:
        assert 0 < row["p20"] <= row["p40"] <= row["p60"] <= row["p80"] <= row["p90"] <= row["p100"] <= 127
        assert row["tmax"] == min(max(row["p90"] + 10, 15), 127)


def test_coverage_is_counted_with_and_without_zeros(out, teacher):
    parts = splits()
    rule = TmaxRule(mode="fixed", fixed=20)
    whole = analyze("coverage", config(out, tmax=rule), splits=parts)
    live = analyze("coverage", config(out, tmax=rule, ignore_zeros=True), splits=parts)
    for a, b, node in zip(whole.rows, live.rows, teacher.points, strict=True):
        codes = all_codes(teacher, parts.train)[node]
        assert a["coverage"] == pytest.approx(float((codes <= 20).double().mean()))
        assert b["coverage"] == pytest.approx(float((codes[codes > 0] <= 20).double().mean()))
        assert a["beyond"] + a["coverage"] == 1
        assert a["tmax"] == 20
    assert whole.notes["mean"] == pytest.approx(sum(r["coverage"] for r in whole.rows) / 4)


def test_the_percentile_map_keeps_the_codes_in_order():
    counts = torch.zeros(3, 256, dtype=torch.int64)
    counts[1, 1] = 100
    counts[2, :100] = 1
    codes = percentile_map(counts, TmaxRule(percentile=100))
    assert torch.equal(clamp_codes(codes), codes)
    assert codes[2].tolist() == [21, 40, 60, 79, 99]


def test_sensitivity_changes_one_layer_at_a_time(out, teacher):
    parts = splits()
    found = analyze("sensitivity", config(out, split="val"), splits=parts)
    x, y = as_trained(parts.val), parts.val.labels

    def share(chosen):
        given = {n: t[None] for n, t in chosen.items()}
        return 100 * float((teacher.net(x, tables=given).argmax(1) == y).double().mean())

    codes = torch.tensor([[row[k] for k in ("t1", "v1", "t2", "v2", "tmax")] for row in found.rows])
    made = dict(zip(teacher.points, tables(codes), strict=True))
    assert found.notes["acc_teacher"] == pytest.approx(share({}))
    assert found.notes["acc_teacher"] > 30
    assert found.notes["acc_all"] == pytest.approx(share(made))
    for row, node in zip(found.rows, teacher.points, strict=True):
        assert row["accuracy"] == pytest.approx(share({node: made[node]}))
        assert row["drop"] == pytest.approx(found.notes["acc_teacher"] - row["accuracy"])
        others = {n: t for n, t in made.items() if n != node}
        assert row["accuracy_all_others"] == pytest.approx(share(others))


def test_a_result_file_gives_the_codes(out, tmp_path):
    path = tmp_path / "r.json"
    codes = torch.tensor([[3, 6, 12, 20, 40]] * 4)
    TriSegResult.of(
        SITES, codes, backend="fbgemm", model="lenet5", selection="best-accuracy (drop=0.0% > 0.0%)",
        metrics=Metrics.of(50.0, 50.0), overflow="clip",
    ).write(path)  # fmt: skip
    found = analyze("sensitivity", config(out, split="val", config_path=str(path)), splits=splits())
    assert [found.rows[0][k] for k in ("t1", "v1", "t2", "v2", "tmax")] == codes[0].tolist()
    assert (found.notes["overflow"], found.notes["map"]) == ("clip", str(path))
    assert {r["tmax"] for r in analyze("coverage", config(out, config_path=str(path)), splits=splits()).rows} == {40}


def test_accuracy_without_changes_is_the_teachers(teacher):
    part = images(30, seed=5)
    right = (teacher.net(as_trained(part)).argmax(1) == part.labels).double().mean()
    assert accuracy(teacher, part, batch_size=7) == pytest.approx(100 * float(right))


def test_the_earlier_buckets_are_a_map():
    table = BUCKETS.table()
    assert [int(table[q]) for q in (0, 1, 4, 5, 11, 12, 17, 18, 90)] == [0, 4, 4, 8, 8, 14, 14, 18, 90]


def test_only_the_asked_images_are_read(out):
    parts = splits()
    assert len(pick_images(config(out, batches=1), parts, "x")) == 40
    assert len(pick_images(config(out, batches=9), parts, "x")) == 64
    assert parts.test.opened == ()
    assert pick_images(config(out, split="test"), parts, "x").split == "test"
    assert parts.test.opened == ("x",)


@pytest.mark.parametrize("kind", sorted(ANALYSES))
def test_tables_are_written_as_json_and_csv(out, tmp_path, kind):
    found = analyze(kind, config(out, split="val"), splits=splits())
    body, rows = found.write(tmp_path / "new")
    assert body.name == f"lenet5_{kind}.json"
    assert json.loads(body.read_text()) == found.to_dict()
    with rows.open() as f:
        assert [row["layer"] for row in csv.DictReader(f)] == list(SITES)


def test_bad_settings_are_named(out, tmp_path):
    with pytest.raises(ConfigError, match="no analysis 'entropy'; there are variance"):
        analyze("entropy", config(out))
    with pytest.raises(ConfigError, match="split is 'dev'"):
        config(out, split="dev")
    with pytest.raises(ConfigError, match="batch_size is 0"):
        config(out, batch_size=0)
    with pytest.raises(DataError, match="lenet5_qat_preconvert"):
        analyze("variance", config(tmp_path))
    small = splits()
    part = small.train
    wrong = type(part)(**{f: getattr(part, f) for f in part.__dataclass_fields__} | {"images": part.images[:, :1]})
    with pytest.raises(DataError, match=r"squares has images \(1, 32, 32\)"):
        accuracy(load_teacher("lenet5", out), wrong)
