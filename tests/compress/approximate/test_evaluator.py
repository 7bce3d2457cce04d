"""Scores of many configurations at once equal those one by one."""

import pytest
import torch
from torch import Tensor

from sparseflow.compress.approximate import RewardConfig, sample_codes
from sparseflow.compress.approximate.attention import taps_for
from sparseflow.compress.approximate.evaluator import Evaluator, reference_scores
from sparseflow.compress.quantize import IntegerNet, Site, find_sites, prepare_qat, to_integer
from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.triseg import tables
from sparseflow.trace import capture
from tests.quantized_nets import NETS, net
from tests.tolerances import relative


def built(name: str) -> tuple[IntegerNet, tuple[Site, ...], Tensor, Tensor]:
    model, x = net(name, batch=7)
    sites = tuple(find_sites(capture(model, x)))
    return to_integer(prepare_qat(model, x)), sites, x, torch.arange(7) % 10


@pytest.mark.parametrize("name", list(NETS))
@pytest.mark.parametrize(("mode", "share"), [("pass", True), ("clip", False)])
def test_scores_equal_the_reference(name: str, mode: str, share: bool) -> None:
    made, sites, x, y = built(name)
    codes = sample_codes([30] * len(sites), 5, seed=2)
    taps = taps_for(sites)
    want = reference_scores(made, sites, x, codes, y, taps=taps, mode=mode)
    for batch, at_once in ((7, 5), (3, 2), (1, 1)):
        evaluator = Evaluator(
            made, sites, x, y, taps=taps, mode=mode, batch=batch, candidates=at_once, share=share
        )  # fmt: skip
        got = evaluator.score(codes)
        for part in ("kd", "at", "reward", "agreement", "accuracy"):
            difference = (getattr(got, part) - getattr(want, part)).abs().max()
            assert difference <= relative("triseg_reward", torch.float64), part
        assert evaluator.teacher_accuracy == pytest.approx(float((made(x).argmax(1) == y).double().mean()))


def test_a_configuration_always_gets_the_same_score() -> None:
    made, sites, x, y = built("residual")
    codes = sample_codes([30] * len(sites), 6, seed=3)
    taps = taps_for(sites)
    first = Evaluator(made, sites, x, y, taps=taps).score(codes)
    other = Evaluator(made, sites, x, y, taps=taps, candidates=4)
    assert torch.equal(other.score(codes.flip(0)).reward.flip(0), first.reward)
    assert torch.equal(other.score(codes[[2, 2, 4]]).kd, first.kd[[2, 2, 4]])
    other.forget()
    assert torch.equal(other.score(codes[1:2]).at, first.at[1:2])


def test_nothing_is_computed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    made, sites, x, _ = built("lenet")
    evaluator = Evaluator(made, sites, x)
    computed: list[int] = []
    inner = evaluator._compute
    monkeypatch.setattr(evaluator, "_compute", lambda codes: (computed.append(len(codes)), inner(codes))[1])
    codes = sample_codes([30] * len(sites), 3, seed=4)
    got = evaluator.score(torch.cat([codes, codes, codes[:1]]))
    assert computed == [3]
    assert torch.equal(got.reward[:3], got.reward[3:6])
    assert got.accuracy.isnan().all()
    assert len(evaluator.score(codes[:0])) == 0


def test_without_attention_and_without_change() -> None:
    made, sites, x, y = built("chain")
    config = RewardConfig(attention=0.0, temperature=3.0)
    codes = sample_codes([30] * len(sites), 2, seed=5)
    got = Evaluator(made, sites, x, y, taps=taps_for(sites), config=config).score(codes)
    want = reference_scores(made, sites, x, codes, y, config=config)
    assert torch.equal(got.reward, -got.kd)
    assert (got.reward - want.reward).abs().max() <= relative("triseg_reward", torch.float64)
    # Codes up to 7 leave a table that changes 1 to 7 alone.
    assert tables(torch.tensor([1, 2, 3, 4, 5]))[8:].tolist() == list(range(8, 256))


def test_refusals() -> None:
    made, sites, x, y = built("lenet")
    with pytest.raises(DataError, match="7 images with 3 labels"):
        Evaluator(made, sites, x, y[:3])
    with pytest.raises(ConfigError, match="no site conv9"):
        Evaluator(made, sites, x, taps=["conv9"])
    with pytest.raises(ConfigError, match="mode is"):
        Evaluator(made, sites, x, mode="wrap")
    with pytest.raises(ConfigError, match="batch is 0"):
        Evaluator(made, sites, x, batch=0)
    codes = sample_codes([30] * len(sites), 2, seed=6)
    with pytest.raises(ConfigError, match="there are"):
        Evaluator(made, sites, x).score(codes[:, 1:])
    with pytest.raises(ConfigError, match=r"expected \[K, L, 5\]"):
        Evaluator(made, sites, x).score(codes[0])
    with pytest.raises(ConfigError, match="v2 is 150"):
        Evaluator(made, sites, x).score(torch.tensor([[[1, 2, 3, 150, 160]]]).expand(1, len(sites), 5).contiguous())


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(NETS))
def test_cuda_scores_are_those_of_the_cpu(name: str) -> None:
    made, sites, x, y = built(name)
    codes = sample_codes([30] * len(sites), 5, seed=2)
    want = Evaluator(made, sites, x, y, taps=taps_for(sites)).score(codes)
    got = Evaluator(made.cuda(), sites, x.cuda(), y.cuda(), taps=taps_for(sites)).score(codes)
    assert (got.reward - want.reward).abs().max() <= relative("triseg_reward", torch.float64)
    assert torch.equal(got.agreement, want.agreement)
