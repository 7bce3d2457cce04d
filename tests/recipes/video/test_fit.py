import json

import pytest
import torch

from sparseflow.errors import ConfigError, DataError, MeasurementError
from sparseflow.recipes.video.fit import fit
from sparseflow.recipes.video.network import build
from sparseflow.recipes.video.sources import open_sources
from tests.video_runs import small_video


def run(config):
    train, test = open_sources(config, torch.device("cpu"))
    torch.manual_seed(config.seed)
    model = build(config, classes=len(train.classes), channels=train.channels)
    return model, fit(model, config, train, test, progress=False)


def test_a_line_an_epoch(tmp_path):
    config = small_video(tmp_path, epochs=3, eval_every=2)
    model, lines = run(config)
    assert not model.training
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert ["test" in line for line in lines] == [False, True, False]
    assert all(line["steps"] == 4 and line["keep_token"] == 0.5 for line in lines)
    assert lines[-1]["lr"] == pytest.approx(0.0, abs=1e-12)
    assert [json.loads(t) for t in (config.folder / "metrics.jsonl").read_text().splitlines()] == lines


def test_tokens_are_left_behind_from_a_share_of_the_steps_on(tmp_path):
    model, lines = run(small_video(tmp_path, epochs=4, prune_from=0.5))
    assert [line["keep_token"] for line in lines] == [1.0, 1.0, 0.5, 0.5]
    assert not model.pruner.idle


def test_the_state_of_the_last_epoch_is_saved_however_seldom(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr("sparseflow.recipes.video.fit.save_state", lambda *given: saved.append(given[-1]))
    run(small_video(tmp_path, epochs=5, save_every=2))
    assert saved == [2, 4, 5]


def test_it_learns(tmp_path):
    more = {"digits": {"digit": 8, "speeds": [4], "still": 0, "clutter": 0}, "clips": 512, "lr": 3e-3, "epochs": 10}
    _, lines = run(small_video(tmp_path, **more, batch_size=32, warmup_epochs=1))
    assert lines[-1]["loss"] < 0.85 * lines[0]["loss"]
    assert lines[-1]["top1"] > 0.22


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path):
    more = {"epochs": 3, "model_args": small_video(tmp_path).model_args | {"drop_path_rate": 0.3, "drop_rate": 0.1}}
    whole, lines = run(small_video(tmp_path / "whole", **more))

    class Stopped(Exception):
        pass

    config = small_video(tmp_path / "cut", **more)
    train, _ = open_sources(config, torch.device("cpu"))
    plain = train.epoch

    def until_the_third(size, seed, share=slice(None)):
        for i, found in enumerate(plain(size, seed, share)):
            if seed == 2 and i == 1:
                raise Stopped
            yield found

    train.epoch = until_the_third
    torch.manual_seed(0)
    model = build(config, classes=16, channels=1)
    with pytest.raises(Stopped):
        fit(model, config, train, progress=False)
    again, seen = run(config)
    for (name, a), b in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert [line["loss"] for line in lines] == [line["loss"] for line in seen]
    with pytest.raises(ConfigError, match="another configuration"):
        run(small_video(tmp_path / "cut", **more | {"lr": 1e-3}))


def test_too_few_clips_and_a_loss_that_is_lost(tmp_path):
    with pytest.raises(DataError, match="8 clips to train on, and a step takes 16"):
        run(small_video(tmp_path / "a", clips=8, batch_size=16))
    with pytest.raises(MeasurementError, match="lower lr="):
        run(small_video(tmp_path / "b", lr=1e30, clip=0.0, epochs=4))
