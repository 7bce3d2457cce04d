import json

import pytest
import torch
from torch import nn

from sparseflow.data import ImageSet
from sparseflow.errors import ConfigError, MeasurementError
from sparseflow.recipes.device import device_of
from sparseflow.recipes.triseg import fit as module
from sparseflow.recipes.triseg.config import TrainConfig
from sparseflow.recipes.triseg.fit import accuracy, fit, rate
from sparseflow.recipes.triseg.step import distilled


def images(n=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    pixels = torch.randint(0, 60, (n, 3, 8, 8), generator=generator)
    for label in range(3):
        pixels[labels == label, label] += 150
    return ImageSet(
        name="toy", split="train", images=pixels.to(torch.uint8), labels=labels, classes=("r", "g", "b"),
        mean=(0.3,) * 3, std=(0.3,) * 3,
    )  # fmt: skip


def model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(144, 3)
    )


def config(tmp_path, **more):
    settings = {"model": "toy.py:net", "out": str(tmp_path), "epochs": 4, "batch_size": 20, "lr": 0.05, "device": "cpu"}
    return TrainConfig(**(settings | more))


def weights(net):
    return {k: v.clone() for k, v in net.state_dict().items()}


def same(a, b):
    return all(torch.equal(v, b[k]) for k, v in a.items())


def test_training_learns_and_keeps_the_best_epoch(tmp_path):
    net, told = model(), []
    c = config(tmp_path, epochs=6)
    lines = fit(net, c, images(), images(30, 1), kept=lambda m, line: told.append((weights(m), line)), progress=False)
    assert len(lines) == 6
    best = max(lines, key=lambda line: line["val"])
    assert best["val"] > 0.9
    assert accuracy(net, images(30, 1), torch.device("cpu")) == best["val"]
    assert same(told[-1][0], weights(net))
    assert not net.training
    written = [json.loads(line) for line in (c.folder / "metrics.jsonl").read_text().splitlines()]
    assert written == lines


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_stopped_run_goes_on_as_if_it_had_not(tmp_path, ema):
    whole = model()
    lines = fit(whole, config(tmp_path / "a", ema=ema), images(), images(30, 1), progress=False)

    def stops(done):
        if done >= 0.5:
            raise KeyboardInterrupt

    broken = model()
    with pytest.raises(KeyboardInterrupt):
        fit(broken, config(tmp_path / "b", ema=ema), images(), images(30, 1), before_epoch=stops, progress=False)
    again = model(7)
    resumed = fit(again, config(tmp_path / "b", ema=ema), images(), images(30, 1), progress=False)
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in run] for run in (lines, resumed)]
    assert timeless[0] == timeless[1]
    assert same(weights(whole), weights(again))
    finished = fit(model(8), config(tmp_path / "b", ema=ema), images(), images(30, 1), progress=False)
    assert [line["val"] for line in finished] == [line["val"] for line in lines]


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    fit(model(), config(tmp_path), images(), images(30, 1), progress=False)
    with pytest.raises(ConfigError, match="another configuration"):
        fit(model(), config(tmp_path, lr=0.01), images(), images(30, 1), progress=False)


def test_a_run_by_the_clock_ends_and_keeps_no_state(tmp_path, monkeypatch):
    now = iter(range(0, 10_000, 2))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(now)))
    c = config(tmp_path, minutes=1.0)
    lines = fit(model(), c, images(), images(30, 1), progress=False)
    assert lines[-1]["done"] == 1.0
    assert 1 < len(lines) < 30
    assert not (c.folder / "state.safetensors").exists()


def test_a_run_without_time_makes_one_step(tmp_path):
    net = model()
    before = weights(net)
    lines = fit(net, config(tmp_path, minutes=1e-9), images(), images(30, 1), progress=False)
    assert [line["epoch"] for line in lines] == [0]
    assert not same(before, weights(net))


def test_the_guide_is_learned_from_and_may_have_nothing_yet(tmp_path):
    calls = []

    def guide(x):
        calls.append(len(x))
        return None if len(calls) < 4 else torch.zeros(len(x), 3)

    even = torch.zeros(30, 3)
    x = images(30, 1).normalize(images(30, 1).images)
    nets = []
    for weight in (0.0, 1.0):
        calls.clear()
        nets.append(model())
        c = config(tmp_path / str(weight), kd_weight=weight, epochs=8)
        fit(nets[-1], c, images(), images(30, 1), guide=guide, may_keep=lambda done: done == 1, progress=False)
        assert calls == [20] * 24
    apart, together = (distilled(net(x), even, 1.0).item() for net in nets)
    assert together < 0.5 * apart


