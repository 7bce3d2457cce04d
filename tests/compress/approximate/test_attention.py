"""Attention transfer: the fast form on codes against the definition on real maps."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from sparseflow.compress.approximate.attention import AttentionWeights, TeacherMap, attention_loss, taps_for
from sparseflow.errors import ConfigError
from tests.tolerances import relative


@dataclass
class Tap:
    name: str
    kind: str = "conv"


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 128, shape, generator=g).float()
    return codes * (torch.rand(shape, generator=g) > 0.6)


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (2, 1, 1, 1), (4, 1100, 2, 2), (3, 7), (1, 2, 9), (2, 3, 40, 40)])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_losses_are_those_of_the_definition(shape: tuple[int, ...], kind: torch.dtype) -> None:
    k, scale = 3, 0.037
    teacher = maps(*shape)
    student = torch.cat([teacher, maps(*shape, seed=1), torch.zeros(shape)])
    student[len(teacher) : 2 * len(teacher), : shape[1] // 2] = 0
    weights = AttentionWeights(l1=0.4, cosine=0.7, features=0.9)
    for largest in (127, 255):
        got = TeacherMap(teacher.to(kind), scale, weights, largest=largest).loss(student.to(kind))
        repeated = teacher.repeat(k, *[1] * (len(shape) - 1))
        want = attention_loss(student.double() * scale, repeated.double() * scale, weights)
        assert got.shape == (k, len(teacher))
        assert (got.flatten() - want).abs().max() <= relative("triseg_attention", torch.float64)
    assert got[0].abs().max() <= relative("triseg_attention", torch.float64)


def test_the_definition_is_the_documents() -> None:
    s, t = maps(2, 3, 4, 4).double(), maps(2, 3, 4, 4, seed=5).double()
    a, b = (x.pow(2).sum(1).sqrt().flatten(1).softmax(1) for x in (s, t))
    normal = [F.normalize(x.flatten(2), dim=2) for x in (s, t)]
    want = F.mse_loss(a, b) + 0.5 * F.l1_loss(a, b) + 0.3 * (1 - F.cosine_similarity(a, b)).mean()
    want = want + 0.5 * F.mse_loss(*normal)
    assert float(attention_loss(s, t).mean()) == pytest.approx(float(want), abs=1e-12)


def test_taps() -> None:
    alexnet = [Tap(f"conv{i}") for i in range(1, 6)] + [Tap("fc1", "linear"), Tap("fc2", "linear")]
    assert taps_for(alexnet, model="alexnet") == ("conv3", "conv4", "conv5")
    assert taps_for(alexnet, model="mine") == ("conv3", "conv4", "conv5")
    assert taps_for(alexnet, names=["conv3", "conv4", "fc1"]) == ("conv3", "conv4", "fc1")
    assert taps_for([Tap("a")], model="alexnet") == ("a",)
    assert taps_for([Tap("f", "linear")]) == ("f",)
    with pytest.raises(ConfigError, match="did you mean conv3"):
        taps_for(alexnet, names=["convv3"])


def test_weights_are_checked() -> None:
    with pytest.raises(ConfigError, match="l1 is -1"):
        AttentionWeights(l1=-1)
