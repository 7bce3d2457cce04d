import json
from pathlib import Path

import pytest
import torch

from sparseflow.compress.approximate import Metrics, TriSegResult, cost_of
from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.triseg import tables
from sparseflow.recipes.triseg.analyze import accuracy
from sparseflow.recipes.triseg.report import ReportConfig, curves_of, report
from sparseflow.recipes.triseg.teacher import load_teacher
from tests.triseg_teachers import save_teacher, splits

SITES = ("conv1", "conv2", "fc1", "fc2")
CODES = [[3, 6, 12, 20, 40], [4, 9, 15, 30, 60], [2, 5, 9, 20, 50], [2, 5, 9, 20, 50]]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    save_teacher(folder)
    return folder


def result(folder, *, names=SITES, model="lenet5", overflow="pass", codes=CODES):
    found = TriSegResult.of(
        names, torch.tensor(codes), backend="fbgemm", model=model, selection="constrained-best (drop=1.0% <= 2.0%)",
        metrics=Metrics.of(50.0, 49.0), overflow=overflow, split="val",
    )  # fmt: skip
    return str(found.write(folder / "r.json"))


def search(folder, **changed):
    body = {
        "method": "dp+cma",
        "histories": {"dp+cma": [[1, -3.0], [10, -1.0]], "random": [[[1, -9.0], [10, -5.0]], [[1, -7.0], [10, -6.0]]]},
        "finalists": [{"codes": CODES, "reward": -1.0, "accuracy": 48.0}],
        **changed,
    }
    path = folder / "search.json"
    path.write_text(json.dumps(body))
    return str(path)


def test_the_page_holds_what_was_measured(out, tmp_path):
    parts = splits()
    config = ReportConfig(
        config_path=result(tmp_path), searches=(search(tmp_path),), out=str(out), folder=str(tmp_path / "page"),
        sensitivity=True, counted=40, batch_size=24,
    )  # fmt: skip
    body = report(config, splits=parts)
    teacher = load_teacher("lenet5", out)
    made = dict(zip(teacher.points, tables(torch.tensor(CODES)), strict=True))
    assert body["acc_teacher"] == accuracy(teacher, parts.val)
    assert body["acc_student"] == accuracy(teacher, parts.val, made)
    x = (parts.calib.images[:40].float() / 255 - 0.5) / 0.25
    cost = cost_of(teacher.net, teacher.sites, torch.tensor(CODES), [x]).to_dict()
    for key in ("bits_per_activation", "multiplies_avoided", "machines", "readers"):
        assert json.dumps(body["cost"][key]) == json.dumps(cost[key])
    assert [s["name"] for s in body["sites"]] == list(SITES)
    for site, node in zip(body["sites"], teacher.points, strict=True):
        alone = accuracy(teacher, parts.val, {node: made[node]})
        assert site["drop"] == pytest.approx(body["acc_teacher"] - alone)
        assert sum(site["shares"]) == pytest.approx(1)
        assert site["bits"] == pytest.approx(2 + 8 * site["shares"][3])
    assert sum(body["sites"][0]["counts"]) == 40 * teacher.net.codes(x)[teacher.points[0]][0].numel()
    assert [f["kind"] for f in body["findings"]] == ["teacher", "finalist", "chosen"]
    assert body["findings"][1]["accuracy"] == 48.0
    assert [(c["name"], c["ours"], c["seeds"]) for c in body["curves"]] == [("dp+cma", True, 1), ("random", False, 2)]
    assert parts.test.opened == ()
    page, data = (Path(f).read_text(encoding="utf-8") for f in body["files"])
    assert "Codes of conv1 with their segments" in page
    assert json.loads(data)["model"] == "lenet5"


def test_fine_tuned_networks_stand_beside_by_their_own_weights(out, tmp_path):
    parts = splits()
    folder = tmp_path / "o"
    folder.mkdir()
    save_teacher(folder)
    save_teacher(tmp_path, steps=60)
    (tmp_path / "lenet5_qat_preconvert.safetensors").rename(folder / "more.safetensors")
    beside = TriSegResult.read(result(tmp_path, overflow="clip")).write(folder / "more.json")
    config = ReportConfig(config_path=result(tmp_path), tuned=(str(beside),), out=str(folder))
    *_, found = report(config, splits=parts)["findings"]
    teacher = load_teacher(str(folder / "more.safetensors"))
    made = dict(zip(teacher.points, tables(torch.tensor(CODES), "clip"), strict=True))
    assert found == {
        "name": "fine-tuned, 2-bit", "bits": 2.0, "accuracy": accuracy(teacher, parts.val, made), "kind": "tuned",
    }  # fmt: skip
    with pytest.raises(DataError, match=r"no checkpoint .*r\.safetensors beside the result"):
        report(ReportConfig(config_path=result(tmp_path), tuned=(result(tmp_path),), out=str(out)), splits=parts)


def test_test_images_are_opened_only_if_asked(out, tmp_path):
    parts = splits()
    body = report(ReportConfig(config_path=result(tmp_path), out=str(out), split="test", images=10), splits=parts)
    assert (body["split"], body["images"]) == ("test", 10)
    assert parts.test.opened == ("report",)
    assert (out / "reports" / "r" / "report.html").is_file()


@pytest.mark.parametrize("overflow", ["clip", "saturate"])
def test_results_without_escapes_have_two_bits(out, tmp_path, overflow):
    path = result(tmp_path, overflow=overflow)
    body = report(ReportConfig(config_path=path, out=str(out), folder=str(tmp_path)), splits=splits())
    assert body["cost"]["bits_per_activation"] == 2
    assert body["overflow"] == overflow
    for s in body["sites"]:
        assert sum(s["shares"]) == pytest.approx(1)


