import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.nn.prune import ASTPruner, Tokens

GRID = {"patch_grid_h": 4, "patch_grid_w": 4}


def pruner(**cfg):
    torch.manual_seed(0)
    return ASTPruner({**GRID, **cfg}, embed_dim=8, num_heads=2, depth=4, num_patches=16)


def features():
    torch.manual_seed(1)
    return torch.randn(3, 4, 16, 8)


@pytest.mark.parametrize("keep", [0.01, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("mode", ["levels", "sliding"])
def test_inference_keeps_exactly_k(keep, mode):
    mask, sparsity = pruner(keep=keep, entropy_mode=mode).eval().forward_token_gating(features())
    k = max(1, int(keep * 64))
    assert mask.shape == (3, 4, 16, 1)
    assert mask.flatten(1).sum(1).tolist() == [k] * 3
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert float(sparsity) == pytest.approx(1 - k / 64)


def test_training_weighs_softly_and_gives_gradients():
    module = pruner(keep=0.5, min_keep_frame=0).train()
    x = features().requires_grad_()
    mask, sparsity = module.forward_token_gating(x)
    assert 0 < float(mask.detach().min()) < float(mask.detach().max()) < 1
    kept = (mask.detach().flatten(1) >= 0.5).sum(1)
    assert kept.tolist() == [32] * 3
    sparsity.backward()
    assert bool(x.grad.isfinite().all())
    assert bool(x.grad.abs().sum() > 0)


def test_every_time_keeps_some():
    x = features()
    x[:, 0] *= 0.01
    x[:, 1:] = x[:, 1:2]
    mask, _ = pruner(keep=0.25, min_keep_frame=3).eval().forward_token_gating(x)
    assert bool((mask.sum((2, 3)) >= 3).all())


def test_gates_of_the_seed():
    module = pruner(keep_head=0.5, keep_channel=0.25, keep_block=0.75)
    assert module.get_head_gates().shape == (4, 2)
    assert module.get_channel_gates().shape == (4, 32)
    assert module.get_block_gates().shape == (4,)
    torch.testing.assert_close(module.get_block_gates(), torch.full((4,), 0.95257413))
    module.harden()
    assert (module.get_head_gates() > 0).sum(1).tolist() == [1] * 4
    assert (module.get_channel_gates() > 0).sum(1).tolist() == [8] * 4
    assert int((module.get_block_gates() > 0).sum()) == 3
    plain = pruner()
    assert bool((plain.get_head_gates() == 1).all())
    assert plain.gates() == {}


def test_loss_pulls_to_targets_and_spec_does_not():
    module = pruner(keep_head=0.5)
    loss = module.compute_L_AST(0.5, 1 - module.get_head_gates().mean(), 0.0, 0.0)
    loss.backward()
    assert bool((module.head_gate.logits.grad > 0).all())
    literal = pruner(keep_head=0.5, ast_loss="spec")
    literal.compute_L_AST(0.5, 1 - literal.get_head_gates().mean(), 0.0, 0.0).backward()
    assert bool((literal.head_gate.logits.grad < 0).all())
    weights = 0.1 * 0.5 + 0.1 * 0.2
    assert literal.compute_L_AST(0.5, 0.2, 0.7, 0.7).item() == pytest.approx(weights)


def test_binary_term():
    module = pruner(keep_head=0.5, lambda_binary=2.0)
    module.head_gate.logits.data.zero_()
    assert module.compute_L_AST(0.5, 0.5, 0.0, 0.0).item() == pytest.approx(2.0)


def test_stages_are_nested_and_learned_shares_start_at_their_schedule():
    schedule = {1: 0.75, 2: 0.5, 3: 0.25}
    module = pruner(keep_schedule=schedule, learn_keep=True)
    torch.testing.assert_close(module.keeps(), torch.tensor([0.75, 0.5, 0.25]))
    assert module.counts(64) == {1: 48, 2: 32, 3: 16}
    module.keep_logits.data += torch.tensor([-3.0, 4.0, 4.0])
    keeps = module.keeps().detach()
    assert bool((keeps[1:] <= keeps[:-1]).all())
    tokens = Tokens(x=torch.randn(3, 64, 8), score=module.lifted(module.eval().token_score(features())))
    seen = set(range(64))
    for block in schedule:
        tokens = module.reduce(tokens, block, 64)
        now = set(tokens.position[0].tolist())
        assert now <= seen
        assert len(now) == module.counts(64)[block]
        seen = now


def test_learned_shares_get_a_gradient_from_the_gate():
    module = pruner(keep=0.5, learn_keep=True).train()
    mask, _ = module.forward_token_gating(features())
    mask.sum().backward()
    assert module.keep_logits.grad.item() > 0


@pytest.mark.parametrize("score", ["uniform", "random", "evit", "tome"])
def test_rivals_leave_as_many(score):
    module = pruner(score=score, keep=0.25).eval()
    tokens = Tokens(x=torch.randn(3, 64, 8))
    seen = (torch.randn(3, 2, 64, 4), torch.randn(3, 2, 64, 4))
    got = module.reduce(tokens, 1, 64, seen)
    assert got.x.shape == (3, 16, 8)
    assert all(len(set(row)) == 16 for row in got.position.tolist())
    assert module.looks(1) == (score in ("evit", "tome"))
    with pytest.raises(ConfigError, match="no mask ahead"):
        module.forward_token_gating(features())


def test_a_learned_score_gets_a_gradient_through_a_hard_gate():
    module = pruner(gate="hard", score_head=True).train()
    score = module.token_score(features())
    got = module.reduce(Tokens(x=torch.randn(3, 64, 8), score=module.lifted(score)), 1, 64)
    assert got.x.shape[1] == 32
    assert not got.log_weight.detach().any()
    (got.log_weight * torch.randn(3, 32)).sum().backward()
    assert bool(module.scorer.head.weight.grad.abs().sum() > 0)


@pytest.mark.parametrize(
    ("cfg", "word"), [({"patch_grid_h": 3}, "expected 16"), ({"prune_before": 4}, "blocks 0 to 3"), ({"x": 1}, "x")]
)
def test_what_does_not_fit_is_refused(cfg, word):
    with pytest.raises(ConfigError, match=word):
        pruner(**cfg)


def test_an_idle_training_acts_nowhere_and_inference_always():
    module = pruner(keep_schedule={1: 0.5, 3: 0.25}, score="evit").train()
    assert [module.acts(i) for i in range(4)] == [module.looks(i) for i in range(4)] == [False, True, False, True]
    module.idle = True
    assert not any(module.acts(i) or module.looks(i) for i in range(4))
    assert module.eval().acts(1)
