import json

import pytest
from typer.testing import CliRunner

from sparseflow.cli import app
from sparseflow.compress.approximate import TmaxRule
from sparseflow.errors import ConfigError
from sparseflow.recipes.triseg import config as settings
from sparseflow.recipes.triseg import finetune, qat, search, train


def call(*arguments):
    return CliRunner().invoke(app, ["triseg", *map(str, arguments)])


@pytest.fixture
def seen(monkeypatch):
    """What the recipes are called with; they return made-up records."""
    found = []
    record = {
        "val_accuracy": 0.9, "float_val": 0.91, "acc_teacher": 0.9, "acc_frozen": 0.8, "acc_student": 0.89,
        "val_images": 10, "file": "a.safetensors", "result": "r.json",
    }  # fmt: skip

    def take(config, progress):
        found.append(config)
        return record

    for module, name in ((train, "train_float"), (qat, "train_qat"), (finetune, "finetune_triseg")):
        monkeypatch.setattr(module, name, take)
    return found


def test_the_help_shows_the_way_and_every_command():
    text = call("--help").output
    for name in ("train-float", "train-qat", "finetune", "variance", "percentiles", "coverage", "sensitivity", "dump"):
        assert name in text
    for name in ("train-float", "train-qat", "finetune", "coverage"):
        result = call(name, "--help")
        assert result.exit_code == 0
        assert "Example" in result.output


def test_the_documented_commands_are_understood(seen):
    line = "train-float --model alexnet --epochs 20 --lr 0.01 --batch-size 128"
    assert call(*line.split()).exit_code == 0
    line = "train-qat --model alexnet --qat-epochs 10 --qat-lr 0.001 --batch-size 128 --warmup-float-epochs 2"
    assert call(*line.split()).exit_code == 0
    assert seen == [
        settings.TrainConfig(model="alexnet", epochs=20, lr=0.01, batch_size=128),
        settings.QatConfig(model="alexnet", epochs=10, lr=0.001, batch_size=128, warmup_float_epochs=2.0),
    ]


def test_defaults_are_those_of_the_earlier_project(seen):
    for name in ("train-float", "train-qat"):
        assert call(name).exit_code == 0
    first, second = seen
    assert (first.model, first.epochs, first.lr, first.batch_size) == ("vgg16", 20, 0.01, 128)
    assert (second.epochs, second.lr, second.calib_batches, second.float_epochs) == (10, 1e-3, 8, 2)


def test_options_override_the_file(seen, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("model: lenet5\nepochs: 5\nmilestones: [0.5]\n")
    result = call("train-float", path, "--epochs", "2", "--data", "x", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert seen == [settings.TrainConfig(model="lenet5", epochs=2, data="x", out=str(tmp_path), milestones=(0.5,))]
    assert "lenet5: 90.00 % on 10 val images" in result.stdout
    assert "a.safetensors" in result.stdout


def test_finetune_speaks_of_labels_and_of_the_teacher(seen):
    result = call("finetune", "--alpha", "0.25", "--kd-T", "3", "--mode", "saturate", "--config-path", "r.json")
    assert result.exit_code == 0, result.output
    (config,) = seen
    assert (config.kd_weight, config.kd_t, config.mode, config.config_path) == (0.75, 3.0, "saturate", "r.json")
    assert "frozen 80.00 %, fine-tuned 89.00 %" in result.stdout
    assert json.loads(call("finetune", "--json").stdout)["result"] == "r.json"


@pytest.fixture
def searched(monkeypatch):
    """What the search is called with; it ends there."""
    found = []

    def take(config, progress):
        found.append(config)
        raise ConfigError("stopped here")

    monkeypatch.setattr(search, "search", take)
    return found


def test_the_documented_search_is_understood(searched):
    line = "--model alexnet --backend fbgemm --lr 0.0003 --episodes 10000 --batch-size 32 --calib-batches 16"
    line += " --eval-every 10000 --result-file alexnet_exp1.json --max-acc-drop 3.0"
    call("search", *line.split(" "))
    assert searched == [
        search.SearchConfig(
            model="alexnet", lr=3e-4, episodes=10000, batch_size=32, calib_batches=16, eval_every=10000,
            result_file="alexnet_exp1.json", max_acc_drop=3.0,
        )
    ]  # fmt: skip


def test_settings_within_settings_keep_what_the_file_says(searched, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("method: tpe\ntmax: {mode: percentile, percentile: 80.0, offset: 5}\nreward: {temperature: 3.0}\n")
    call("search", path, "--tmax-offset", "7", "--attention-weight", "50", "--layers", "conv1", "--layers", "fc1")
    (config,) = searched
    assert (config.method, config.layers) == ("tpe", ("conv1", "fc1"))
    assert config.tmax == TmaxRule(mode="percentile", percentile=80.0, offset=7)
    assert (config.reward.temperature, config.reward.attention) == (3.0, 50.0)
    call("search")
    assert searched[1] == search.SearchConfig()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train-float", "missing.yaml"], "missing.yaml"),
        (["train-float", "--device", "tpu"], "tpu"),
        (["train-float", "--model", "alexnit"], "alexnit"),
        (["train-float", "--model", "lenet5", "--data", "/no/cifar"], "/no/cifar"),
        (["train-qat", "--model", "lenet5"], "train-float --model lenet5"),
        (["finetune", "--model", "nin"], "nin_qat_preconvert.safetensors"),
        (["finetune", "--mode", "wrap"], "wrap"),
        (["search", "--model", "nin"], "nin_qat_preconvert.safetensors"),
        (["search", "--method", "magic"], "ppo-original"),
        (["search", "--result-file", "a/b.json"], "a/b.json"),
        (["search", "--tmax-mode", "half"], "half"),
    ],
)
def test_bad_input_is_named_in_one_line(arguments, message, tmp_path):
    result = call(*arguments, "--out", tmp_path)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
