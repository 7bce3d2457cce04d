import json
import shutil

import pytest
import torch
from scipy.stats import t

from sparseflow.compress.approximate import Evaluator, Metrics, RewardConfig, TriSegResult, cost_of
from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.triseg import accuracy as room
from sparseflow.recipes.triseg.accuracy import AccuracyConfig, Claim, accuracy_bench, mean_of
from sparseflow.recipes.triseg.problem import inputs_of
from sparseflow.recipes.triseg.teacher import load_teacher
from tests.triseg_teachers import save_teacher, splits

SITES = ("conv1", "conv2", "fc1", "fc2")
FIRST = [[3, 6, 12, 20, 40], [4, 9, 15, 30, 60], [2, 5, 9, 20, 50], [2, 5, 9, 20, 50]]
SECOND = [[9, 12, 25, 40, 70]] * 4


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A network, and another with other weights that stands for a fine-tuned one."""
    folder = tmp_path_factory.mktemp("outputs")
    more = tmp_path_factory.mktemp("more")
    save_teacher(folder)
    shutil.copy(save_teacher(more, steps=60), folder / "tuned.safetensors")
    for name, codes, overflow in (("a", FIRST, "pass"), ("b", SECOND, "pass"), ("tuned", FIRST, "saturate")):
        TriSegResult.of(
            SITES, torch.tensor(codes), backend="fbgemm", model="lenet5", selection="constrained-best",
            metrics=Metrics.of(50.0, 49.0), overflow=overflow, split="val",
        ).write(folder / f"{name}.json")  # fmt: skip
    return folder


def config(out, **changed):
    given = {"model": "lenet5", "checkpoints": str(out), "counted": 32}
    names = {key: tuple(str(out / f"{name}.json") for name in changed.pop(key, ())) for key in ("results", "tuned")}
    return AccuracyConfig(**given, **names, **changed)


def judge(net, images, mode="pass"):
    return Evaluator(
        net.net, net.sites, inputs_of(net, images), images.labels, config=RewardConfig(attention=0.0), mode=mode
    )  # fmt: skip


def test_every_row_is_what_the_networks_answer(out):
    parts = splits()
    body = accuracy_bench(config(out, results=("a", "b"), tuned=("tuned",)), splits=parts)
    assert parts.test.opened == ("accuracy of 3 results of lenet5",)
    test = splits().test.open("compare")
    teacher, tuned = load_teacher("lenet5", out), load_teacher(str(out / "tuned.safetensors"))
    assert body["acc_teacher"] == pytest.approx(100 * judge(teacher, test).teacher_accuracy)
    jobs = ((teacher, FIRST, "pass"), (teacher, SECOND, "pass"), (tuned, FIRST, "saturate"))
    x = (parts.calib.images[:32].float() / 255 - 0.5) / 0.25
    for row, (net, codes, mode) in zip(body["rows"], jobs, strict=True):
        assert row["accuracy"] == pytest.approx(
            100 * float(judge(net, test, mode).score(torch.tensor([codes])).accuracy)
        )
        assert row["drop"] == pytest.approx(body["acc_teacher"] - row["accuracy"])
        cost = cost_of(net.net, net.sites, torch.tensor(codes), [x], mode=mode)
        assert (row["bits"], row["avoided"]) == (cost.bits_per_activation, cost.multiplies_avoided)
    assert [row["kind"] for row in body["rows"]] == ["frozen", "frozen", "saturated"]
    assert body["rows"][2]["bits"] == 2
    assert body["images"] == 64


def test_without_the_engine_the_figures_are_the_same(out, monkeypatch):
    with_engine = accuracy_bench(config(out, results=("a", "b")), splits=splits())
    monkeypatch.setattr(room, "ABSENT", "no compiled kernels here")
    without = accuracy_bench(config(out, results=("a", "b")), splits=splits())
    assert without["rows"] == with_engine["rows"]
    assert without["acc_teacher"] == with_engine["acc_teacher"]


def test_means_are_held_against_the_claims(out, monkeypatch, tmp_path):
    path = tmp_path / "new" / "r.json"
    monkeypatch.setitem(room.CLAIMS, "lenet5", Claim(teacher=0.0, frozen=100.0, bits=9.0, avoided=-9.0))
    body = accuracy_bench(config(out, results=("a", "b"), report=str(path)), splits=splits())
    assert not body["ok"]
    assert [check["ok"] for check in body["checks"]] == [True] * 4 + [False] * 2
    assert json.loads(path.read_text())["checks"] == body["checks"]
    drops = [row["drop"] for row in body["rows"]]
    assert body["means"]["frozen"]["drop"]["mean"] == pytest.approx(sum(drops) / 2)
    names = [check["name"] for check in body["checks"]]
    assert names == [
        "lenet5: INT8 accuracy", "lenet5: mean drop over 2 seeds, frozen", "lenet5: bits an activation, frozen",
        "lenet5: multiplies saved, frozen", "lenet5: drop, fine-tuned: no result given",
        "lenet5: drop, fine-tuned, 2 bits: no result given",
    ]  # fmt: skip
    monkeypatch.setitem(room.CLAIMS, "lenet5", Claim(frozen=-100.0))
    body = accuracy_bench(config(out, results=("a",)), splits=splits())
    assert not body["ok"]
    assert body["checks"][0]["name"] == "lenet5: drop, frozen"
    assert not body["checks"][0]["ok"]
    assert body["means"]["frozen"]["drop"]["half_width"] is None


def test_a_trial_leaves_the_test_images_sealed(out):
    parts = splits()
    assert accuracy_bench(config(out, results=("a",), split="val"), splits=parts)["split"] == "val"
    assert parts.test.opened == ()


def test_the_interval_is_students():
    found = mean_of([1.0, 1.5, 2.9])
    low, high = t.interval(0.95, 2, loc=1.8, scale=torch.tensor([1.0, 1.5, 2.9]).double().std().item() / 3**0.5)
    assert found.mean == pytest.approx(1.8)
    assert found.half_width == pytest.approx((high - low) / 2)
    assert mean_of([2.0]).half_width is None


def test_bad_input_is_named(out, tmp_path):
    with pytest.raises(ConfigError, match="no result to measure"):
        AccuracyConfig()
    with pytest.raises(ConfigError, match="split is 'train'"):
        config(out, results=("a",), split="train")
    with pytest.raises(ConfigError, match="counted is 0"):
        AccuracyConfig(results=("a",), counted=0)
    with pytest.raises(DataError, match=r"none\.json"):
        accuracy_bench(config(out, results=("none",)), splits=splits())
    with pytest.raises(DataError, match=r"no checkpoint .*a\.safetensors beside the result"):
        accuracy_bench(config(out, tuned=("a",)), splits=splits())
    with pytest.raises(DataError, match="lenet5_qat_preconvert"):
        accuracy_bench(AccuracyConfig(model="lenet5", checkpoints=str(tmp_path), results=("a",)), splits=splits())
