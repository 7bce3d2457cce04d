"""Faults of the earlier project's command line, and of the files that people give it: one line that names the mend."""

import json

import pytest
from typer.testing import CliRunner

from sparseflow.cli import app
from sparseflow.recipes.triseg.teacher import QAT
from tests.triseg_teachers import save_teacher

LAYERS = ("conv1", "conv2", "fc1", "fc2")
GOOD = {"t1_code": 3, "v1_code": 6, "t2_code": 12, "v2_code": 20, "tmax_code": 40}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    save_teacher(folder)
    return folder


def call(*arguments):
    return CliRunner().invoke(app, ["triseg", *map(str, arguments)])


def body(**changed):
    found = {
        "layers": {name: dict(GOOD) for name in LAYERS},
        "backend": "fbgemm",
        "model": "lenet5",
        "selection": "constrained-best (drop=1.5% <= 2.0%)",
        "metrics": {"acc_teacher": 92.5, "acc_student": 91.0, "acc_drop": 1.5},
    }
    return {**found, **changed}


def refused(result, *said):
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for word in said:
        assert word in result.stderr


def test_help_of_every_command_is_shown():
    """A bare % in a help text made the earlier project's --help raise."""
    names = "train-float train-qat search finetune eval report variance percentiles coverage sensitivity dump edit"
    for line in ("", *names.split(" ")):
        result = call(*line.split(), "--help")
        assert result.exit_code == 0, result.output
        assert "Usage" in result.output


def test_a_missing_checkpoint_names_its_file_and_what_makes_it(tmp_path):
    for command in ("search", "eval", "sensitivity", "finetune"):
        refused(call(command, "--model", "vgg16", "--out", tmp_path), "vgg16_qat_preconvert.safetensors", "train-qat")
    refused(call("train-qat", "--model", "vgg16", "--out", tmp_path), "vgg16_float_unfused", "train-float")


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / QAT.format(model="lenet5")
    path.write_bytes(b"no safetensors")
    refused(call("search", "--model", "lenet5", "--out", tmp_path), str(path), "train-qat")


CODES = [
    ({"layers": {**body()["layers"], "fc1": {**GOOD, "t1_code": 30}}}, ("fc1", "t1_code 30 is above t2_code 12")),
    ({"layers": {**body()["layers"], "fc1": {**GOOD, "tmax_code": 300}}}, ("fc1", "0 to 255")),
    ({"layers": {**body()["layers"], "fc1": {"t1_code": 3}}}, ("fc1", "v1_code")),
    ({"layers": {"conv1": GOOD, "conv2": GOOD, "fc1": GOOD, "fc3": GOOD}}, ("fc3", "no site")),
    ({"layers": {}}, ("layers",)),
    ({"model": "alexnet"}, ("alexnet", "lenet5")),
    ({"schema_version": 9}, ("schema_version is 9",)),
]


@pytest.mark.parametrize(("changed", "said"), CODES)
@pytest.mark.parametrize("command", ["eval", "sensitivity", "finetune", "report"])
def test_a_result_that_does_not_fit_is_refused_with_file_layer_and_mend(out, tmp_path, command, changed, said):
    path = tmp_path / "found.json"
    path.write_text(json.dumps(body(**changed)))
    given = (path,) if command == "report" else ("--config-path", path)
    refused(call(command, *given, "--model", "lenet5", "--out", out), "found.json", *said)


def test_a_result_that_is_no_json_is_named(out, tmp_path):
    path = tmp_path / "found.json"
    path.write_text('{"layers": ')
    refused(call("eval", "--config-path", path, "--model", "lenet5", "--out", out), "found.json", "no valid JSON")
    refused(call("eval", "--config-path", tmp_path / "none.json", "--model", "lenet5", "--out", out), "none.json")


def test_a_folder_that_is_not_cifar_is_named(out, tmp_path):
    (tmp_path / "pictures").mkdir()
    for command in (("search",), ("eval", "--int8"), ("variance",), ("train-float",), ("finetune",)):
        given = (*command, "--model", "lenet5", "--out", out, "--data")
        refused(call(*given, tmp_path / "pictures"), "pictures", "holds no CIFAR-10", "cifar-10-batches-py")
        refused(call(*given, tmp_path / "nothing"), "nothing", "no folder")
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (batches / name).write_bytes(b"\x80\x04nothing of the kind")
    refused(call("search", "--model", "lenet5", "--out", out, "--data", tmp_path), "data_batch_1")


def test_a_layer_that_the_network_does_not_have_is_named(out):
    refused(call("search", "--model", "lenet5", "--out", out, "--layers", "conv9"), "conv9", "conv1, conv2, fc1, fc2")
