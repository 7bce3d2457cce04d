import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.nn.prune import naive
from sparseflow.nn.prune.config import PruneConfig
from sparseflow.nn.prune.score import TokenScore


def settings(grid, **given):
    return PruneConfig(patch_grid_h=grid[0], patch_grid_w=grid[1], **given)


@pytest.mark.parametrize("mode", ["levels", "sliding"])
@pytest.mark.parametrize("score", ["entropy", "motion"])
@pytest.mark.parametrize("importance", ["time", "space"])
@pytest.mark.parametrize(("times", "grid"), [(6, (4, 4)), (5, (3, 5))])
def test_scores_are_the_naive_loop(mode, score, importance, times, grid):
    config = settings(
        grid, entropy_mode=mode, score=score, region_importance=importance, motion_weight=0.25,
        time_window_levels=(1, 2, 4), time_overlap=0.5, entropy_tau=0.7,
    )  # fmt: skip
    torch.manual_seed(0)
    x = torch.randn(2, times, grid[0] * grid[1], 6, dtype=torch.float64)
    got = TokenScore(config, 6)(x)
    want = torch.tensor([naive.score(sample, config, grid) for sample in x.tolist()], dtype=torch.float64)
    assert float((got - want).abs().max()) <= 1e-6


def test_literal_importance_is_the_same_everywhere():
    x = torch.randn(1, 4, 16, 8)
    with_it = TokenScore(settings((4, 4), region_importance="space"), 8)(x)
    without = TokenScore(settings((4, 4), region_importance="space", region_weight=0.0), 8)(x)
    shift = with_it - without
    assert float(shift.max() - shift.min()) < 1e-6
    mended = TokenScore(settings((4, 4)), 8)(x) - TokenScore(settings((4, 4), region_weight=0.0), 8)(x)
    assert float(mended.max() - mended.min()) > 1e-3


@pytest.mark.parametrize("mode", ["levels", "sliding"])
def test_autocast_changes_nothing(mode):
    scorer = TokenScore(settings((4, 4), entropy_mode=mode, score_head=True), 8)
    x = torch.randn(2, 4, 16, 8)
    want = scorer(x)
    with torch.autocast("cpu", torch.bfloat16):
        got = scorer(x)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


def test_a_learned_score_is_added():
    scorer = TokenScore(settings((4, 4), score_head=True), 8)
    plain = TokenScore(settings((4, 4)), 8)
    x = torch.randn(1, 2, 16, 8)
    want = plain(x) + scorer.head(scorer.norm(x)).squeeze(-1)
    torch.testing.assert_close(scorer(x), want)


def test_other_shapes_are_refused():
    with pytest.raises(ConfigError, match="4 x 4"):
        TokenScore(settings((4, 4)), 8)(torch.zeros(1, 2, 15, 8))


@pytest.mark.parametrize("mode", ["levels", "sliding"])
@pytest.mark.parametrize("score", ["entropy", "motion"])
def test_the_fused_operator_gives_the_same_scores(monkeypatch, mode, score):
    triton = pytest.importorskip("sparseflow.ops.window_entropy.triton", reason="needs triton")
    scorer = TokenScore(settings((3, 5), entropy_mode=mode, score=score, motion_weight=0.5), 20)
    x = torch.randn(2, 5, 15, 20)
    want = scorer(x)
    called = []

    def run(x, windows, members, *, tau, standardize):
        called.append(len(windows))
        return triton.forward(x, windows, members, tau, standardize)

    monkeypatch.setattr("sparseflow.nn.prune.score.fused", lambda features: True)
    monkeypatch.setattr("sparseflow.nn.prune.score.window_entropy", run)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    got = scorer.to(device)(x.to(device)).cpu()
    assert called
    assert float((got - want).abs().max()) < 1e-4


def test_a_scorer_in_half_precision_weighs_patches_in_single(monkeypatch):
    triton = pytest.importorskip("sparseflow.ops.window_entropy.triton", reason="needs triton")
    scorer = TokenScore(settings((7, 9)), 20)
    x = torch.randn(2, 5, 63, 20).bfloat16()
    want = scorer(x.float())
    seen = []

    def run(x, windows, members, *, tau, standardize):
        seen.append(members)
        return triton.forward(x, windows, members, tau, standardize)

    monkeypatch.setattr("sparseflow.nn.prune.score.fused", lambda features: True)
    monkeypatch.setattr("sparseflow.nn.prune.score.window_entropy", run)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    got = scorer.to(device, torch.bfloat16)(x.to(device)).cpu()
    assert seen[0].dtype == torch.float32
    assert float((seen[0].sum(1) - 1).abs().max()) < 1e-6
    assert float((got - want).abs().max()) < 1e-4
