import json
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from sparseflow import data
from sparseflow.errors import ConfigError, DataError, MeasurementError
from sparseflow.nn import models
from sparseflow.recipes import spike_train
from sparseflow.recipes.spike_train import SpikeTrainConfig, evaluate, load_checkpoint, train

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("spike_*.yaml"))


@pytest.fixture
def config(tmp_path, monkeypatch):
    small = data.cifar10_subset().take(96)
    monkeypatch.setattr(spike_train.data, "cifar10", lambda path, split: small)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield SpikeTrainConfig(
        model="csnn",
        model_args={"channels": 4, "steps": 2},
        data_path="here",
        out=str(tmp_path / "run"),
        epochs=3,
        batch_size=32,
        lr=0.05,
        warmup_epochs=0.5,
        eval_every=1,
        device="cpu",
    )
    torch.set_num_threads(threads)


def lines(config):
    text = (Path(config.out) / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_trains_and_writes_what_it_returns(config):
    record = train(config, progress=False)
    assert [line["epoch"] for line in lines(config)] == [0, 1, 2]
    assert lines(config)[-1]["loss"] < lines(config)[0]["loss"]
    assert json.loads((Path(config.out) / "checkpoint.json").read_text()) == record
    model, stored = load_checkpoint(str(Path(config.out) / "checkpoint.safetensors"))
    assert stored == record
    accuracy, density = evaluate(model, data.cifar10_subset().take(96))
    assert accuracy == record["test_accuracy"]
    assert density == record["density"]
    assert set(density) == {"features.conv2", "classifier.fc1", "classifier.fc2"}


def test_an_interrupted_run_goes_on_bit_for_bit(config, monkeypatch):
    straight = replace(config, out=config.out + "_straight")
    train(straight, progress=False)
    real = spike_train._augmented

    def killed(config, images, pixels, labels, epoch):
        for i, batch in enumerate(real(config, images, pixels, labels, epoch)):
            if (epoch, i) == (1, 1):
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(spike_train, "_augmented", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config, progress=False)
    assert len(lines(config)) == 1
    monkeypatch.setattr(spike_train, "_augmented", real)
    train(config, progress=False)
    for got, want in zip(lines(config), lines(straight), strict=True):
        assert {k: v for k, v in got.items() if k != "train_s"} == {k: v for k, v in want.items() if k != "train_s"}
    got, want = (load_file(Path(c.out) / "checkpoint.safetensors") for c in (config, straight))
    assert all(torch.equal(got[key], want[key]) for key in want)


def test_a_finished_run_is_only_measured_again(config):
    first = train(replace(config, epochs=1), progress=False)
    again = train(replace(config, epochs=1), progress=False)
    assert again["test_accuracy"] == first["test_accuracy"]
    assert len(lines(config)) == 1


def test_adamw_resumes_too(config):
    adamw = replace(config, optimizer="adamw", lr=1e-3, epochs=1)
    train(adamw, progress=False)
    assert train(adamw, progress=False)["test_images"] == 96


def test_a_run_of_another_configuration_is_not_touched(config):
    train(replace(config, epochs=1), progress=False)
    with pytest.raises(ConfigError, match="another configuration"):
        train(replace(config, epochs=1, lr=0.01), progress=False)


def test_a_damaged_state_is_named(config):
    out = Path(config.out)
    out.mkdir()
    (out / "state.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match=r"state\.safetensors is damaged"):
        train(config, progress=False)


def test_rates_are_pushed_between_the_bounds(config):
    pushed = replace(config, epochs=4, rate_weight=1.0, rate_low=0.01, rate_high=0.02, lr=0.02)
    free = replace(pushed, rate_weight=0.0, out=config.out + "_free")
    train(pushed, progress=False)
    train(free, progress=False)
    last, other = (lines(c)[-1]["rates"] for c in (pushed, free))
    assert all(last[name] < other[name] for name in last)


def test_weights_end_in_bytes_and_a_resumed_run_ends_the_same(config):
    bytes_ = replace(config, grid_bits=8, grid_share=0.5, fused=True)
    record = train(bytes_, progress=False)
    path = Path(config.out) / "checkpoint.safetensors"
    want = load_file(path)
    assert want["features.conv2.weight"].dtype == torch.int8
    model, _ = load_checkpoint(str(path))
    accuracy, density = evaluate(model, data.cifar10_subset().take(96))
    assert (accuracy, density) == (record["test_accuracy"], record["density"])
    path.unlink()
    train(bytes_, progress=False)
    assert all(torch.equal(a, want[k]) for k, a in load_file(path).items())


def test_a_run_by_the_clock_fits_its_schedule_to_it(config, monkeypatch):
    # A clock that ticks when it is read: a busy machine changes nothing.
    ticks = count(100.0, 0.05)
    monkeypatch.setattr(spike_train, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    record = train(replace(config, minutes=0.05, epochs=1000, grid_bits=8), progress=False)
    assert 3.0 <= record["train_s"] < 3.5
    assert record["epochs"] == len(lines(config)) >= 2
    rates = [line["lr"] for line in lines(config)]
    assert rates[-1] < 0.1 * max(rates)
    assert not (Path(config.out) / "state.safetensors").exists()


def test_images_are_trained_at_the_size_asked_for(config, monkeypatch):
    sizes = set()
    real = spike_train.resized
    monkeypatch.setattr(spike_train, "resized", lambda x, side: real(x, side) if sizes.add(side) is None else x)
    record = train(replace(config, epochs=1, image_size=16), progress=False)
    assert sizes == {16}
    assert record["config"]["image_size"] == 16


def test_phases_grow_the_images_and_go_on_from_their_files(config):
    phases = [[16, 0.25, "analog"], [16, 0.25], [32, 0.5]]
    deep = replace(config, model="spiking_resnet18", model_args={"width": 4, "steps": 2}, start="threshold", clip=1.0)
    phased = replace(deep, epochs=4, phases=phases)
    record = train(phased, progress=False)
    seen = [(line["side"], line["analog"]) for line in lines(phased)]
    assert seen == [(16, True), (16, False), (32, False), (32, False)]
    assert record["config"]["phases"] == phases
    path = Path(phased.out) / "phase1.safetensors"
    model, stored = load_checkpoint(str(path))
    assert (stored["phase"], stored["side"], stored["share"]) == (1, 16, 0.25)
    frozen = replace(deep, epochs=1, lr=1e-12, start="plain", init_from=str(path), out=config.out + "_on")
    train(frozen, progress=False)
    on = load_file(Path(frozen.out) / "state.safetensors")
    assert all(torch.allclose(p, on[f"model.{name}"]) for name, p in model.named_parameters())


def test_an_analog_phase_takes_the_batches_of_all_steps_at_once(config, monkeypatch):
    sizes = []
    real = spike_train.resized

    def note(x, side):
        sizes.append(len(x))
        return real(x, side)

    monkeypatch.setattr(spike_train, "resized", note)
    phases = [[28, 0.5, "analog"], [28, 0.5]]
    model = {"model": "csnn", "model_args": {"channels": 4, "steps": 2, "image_size": 28}}
    train(replace(config, **model, epochs=2, batch_size=32, phases=phases), progress=False)
    # 96 images: two batches at once and a third that is left out, then three with spikes.
    assert sizes[1:] == [64, 32, 32, 32]


def test_a_network_that_rounds_its_image_ends_with_exact_currents_of_the_first_layer(config):
    small = {"model": "spiking_resnet18", "model_args": {"steps": 2, "width": 8, "input_bits": 8}}
    phases = [[16, 0.5, "analog"], [16, 0.5]]
    train(replace(config, **small, epochs=2, phases=phases, grid_bits=8, image_size=16), progress=False)
    model, _ = load_checkpoint(str(Path(config.out) / "checkpoint.safetensors"))
    x = model.grid(data.cifar10_subset().take(4).normalize(data.cifar10_subset().take(4).images))
    exact = torch.nn.functional.conv2d(x.double(), model.conv1.weight.double(), None, 1, 1)
    with torch.no_grad():
        for order in (x, x.to(memory_format=torch.channels_last)):
            assert torch.equal(model.conv1(order).double(), exact)


def test_a_network_of_one_size_takes_no_phases_of_several(config):
    with pytest.raises(ConfigError, match="csnn is built for one image size"):
        train(replace(config, phases=[[16, 0.5], [32, 0.5]]), progress=False)


def test_divergence_is_an_error(config):
    with pytest.raises(MeasurementError, match="lower lr"):
        train(replace(config, lr=1e30, warmup_epochs=0), progress=False)


def test_augmentation_only_moves_mirrors_and_blanks(config):
    images = data.cifar10_subset().take(32)
    plain = replace(config, crop_padding=0, flip=False, cutout=0)
    ((x, y),) = spike_train._augmented(plain, images, images.images, images.labels, 0)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(x, images.normalize(images.images[order]))
    assert torch.equal(y, images.labels[order])
    ((x, _),) = spike_train._augmented(replace(plain, flip=True), images, images.images, images.labels, 0)
    want = images.normalize(images.images[order])
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(x, want, strict=True)]
    assert 0 < sum(mirrored) < 32
    assert all(m or torch.equal(a, b) for m, a, b in zip(mirrored, x, want, strict=True))
    ((x, _),) = spike_train._augmented(replace(plain, cutout=8), images, images.images, images.labels, 0)
    blank = (x == 0).all(1).sum((1, 2))
    assert blank.max() == 64
    assert blank.min() >= 9
    ((x, _),) = spike_train._augmented(replace(plain, crop_padding=4), images, images.images, images.labels, 0)
    assert x.shape == (32, 3, 32, 32)


def test_learning_rate_warms_up_and_falls_to_zero(config):
    rates = [spike_train._rate(replace(config, epochs=10, warmup_epochs=1, lr=1.0), s / 100) for s in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == pytest.approx(1.0, rel=1e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3


def test_the_regulariser_sees_every_layer_behind_spikes():
    names = [name for name, _ in spike_train.fed_layers(models.build("spiking_vgg9"))]
    assert names == [*(f"features.conv{i}" for i in range(2, 8)), "classifier.fc1", "classifier.fc2"]


@pytest.mark.parametrize("path", CONFIGS, ids=[p.stem for p in CONFIGS])
def test_shipped_configurations(path):
    config = SpikeTrainConfig.from_yaml(path)
    assert SpikeTrainConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("name", "path"),
    [("spiking_vgg9_cifar10", "spike_vgg9_cifar10"), ("sew_resnet18_cifar10", "spike_sew18_cifar10")],
)
def test_the_shipped_networks_were_trained_as_their_configurations_say(name, path):
    _, record = load_checkpoint(name)
    config = asdict(SpikeTrainConfig.from_yaml(next(p for p in CONFIGS if p.stem == path)))
    minutes, planned = record["config"].pop("minutes", None), config.pop("minutes")
    assert minutes == (None if planned is None else pytest.approx(planned, rel=1e-3))
    assert all(config[key] == value for key, value in record["config"].items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "unknown settings epoch"),
        ("- 1", "holds no settings"),
        ("a: [", "cannot read"),
        ("epochs: 0", "epochs"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        SpikeTrainConfig.from_yaml(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "vgg"},
        {"dataset": "imagenet"},
        {"lr": float("nan")},
        {"cutout": -1},
        {"rate_low": 0.5},
        {"amp": "float16"},
        {"optimizer": "lion"},
        {"minutes": 0},
        {"image_size": -1},
        {"grid_bits": 1},
        {"grid_bits": 9},
        {"grid_share": 1.5},
    ],
)
def test_bad_settings(changes):
    with pytest.raises(ConfigError):
        SpikeTrainConfig(**changes)


def test_no_data_or_no_device(config, monkeypatch):
    with pytest.raises(ConfigError, match="data_path is not set"):
        train(replace(config, data_path=None), progress=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        train(replace(config, device="cuda"), progress=False)
