import pytest
import torch

from sparseflow.compress.sparsify import tune_gpu
from sparseflow.nn import models
from sparseflow.recipes.spike_bench.gpu import prebuild
from sparseflow.recipes.spike_bench.gpu.prebuild import build_share, only_share


def test_every_layer_is_in_one_share_and_the_tuner_comes_back(monkeypatch):
    seen = []
    monkeypatch.setattr(tune_gpu._Tuner, "time", lambda self, name: seen.append(name) or tune_gpu.Timed())
    before = tune_gpu._Tuner.time
    for number in range(3):
        with only_share(number, 3):
            for name in range(7):
                tune_gpu._Tuner.time(None, name)
    assert sorted(seen) == list(range(7))
    assert seen[:3] == [0, 3, 6]
    with pytest.raises(RuntimeError), only_share(0, 2):
        raise RuntimeError
    assert tune_gpu._Tuner.time is before


def test_a_share_is_built_by_optimising(monkeypatch):
    made = []

    def fake(model, x, precision):
        made.append((type(model).__name__, precision, tune_gpu._Tuner.time.__name__))

    monkeypatch.setattr(prebuild, "optimized", fake)
    before = tune_gpu._Tuner.time
    build_share(models.build("csnn", channels=4), torch.rand(1, 1, 28, 28), "fp16", 0, 2)
    assert len(made) == 1
    assert made[0][1] == "fp16"
    assert tune_gpu._Tuner.time is before
