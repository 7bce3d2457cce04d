"""Of two kernels one runs, as the spikes decide; the answer is the same on both sides of the crossover."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops.lif import LIFParams, pack_spikes
from sparseflow.ops.spike_layer import LayerWeights, Source, _build, cuda, event, gate, pack_layer, spike_layer
from sparseflow.ops.spike_layer.gate import FEW, MANY, answer, decide, set_bits


def share(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 2, 3), (0, 4, 4, 2), (2, 7, 1, 4)])
def test_every_bit_is_counted(shape: tuple[int, ...]) -> None:
    words = torch.randint(-(2**31), 2**31, shape, dtype=torch.int64).to(torch.int32)
    want = sum(bin(int(word) & 0xFFFFFFFF).count("1") for word in words.flatten())
    assert set_bits(words) == want
    assert decide(words, 32 * shape[-1], share(0.0))[0] == want


def test_the_answer_changes_above_the_crossover() -> None:
    words = pack_spikes((torch.arange(1000) < 250).float().reshape(1, 10, 10, 10))
    answers = [int(decide(words, 10, share(c))[gate.ANSWER]) for c in (0.0, 0.249, 0.25, 0.251, 1.0)]
    assert answers == [MANY, MANY, FEW, FEW, FEW]
    assert int(decide(words * 0, 10, share(0.0))[gate.ANSWER]) == FEW
    state = decide(words, 10, share(0.1))
    assert answer(state).tolist() == [MANY]
    assert answer(state).dtype == torch.int32
    assert answer(state).data_ptr() == state.data_ptr() + 16


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand-ins of both kernels: the dense one, into the output that is given, if the gate is open."""
    ran: list[str] = []

    def stand_in(name: str) -> Any:
        def run(
            sources: Any, weights: LayerWeights, *, gate: tuple[Tensor, int], into: Any = None, **given: Any
        ) -> tuple[Tensor, Tensor | None]:
            plain = pack_layer([weights.tensors["plain"]], weights.tensors["bias"], weights.params, kernel="dense")
            y, v = spike_layer(sources, plain, **given)
            out = torch.full_like(y, 0x5A5A5A5A) if into is None else into
            last = None if v is None else torch.full_like(v, float("nan"))
            if int(gate[0]) == gate[1]:
                ran.append(name)
                out.copy_(y)
                last = v
            return out, last

        return run

    monkeypatch.setattr(_build, "refusal", lambda device: None)
    monkeypatch.setattr(event, "spike_layer", stand_in("event"))
    monkeypatch.setattr(cuda, "spike_layer", stand_in("cuda"))
    return ran


@pytest.mark.parametrize("keep_v", [False, True])
@pytest.mark.parametrize("crossover", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("density", [0.0, 0.3, 0.31, 1.0])
def test_one_side_writes_and_the_answer_is_the_same(
    sides: list[str], density: float, crossover: float, keep_v: bool
) -> None:
    torch.manual_seed(0)
    x = torch.zeros(4 * 2 * 9 * 5 * 5)
    x[torch.randperm(len(x))[: round(density * len(x))]] = 1
    source = Source(pack_spikes(x.reshape(8, 9, 5, 5)), 9, 1, (3, 3), (1, 1), (1, 1))
    weight, bias, params = torch.randn(6, 9, 3, 3), torch.randn(6), LIFParams()
    weights = pack_layer([weight], bias, params, kernel="gated", crossover=crossover)
    assert weights.tensors["crossover"].tolist() == [crossover]
    assert {"few.weights", "few.constants", "many.weights", "many.constants"} <= weights.tensors.keys()
    plain = {f"{s}.{k}": t for s in ("few", "many") for k, t in (("plain", weight), ("bias", bias))}
    weights = replace(weights, tensors={"crossover": weights.tensors["crossover"], **plain})
    want = spike_layer([source], pack_layer([weight], bias, params, kernel="dense"), steps=4, keep_v=keep_v)
    for _ in range(2):
        y, v = spike_layer([source], weights, steps=4, keep_v=keep_v)
        assert torch.equal(y, want[0])
        assert (v is None) == (not keep_v)
        if v is not None and want[1] is not None:
            assert torch.equal(v, want[1])
    many = float(x.mean(dtype=torch.float64)) > crossover
    assert sides == (["cuda"] * 2 if many else ["event"] * 2)


def test_weights_of_8_bits_are_for_many_spikes() -> None:
    weight = torch.randint(-8, 9, (6, 9, 3, 3)) / 16
    made = pack_layer([weight], None, LIFParams(), kernel="gated", crossover=0.5, precision="int8")
    assert made.tensors["many.weights"].dtype == torch.int8
    assert made.tensors["few.weights"].dtype == torch.float16
    assert made.precision == "int8"


def test_refusals() -> None:
    weight = torch.ones(2, 3, 1, 1)
    for crossover in (None, -0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="crossover"):
            pack_layer([weight], None, LIFParams(), kernel="gated", crossover=crossover)
    with pytest.raises(UnsupportedError, match="'event'"):
        pack_layer([weight], None, None, kernel="gated", crossover=0.1)
    made = pack_layer([weight], None, LIFParams(), kernel="gated", crossover=0.1)
    with pytest.raises(UnsupportedError, match=r"'gated'.*compute capability"):
        spike_layer([Source(pack_spikes(torch.ones(1, 3, 2, 2)), 3)], made, steps=1)


@pytest.mark.skipif(_build.compiler() is None, reason="no CUDA compiler")
@pytest.mark.parametrize("vec", [0, 1])
def test_the_count_compiles(vec: int) -> None:
    assert gate.NAME.encode() in _build.cubin({"VEC": vec}, gate.NAME)


@pytest.mark.gpu
@pytest.mark.parametrize("offset", [0, 1])
def test_counts_on_the_device(offset: int) -> None:
    flat = torch.randint(0, 2**31 - 1, (128 * 28 * 28 * 4 + offset,), dtype=torch.int32, device="cuda")
    words = flat[offset:].view(128, 28, 28, 4)
    state = decide(words, 128, share(0.5).cuda())
    assert int(state[0]) == set_bits(words)
    assert int(state[gate.ANSWER]) == int(set_bits(words) > words.numel() * 16)
