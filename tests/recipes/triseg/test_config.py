import json

import pytest

from sparseflow.compress.approximate import TmaxRule
from sparseflow.errors import ConfigError
from sparseflow.recipes.triseg.config import FinetuneConfig, QatConfig, TrainConfig


@pytest.mark.parametrize("kind", [TrainConfig, QatConfig, FinetuneConfig])
def test_settings_survive_json(kind):
    config = kind(model="alexnet", minutes=2.0, milestones=(0.2, 0.4), model_args={"width": 0.5})
    body = json.loads(json.dumps(config.to_dict(all=True)))
    body["milestones"] = tuple(body["milestones"])
    if "tmax" in body:
        body["tmax"] = TmaxRule(**body["tmax"])
    assert kind(**body) == config
    assert "out" not in config.to_dict()


def test_defaults_are_the_recipe_of_the_earlier_project():
    plain, qat = TrainConfig(), QatConfig()
    assert (plain.epochs, plain.lr, plain.weight_decay, plain.milestones) == (20, 0.01, 1e-3, (0.3, 0.6))
    assert (qat.epochs, qat.lr, qat.weight_decay, qat.milestones) == (10, 1e-3, 5e-4, (0.5, 0.75))
    assert (plain.batch_size, plain.momentum, plain.degrees, plain.erasing) == (128, 0.9, 15.0, 0.5)
    assert (qat.freeze_at, qat.float_epochs) == (0.6, 2.0)
    assert QatConfig(epochs=1).float_epochs == 0.2
    assert QatConfig(epochs=1, warmup_float_epochs=0).float_epochs == 0


def test_each_stage_has_a_folder_of_its_own():
    folders = [kind(model="a.py:net").folder.as_posix() for kind in (TrainConfig, QatConfig, FinetuneConfig)]
    assert folders == [f"outputs/runs/net_{stage}_seed0" for stage in ("float", "qat", "finetuned_pass")]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (TrainConfig, {"optimizer": "rmsprop"}),
        (TrainConfig, {"schedule": "linear"}),
        (TrainConfig, {"precision": "int4"}),
        (TrainConfig, {"device": "tpu"}),
        (TrainConfig, {"epochs": 0}),
        (TrainConfig, {"lr": float("nan")}),
        (TrainConfig, {"weight_decay": -1.0}),
        (TrainConfig, {"momentum": 1.0}),
        (TrainConfig, {"erasing": 1.5}),
        (TrainConfig, {"cutmix": 1.5, "mixup": 1.0}),
        (TrainConfig, {"cutmix": 0.5}),
        (TrainConfig, {"nesterov": True, "momentum": 0.0}),
        (TrainConfig, {"minutes": 0.0}),
        (TrainConfig, {"milestones": (0.6, 0.3)}),
        (QatConfig, {"freeze_at": 1.0}),
        (QatConfig, {"warmup_float_epochs": 10.0}),
        (QatConfig, {"averaging": 0.0}),
        (QatConfig, {"calib_batches": 0}),
        (QatConfig, {"batch_size": 0}),
        (FinetuneConfig, {"mode": "wrap"}),
        (FinetuneConfig, {"code_rule": "guess"}),
        (FinetuneConfig, {"code_share": 2.0}),
        (FinetuneConfig, {"code_lr": -0.1}),
        (FinetuneConfig, {"window": 0}),
    ],
)
def test_settings_out_of_range_are_refused_by_name(kind, settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        kind(**settings)