def test_epochs_that_may_not_be_kept_are_not(tmp_path):
    lines = fit(model(), config(tmp_path), images(), images(30, 1), may_keep=lambda done: done >= 0.75, progress=False)
    assert [line["kept"] for line in lines[:2]] == [False, False]
    assert any(line["kept"] for line in lines[2:])


def test_averages_are_what_is_judged_and_kept(tmp_path):
    plain, averaged = model(), model()
    by_hand, steps = plain[0].weight.detach().clone(), 0

    def follow():
        nonlocal steps
        steps += 1
        decay = min(0.999, (1 + steps) / (10 + steps))
        by_hand.copy_(decay * by_hand + (1 - decay) * plain[0].weight.detach())

    settings = {"epochs": 1, "lr": 0.1}
    fit(plain, config(tmp_path / "a", **settings), images(), images(30, 1), after_step=follow, progress=False)
    c = config(tmp_path / "b", ema=0.999, **settings)
    told = []
    lines = fit(averaged, c, images(), images(30, 1), kept=lambda m, line: told.append(weights(m)), progress=False)
    assert steps > 1
    torch.testing.assert_close(averaged[0].weight.detach(), by_hand)
    assert (by_hand - plain[0].weight).abs().max() > 1e-4
    assert same(told[-1], weights(averaged))
    assert accuracy(averaged, images(30, 1), torch.device("cpu")) == lines[-1]["val"]


def test_a_start_that_is_never_beaten_is_kept(tmp_path):
    net, told = model(), []
    fit(net, config(tmp_path / "a", epochs=6), images(), images(30, 1), progress=False)
    good = weights(net)
    val = accuracy(net, images(30, 1), torch.device("cpu"))
    c = config(tmp_path / "b", epochs=2, lr=30.0)
    lines = fit(
        net, c, images(), images(30, 1), judge_start=True, kept=lambda m, line: told.append(line), progress=False
    )
    assert told[0] == {"epoch": -1, "val": val}
    assert all(line["val"] < val and not line["kept"] and line["best"] == val for line in lines)
    assert same(weights(net), good)
    again = fit(model(5), c, images(), images(30, 1), judge_start=True, progress=False)
    assert again == lines


def test_codes_have_a_rate_of_their_own(tmp_path):
    net = model()
    code = nn.Parameter(torch.zeros(3))
    net.register_parameter("code", code)
    net.register_forward_hook(lambda m, x, y: y + code)
    before = weights(net)
    fit(net, config(tmp_path, lr=1e-9, epochs=1, optimizer="adamw"), images(), images(30, 1), codes=[code], code_lr=0.5,
        progress=False)  # fmt: skip
    after = weights(net)
    assert (after["code"] - before["code"]).abs().max() > 0.1
    assert (after["0.weight"] - before["0.weight"]).abs().max() < 1e-6


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    net = model()
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(MeasurementError, match="lower lr"):
        fit(net, config(tmp_path), images(), images(30, 1), progress=False)


def test_rates_follow_the_schedule():
    cosine = TrainConfig(schedule="cosine", warmup=0.1)
    assert rate(cosine, 0.05) == pytest.approx(0.501)
    assert rate(cosine, 0.1) == 1.0
    assert rate(cosine, 0.55) == pytest.approx(0.5)
    assert rate(cosine, 1.0) == pytest.approx(0.0)
    step = TrainConfig(milestones=(0.5, 0.75), gamma=0.2)
    assert [rate(step, d) for d in (0.0, 0.5, 0.8)] == pytest.approx([1.0, 0.2, 0.04])


def test_accuracy_leaves_the_mode(tmp_path):
    net = model().train()
    got = accuracy(net, images(30), torch.device("cpu"), batch_size=7)
    assert net.training
    assert got == accuracy(net.eval(), images(30), torch.device("cpu"))


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(TrainConfig().device).type == "cpu"
    with pytest.raises(ConfigError, match="no CUDA device"):
        device_of(TrainConfig(device="cuda").device)
