"""A result measured anew, and files that do not fit."""

import json
from pathlib import Path

import pytest

from sparseflow.compress.approximate import Metrics, TriSegResult, initial_codes
from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.triseg import MODES, tables
from sparseflow.recipes.triseg.analyze import accuracy
from sparseflow.recipes.triseg.evaluate import EvalConfig, evaluate
from sparseflow.recipes.triseg.teacher import load_teacher
from tests.triseg_teachers import save_teacher, splits

NAMES = ("conv1", "conv2", "fc1", "fc2")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    save_teacher(folder, steps=20)
    return folder


def result(names: tuple[str, ...] = NAMES, model: str = "lenet5", **more: object) -> TriSegResult:
    return TriSegResult.of(
        names, initial_codes([35] * len(names)), backend="fbgemm", model=model, selection="best-accuracy (x)",
        metrics=Metrics.of(50.0, 49.0), **more,
    )  # fmt: skip


@pytest.mark.parametrize("overflow", MODES)
def test_accuracies_are_those_of_the_network(out: Path, overflow: str) -> None:
    path = result(overflow=overflow).write(out / "tri_ppo_int_codes" / "result.json")
    given = splits()
    body = evaluate(EvalConfig(model="lenet5", out=str(out), device="cpu", attention=True), splits=given)
    teacher = load_teacher("lenet5", out)
    test = given.test.open("a check")
    rows = tables(initial_codes([35] * 4), overflow)
    assert body["acc_baseline"] == pytest.approx(accuracy(teacher, test))
    assert body["acc_modified"] == pytest.approx(accuracy(teacher, test, dict(zip(teacher.points, rows, strict=True))))
    assert given.test.opened == ("the accuracy of a result", "a check")
    assert body["reward"] == pytest.approx(-body["kd"] - 100 * body["at"])
    written = json.loads((path.parent / "eval_report.json").read_text())
    assert list(written) == [
        "model", "config_path", "backend", "acc_baseline", "acc_modified", "acc_drop", "selection", "metrics_in_config",
    ]  # fmt: skip
    assert written["metrics_in_config"]["acc_drop"] == 1.0


def test_a_result_of_some_layers_and_another_split(out: Path) -> None:
    path = result(("conv2", "fc1")).write(out / "some.json")
    given = splits()
    config = EvalConfig(model="lenet5", out=str(out), config_path=str(path), split="val", device="cpu")
    body = evaluate(config, splits=given)
    assert (body["split"], body["images"]) == ("val", len(given.val))
    assert given.test.opened == ()


def test_files_that_do_not_fit_are_named(out: Path) -> None:
    def refused(path: Path, said: str) -> None:
        given = splits()
        with pytest.raises(DataError, match=said) as caught:
            evaluate(EvalConfig(model="lenet5", out=str(out), config_path=str(path), device="cpu"), splits=given)
        assert str(path) in str(caught.value)
        assert given.test.opened == ()

    refused(
        result(("conv1", "conv8")).write(out / "names.json"), "layer 'conv8' is no site of 'lenet5'; there are conv1"
    )
    refused(result(model="vgg16").write(out / "model.json"), "is for model 'vgg16'")
    refused(out / "nothing.json", "cannot read")
    body = json.loads(result().to_json())
    body["layers"]["conv1"]["t1_code"] = 99
    (out / "order.json").write_text(json.dumps(body))
    refused(out / "order.json", "t1_code 99 is above t2_code")


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="split is 'train'"):
        EvalConfig(split="train")
    with pytest.raises(ConfigError, match="device is 'tpu'"):
        EvalConfig(device="tpu")
