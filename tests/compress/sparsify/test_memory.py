"""Times are found again by layer, kernel, target and threads, and by nothing less."""

from pathlib import Path

import pytest
import torch

from sparseflow.compress.sparsify.memory import PACKED, Memory, _source
from sparseflow.hardware import load_target
from sparseflow.records import Store
from sparseflow.trace import trace
from tests.spiking_nets import chain


def test_recalls_what_was_kept(tmp_path: Path) -> None:
    target = load_target("cpu", describe=False)
    model, x = chain()
    workload = trace(model, x)
    layer, other = workload.layer("features.4"), workload.layer("features.8")
    memory = Memory(Store(tmp_path / "records.sqlite"), target)
    assert memory.recall(layer, ("dense", "event")) is None
    memory.keep(layer, {"dense": 2.0, "event": 1.0})
    again = Memory(Store(tmp_path / "records.sqlite"), target)
    assert again.recall(layer, ("dense", "event")) == {"dense": 2.0, "event": 1.0}
    assert again.recall(layer, ("dense", "event", "amx")) is None
    assert again.recall(layer, ("dense",), "ConvNeuronBlock") is None
    assert again.recall(other, ("dense",)) is None
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    assert again.recall(layer, ("dense",)) is None
    torch.set_num_threads(threads)
    assert Memory(Store(tmp_path / "records.sqlite"), load_target("h200")).recall(layer, ("dense",)) is None


def test_times_of_other_code_are_not_recalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = chain()
    layer = trace(model, x).layer("features.4")
    memory = Memory(Store(tmp_path / "records.sqlite"), load_target("cpu", describe=False))
    memory.keep(layer, {"event": 1.0})
    assert memory.recall(layer, ("event",)) == {"event": 1.0}
    monkeypatch.setattr("sparseflow.compress.sparsify.memory.op_source", lambda *_: "kernels built anew")
    assert memory.recall(layer, ("event",)) is None


def test_without_a_store() -> None:
    memory = Memory(None, load_target("h200"))
    model, x = chain()
    layer = trace(model, x).layer("features.4")
    memory.keep(layer, {"dense": 1.0})
    assert memory.recall(layer, ("dense",)) is None


def test_without_a_store_packed_layers_are_remembered_for_one_run() -> None:
    memory = Memory(None, load_target("h200"))
    model, x = chain()
    layer = trace(model, x).layer("features.4")
    form = f"{PACKED}fp16 on a GPU"
    memory.keep(layer, {"cuda": 1.0, "event": 2.0}, form)
    assert memory.recall(layer, ("cuda", "event"), form) == {"cuda": 1.0, "event": 2.0}
    assert memory.recall(layer, ("cuda", "small"), form) is None
    assert memory.recall(layer, ("cuda",), f"{form}, gated") is None
    assert Memory(None, load_target("h200")).recall(layer, ("cuda",), form) is None


def test_packed_layers_follow_the_text_of_their_own_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[list[str]] = []

    def hashed(*parts: object) -> str:
        texts.append([p.name for p in parts if isinstance(p, Path)])
        return str(len(texts))

    monkeypatch.setattr("sparseflow.compress.sparsify.memory.source_hash", hashed)
    _source.cache_clear()
    for form in ("", "ConvNeuronBlock", f"{PACKED}fp16 on some GPU"):
        _source("conv2d_spike", form)
    _source.cache_clear()
    assert texts[:2] == [[], ["spike_block.py"]]
    assert {"spike_layer_block.py", "cuda.py", "spike_layer.cu", "instructions.cuh"} <= set(texts[2])
