import json

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.video import VideoConfig


def test_the_defaults_are_the_seeds():
    c = VideoConfig()
    assert (c.lr, c.weight_decay, c.epochs, c.warmup_epochs, c.batch_size) == (3e-4, 0.05, 50, 5.0, 8)
    assert c.title == "digits_entropy_keep0.5"
    assert VideoConfig(mode="dense_baseline").folder.name == "digits_dense_seed0"
    assert VideoConfig(name="mine", seed=3).folder.name == "mine_seed3"


def test_json_round_trip():
    c = VideoConfig(ast_cfg={"keep": 0.25, "score": "tome"}, clip_lens=(4, 8), digits={"speeds": [1, 2]})
    assert VideoConfig.from_dict(json.loads(json.dumps(c.to_dict(all=True)))) == c
    assert c.title == "digits_tome_keep0.25"
    assert "out" not in c.to_dict()


def test_a_run_elsewhere_is_the_same_run():
    a, b = VideoConfig(), VideoConfig(out="b", device="cpu", workers=0, eval_every=5, graph=False, data="x")
    assert a.to_dict() == b.to_dict()
    assert a.to_dict() != VideoConfig(lr=1e-3).to_dict()


def test_the_rate_warms_up_and_falls():
    c = VideoConfig(lr=2.0, epochs=10, warmup_epochs=2)
    rates = [c.rate(i / 100) for i in range(101)]
    assert rates[0] == 0
    assert max(rates) == rates[20] == 2.0
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert VideoConfig(lr=1.0, epochs=2, warmup_epochs=5).rate(0.5) == 0.5
    assert VideoConfig(lr=1.0, warmup_epochs=0).rate(0.0) == 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dataset": "kinetics"}, "dataset is 'kinetics'; expected one of digits, jhmdb, ucf101"),
        ({"mode": "version_c_full"}, "mode is 'version_c_full'"),
        ({"epochs": 0}, "epochs is 0"),
        ({"save_every": 0}, "save_every is 0"),
        ({"warmup_epochs": -1}, "warmup_epochs is -1"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"batch_size": 8, "accumulate": 3}, "3 parts cannot divide it"),
        ({"model_args": {"num_classes": 3}}, "model_args sets num_classes"),
        ({"mode": "dense_baseline", "ast_cfg": {"keep": 0.5}}, "prunes nothing"),
        ({"prune_from": 1.0}, "prune_from is 1.0; expected 0 to below 1"),
        ({"dataset": "jhmdb"}, "does not ship"),
    ],
)
def test_bad_settings(given, message):
    with pytest.raises(ConfigError, match=message):
        VideoConfig(**given)
