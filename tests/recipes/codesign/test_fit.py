"""A fit learns a made-up device, writes what it learned, and leaves the unseen unseen."""

import pytest
import torch

from sparseflow.errors import ConfigError, DataError
from sparseflow.hardware import load_target
from sparseflow.hardware.proxy import LayerHwProxy, read_fitted, tabulate
from sparseflow.recipes.codesign.fit import FitConfig, fit, split
from sparseflow.recipes.codesign.measured_layers import SPACES, sampled, unseen
from sparseflow.recipes.codesign.measurements import Measured, Run, append, read


def made_up(path, count=260):
    """Write layers of a device that reaches half of its peaks and takes 5 µs to begin."""
    layers = sampled(SPACES["gpu"], count)
    table = tabulate(layers, load_target("h200"))
    append(path, Run(device="made up", kind="gpu", protocol="none", power_source="none"))
    for i, layer in enumerate(layers):
        bound = float(table.roofline_ms[i])
        lat_ms = 2 * bound + 0.005
        mem_mb = float(table.weight_mb[i] + table.ends_mb[i] + 0.5 * table.between_mb[i])
        append(
            path, Measured(layer=layer, lat_ms=lat_ms, iqr_ms=0.0, mem_mb=mem_mb, power_w=100 + 500 * bound / lat_ms)
        )
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("data") / "layers.jsonl")


def _config(data, path, **more):
    given = {"members": 2, "hidden": 48, "steps": 150, "batch": 64, "probes": 100, "shown": 0}
    return FitConfig(data=(str(data),), out=str(path / "proxy.safetensors"), tdp_w=700.0, **{**given, **more})


def test_the_three_parts_are_apart(data):
    _, layers, _ = read([data])
    parts = split(layers)
    assert sum(map(len, parts)) == len(layers)
    assert all(unseen(m.layer) for m in parts[2])
    pairs = [{(m.layer.kind, m.layer.channels, m.layer.tokens) for m in part} for part in parts]
    assert len(set.union(*pairs)) == sum(map(len, pairs))


def test_a_made_up_device_is_learned_and_unseen_sizes_are_near(data, tmp_path):
    told = []
    found = fit(_config(data, tmp_path), say=told.append)
    assert found["layers"]["train"] > 150
    assert len(told) == 3
    proxy = LayerHwProxy.load(found["out"])
    _, _, test = split(read([data])[1])
    predicted = proxy.predict_layers_batch([m.layer for m in test])
    for figure, bound in (("lat_ms", 0.2), ("mem_mb", 0.1), ("power_w", 0.2)):
        wanted = torch.tensor([getattr(m, figure) for m in test])
        assert (predicted[figure] / wanted - 1).abs().median() < bound


def test_figures_may_be_fitted_one_after_the_other(data, tmp_path):
    quick = {"steps": 3}
    fit(_config(data, tmp_path, figures=("lat_ms", "mem_mb"), **quick))
    with pytest.raises(DataError, match="power_w"):
        LayerHwProxy.load(tmp_path / "proxy.safetensors")
    before = read_fitted(tmp_path / "proxy.safetensors").models["lat_ms"].state_dict()
    fit(_config(data, tmp_path, figures=("power_w",), **quick))
    after = LayerHwProxy.load(tmp_path / "proxy.safetensors").models["lat_ms"].state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    with pytest.raises(ConfigError, match="h100"):
        fit(_config(data, tmp_path, figures=("power_w",), target="h100", **quick))


def test_equal_seeds_fit_equal_models(data, tmp_path):
    files = []
    for name in "ab":
        (tmp_path / name).mkdir()
        files.append(fit(_config(data, tmp_path / name, steps=5))["out"])
    states = [read_fitted(f).models["lat_ms"].state_dict() for f in files]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_too_little_is_refused(tmp_path):
    few = tmp_path / "few.jsonl"
    for m in read([made_up(tmp_path / "all.jsonl", 100)])[1][:10]:
        append(few, m)
    with pytest.raises(DataError, match="too few"):
        fit(_config(few, tmp_path))
    with pytest.raises(ConfigError, match="codesign measure"):
        FitConfig()
    with pytest.raises(ConfigError, match="figures"):
        FitConfig(data=("x",), figures=("area",))
