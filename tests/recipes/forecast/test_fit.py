import copy
import json

import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError, DataError, MeasurementError
from sparseflow.recipes.forecast.dataset import open_task
from sparseflow.recipes.forecast.fit import _Run, fit, has_stopped, val_loss
from sparseflow.recipes.forecast.score import score
from tests.forecast_runs import small_config


class Line(nn.Module):
    """A linear forecaster with dropout, so that random numbers matter."""

    def __init__(self, length=12, f=4):
        super().__init__()
        self.drop, self.map = nn.Dropout(0.3), nn.Linear(length, f)

    def forward(self, x):
        return self.map(self.drop(x))


def start(config):
    torch.manual_seed(config.seed)
    return Line(), open_task(config)


def run(config):
    model, task = start(config)
    return model, fit(model, config, task, progress=False)


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def told(lines):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_it_learns_and_keeps_the_best_on_val(tmp_path):
    config = small_config(tmp_path, epochs=6, sigma=0.3)
    model, task = start(config)
    before = val_loss(model, task.part("val"), task.targets, 512)
    lines = fit(model, config, task, progress=False)
    losses = [line["val"] for line in lines]
    assert min(losses) < 0.8 * before
    assert val_loss(model, task.part("val"), task.targets, 5) == pytest.approx(min(losses), rel=1e-6)
    assert [line["lr"] for line in lines] == [config.rate(e) for e in range(6)]
    kept = [line["val"] for line in lines if line["kept"]]
    assert kept == sorted(kept, reverse=True)
    assert not model.training


def test_val_loss_is_the_mean_absolute_error(tmp_path):
    config = small_config(tmp_path)
    model, task = start(config)
    for targets in ((0, 1, 2), (1,)):
        want = score(model, task.part("val"), targets=targets).mae
        assert val_loss(model, task.part("val"), targets, 4) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize(("stop", "ema"), [(1, 0.0), (2, 0.9), (4, 0.0)])
def test_a_run_that_was_stopped_ends_bit_equal(tmp_path, monkeypatch, stop, ema):
    whole, lines = run(small_config(tmp_path, epochs=5, ema=ema, out=str(tmp_path / "whole")))
    config = small_config(tmp_path, epochs=5, ema=ema, out=str(tmp_path / "cut"))
    from sparseflow.recipes.forecast import fit as module

    saved = module.save_state

    def die(folder, identity, model, optimizer, epoch):
        # After the line was written and before the state was: the worst moment.
        if epoch == stop + 1:
            raise KeyboardInterrupt
        saved(folder, identity, model, optimizer, epoch)

    monkeypatch.setattr(module, "save_state", die)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    monkeypatch.setattr(module, "save_state", saved)
    again, more = run(config)
    assert same(whole, again)
    assert told(more) == told(lines)
    written = (config.folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in written] == list(range(len(lines)))


def test_a_run_that_is_done_is_not_trained_again_but_may_be_longer(tmp_path):
    first, lines = run(small_config(tmp_path, epochs=2))
    again, same_lines = run(small_config(tmp_path, epochs=2))
    assert same(first, again)
    assert same_lines == lines
    _, longer = run(small_config(tmp_path, epochs=4))
    _, at_once = run(small_config(tmp_path, epochs=4, out=str(tmp_path / "b")))
    assert told(longer) == told(at_once)


def test_it_stops_when_val_rises(tmp_path, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 1.5, 9.0])
    monkeypatch.setattr("sparseflow.recipes.forecast.fit.val_loss", lambda *_: next(losses))
    _, lines = run(small_config(tmp_path, epochs=9, patience=2))
    assert [line["val"] for line in lines] == [3.0, 1.0, 2.0, 1.5]
    assert [line["kept"] for line in lines] == [True, True, False, False]


def test_patience_counts_from_the_best():
    assert not has_stopped([], 1)
    assert not has_stopped([5.0, 4.0, 4.5, 4.4], 3)
    assert has_stopped([5.0, 4.0, 4.5, 4.4, 4.1], 3)
    assert not has_stopped([5.0, 4.0, 4.5, 4.4, 3.9], 3)


def test_a_mean_that_forgets_nothing_stays_with_the_first_epoch(tmp_path):
    first, _ = run(small_config(tmp_path, epochs=1, out=str(tmp_path / "a")))
    kept, lines = run(small_config(tmp_path, epochs=4, ema=1 - 1e-15, out=str(tmp_path / "b")))
    assert same(first, kept)
    assert len({line["val"] for line in lines}) == 1
    assert lines[3]["loss"] < lines[0]["loss"]


def test_a_mean_follows_the_weights_of_every_step():
    model = Line()
    follower = _Run(model, 0.75)
    follow = follower.follow()
    before = copy.deepcopy(follower.mean)
    with torch.no_grad():
        model.map.weight.add_(1.0)
    follow()
    torch.testing.assert_close(follower.mean.map.weight, before.map.weight + 0.25)
    assert torch.equal(follower.mean.map.bias, before.map.bias)
    assert follower.judged is follower.mean
    alone = _Run(model, 0.0)
    assert alone.follow() is None
    assert alone.judged is model


def test_another_run_in_the_folder_is_refused(tmp_path):
    run(small_config(tmp_path, epochs=1))
    with pytest.raises(ConfigError, match="another configuration"):
        run(small_config(tmp_path, epochs=1, lr=0.5))


def test_faults_are_named(tmp_path):
    with pytest.raises(DataError, match="lower batch_size"):
        run(small_config(tmp_path, batch_size=98))
    with pytest.raises(DataError, match="lower batch_size"):
        run(small_config(tmp_path, train_limit=8))
    with pytest.raises(MeasurementError, match="lower lr"):
        run(small_config(tmp_path, lr=1e37, epochs=2))


def test_the_first_windows_alone_may_be_used(tmp_path):
    _, lines = run(small_config(tmp_path, train_limit=16, epochs=1))
    assert len(lines) == 1