def test_a_result_for_some_layers_leaves_the_others_exact(out, tmp_path):
    path = result(tmp_path, names=("conv2", "fc1"), codes=CODES[:2])
    body = report(ReportConfig(config_path=path, out=str(out), folder=str(tmp_path)), splits=splits())
    assert [s["name"] for s in body["sites"]] == ["conv2", "fc1"]
    assert "2 layers that could take three values keep their codes." in body["notes"]
    read = {r["layer"].split(".")[1]: r["sites"] for r in body["cost"]["readers"]}
    assert read == {"conv1": (), "conv2": (), "fc1": ("conv2",), "fc2": ("fc1",), "fc3": ()}


def test_curves_are_medians_of_staircases():
    body = {
        "method": "a",
        "histories": {"a": [[[1, -4.0], [5, -2.0]], [[2, -3.0], [4, -1.0], [6, -1.5]], [[1, -9.0], [6, -8.0]]]},
    }
    (curve,) = curves_of([body])
    assert curve.points == ((2, -4.0), (4, -4.0), (5, -2.0), (6, -2.0))
    assert curve.low == (-9.0, -9.0, -9.0, -8.0)
    assert curve.high == (-3.0, -1.0, -1.0, -1.0)
    assert curve.ours
    assert curves_of([{"histories": {}}]) == ()
    assert curves_of([{"histories": {"none": []}}]) == ()


def test_rows_of_a_bench_are_seeds_of_their_methods():
    rows = [
        {"method": m, "best": {"100": r - 1, "600": r}} for m, r in (("default", -1.0), ("tpe", -3.0), ("tpe", -2.0))
    ]
    found = curves_of([{"search": {"rows": rows}, "config": {"methods": ["default", "tpe"]}}])
    assert [(c.name, c.ours, c.seeds, c.points[-1]) for c in found] == [
        ("default", True, 1, (600, -1.0)), ("tpe", False, 2, (600, -2.5)),
    ]  # fmt: skip


def test_the_whole_history_of_a_row_is_drawn_where_there_is_one():
    row = {"method": "default", "best": {"100": -2.0}, "history": [[1, -4.0], [30, -2.0], [100, -2.0]]}
    (curve,) = curves_of([{"search": {"rows": [row]}}])
    assert curve.points == ((1, -4.0), (30, -2.0), (100, -2.0))


def test_the_search_that_made_the_result_is_found(out, tmp_path):
    made = out / "runs" / "triseg" / "r"
    made.mkdir(parents=True, exist_ok=True)
    body = {"config": {"method": "tpe"}, "histories": {"tpe": [[1, -1.0]]}, "finalists": []}
    (made / "report.json").write_text(json.dumps(body))
    found = report(ReportConfig(config_path=result(tmp_path), out=str(out), images=8), splits=splits())
    assert [(c["name"], c["ours"]) for c in found["curves"]] == [("tpe", True)]
    assert [f["kind"] for f in found["findings"]] == ["teacher", "chosen"]
    found = report(ReportConfig(config_path=result(tmp_path), searches=(), out=str(out), images=8), splits=splits())
    assert found["curves"] == ()


def test_runs_of_one_method_in_several_files_are_seeds_of_one_curve():
    files = [{"method": "a", "histories": {"a": [[1, -2.0]]}}, {"method": "a", "histories": {"a": [[1, -1.0]]}}]
    (curve,) = curves_of(files)
    assert (curve.seeds, curve.points) == (2, ((1, -1.5),))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"histories": {"a": [[1, "x"]]}}, "history of 'a'"),
        ({"finalists": [{"codes": [[1, 2, 3, 4, 5]], "accuracy": 1.0}]}, "finalist 1 of a search does not fit lenet5"),
        ({"finalists": [{"accuracy": 1.0}]}, "finalist 1"),
    ],
)
def test_a_search_that_does_not_fit_is_named(out, tmp_path, changed, said):
    config = ReportConfig(config_path=result(tmp_path), searches=(search(tmp_path, **changed),), out=str(out))
    with pytest.raises(DataError, match=said):
        report(config, splits=splits())


def test_bad_files_are_named(out, tmp_path):
    good = result(tmp_path)
    with pytest.raises(DataError, match=r"no\.json"):
        report(ReportConfig(config_path=str(tmp_path / "no.json"), out=str(out)), splits=splits())
    (tmp_path / "s.json").write_text("{}")
    with pytest.raises(DataError, match=r"s\.json holds neither"):
        report(ReportConfig(config_path=good, searches=(str(tmp_path / "s.json"),), out=str(out)), splits=splits())
    with pytest.raises(DataError, match=r"cannot read the search .*none\.json"):
        report(ReportConfig(config_path=good, searches=(str(tmp_path / "none.json"),), out=str(out)), splits=splits())
    with pytest.raises(ConfigError, match=r"t\.yaml"):
        report(ReportConfig(config_path=good, energy=str(tmp_path / "t.yaml"), out=str(out)), splits=splits())
    with pytest.raises(ConfigError, match="split is 'dev'"):
        ReportConfig(config_path=good, split="dev")
    with pytest.raises(ConfigError, match="counted is 0"):
        ReportConfig(config_path=good, counted=0)
    other = result(tmp_path, names=("conv1", "conv2", "fc1", "fc3"))
    with pytest.raises(DataError, match=r"r\.json: layer 'fc3' is no site"):
        report(ReportConfig(config_path=other, out=str(out)), splits=splits())


def test_the_command_repeats_the_page():
    config = ReportConfig(config_path="a b.json", split="test", searches=("s.json",), sensitivity=True)
    assert config.command == (
        "sparseflow triseg report 'a b.json' --out outputs --split test --search s.json --sensitivity"
    )
