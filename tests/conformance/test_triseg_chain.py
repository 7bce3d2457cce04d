"""The whole way from nothing to an answer, by the commands that the guide shows, on the images that ship."""

import json

import pytest
from typer.testing import CliRunner

from sparseflow.cli import app

SMALL = """
model: lenet5
train_limit: 192
batch_size: 64
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("chain")


def call(*arguments):
    result = CliRunner().invoke(app, ["triseg", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_commands_of_the_guide_lead_to_an_answer(folder):
    out, yaml = folder / "outputs", folder / "small.yaml"
    yaml.write_text(SMALL)
    shared = ("--model", "lenet5", "--out", out)

    told = json.loads(call("train-float", yaml, "--epochs", 2, "--lr", 0.02, "--out", out, "--json"))
    assert (told["val_images"], told["epochs"]) == (400, 2)
    assert (out / "lenet5_float_unfused.safetensors").is_file()

    told = json.loads(call("train-qat", yaml, "--qat-epochs", 2, "--warmup-float-epochs", 0, "--out", out, "--json"))
    assert told["val_accuracy"] == pytest.approx(told["float_val"], abs=0.1)

    search = ("--episodes", 30, "--batch-size", 16, "--top", 4, "--result-file", "exp1.json")
    first = json.loads(call("search", *shared, *search, "--json"))
    result = out / "tri_ppo_int_codes" / "exp1.json"
    body = json.loads(result.read_text())
    assert first["result"] == body
    assert list(body["layers"]) == ["conv1", "conv2", "fc1", "fc2"]
    assert body["split"] == "val"

    wanted = result.read_bytes()
    assert json.loads(call("search", *shared, *search, "--json"))["reused"] == 30
    assert result.read_bytes() == wanted
    call("search", *shared, *search, "--no-resume")
    assert result.read_bytes() == wanted

    told = json.loads(call("eval", *shared, "--config-path", result, "--json"))
    assert (told["split"], told["images"]) == ("test", 500)
    assert told["acc_drop"] == pytest.approx(told["acc_baseline"] - told["acc_modified"])
    assert json.loads((result.parent / "eval_report.json").read_text())["metrics_in_config"] == body["metrics"]
    plain = json.loads(call("eval", *shared, "--int8", "--json"))
    assert plain["accuracy"] == pytest.approx(told["acc_baseline"])

    told = json.loads(call("export", *shared, "--config-path", result, "--images", 20, "--json"))
    exact = {kind: found for kind, found in told["checks"].items() if isinstance(found, dict)}
    assert {"engine", "reference"} <= set(exact)
    assert all(found == {"images": 20, "unequal": 0} for found in exact.values())

    told = json.loads(call("finetune", yaml, "--epochs", 1, "--out", out, "--config-path", result, "--json"))
    assert told["acc_frozen"] == pytest.approx(body["metrics"]["acc_student"] / 100)
    for name in ("lenet5", told["file"]):
        tuned = json.loads(
            call("eval", "--model", name, "--config-path", told["result"], "--out", out, "--split", "val", "--json")
        )
        assert tuned["acc_modified"] == pytest.approx(100 * told["acc_student"])
        assert tuned["acc_baseline"] == pytest.approx(100 * told["acc_teacher"])

    page = json.loads(call("report", result, "--out", out, "--images", 100, "--json"))
    assert [curve["name"] for curve in page["curves"]] == ["default"]
    assert page["cost"]["images"] == 256
    page = json.loads(call("report", told["result"], "--out", out, "--json"))
    assert page["findings"][-1]["kind"] == "tuned"
    assert page["acc_teacher"] == pytest.approx(100 * told["acc_teacher"])
