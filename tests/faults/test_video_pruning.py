"""Faults of the earlier video pruning: each is shown as it was, and the present form does not have it.

The numbers are those of the list of faults.
"""

import pytest
import torch
import torch.nn.functional as F

from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.nn.models.video_vit.cost import block_flops
from sparseflow.nn.prune import ASTPruner, Tokens
from sparseflow.nn.prune.entropy import time_entropy
from sparseflow.ops.window_entropy.reference import distributions, entropy, over_windows
from tests.tolerances import assert_near

SIZES = {
    "img_size": 24, "num_frames": 4, "num_classes": 5, "embed_dim": 24, "depth": 2, "num_heads": 3, "mlp_ratio": 2.0,
    "patch_size": 8,
}  # fmt: skip


def network(**cfg):
    torch.manual_seed(0)
    model = VideoViT(**SIZES, use_ast_prune=bool(cfg), ast_cfg=cfg or None).eval()
    torch.manual_seed(1)
    for name, p in model.named_parameters():
        if not name.startswith("pruner."):
            p.data.normal_(std=0.3)
    return model


def clip():
    return torch.randn(2, 4, 3, 24, 24, generator=torch.Generator().manual_seed(2))


def trained_gates(form):
    cfg = {"keep_head": 0.25, "ast_loss": form, "lambda_head": 1.0, "lambda_binary": 0.0}
    pruner = ASTPruner({"patch_grid_h": 3, "patch_grid_w": 3, **cfg}, 24, 8, 2, 9)
    optimizer = torch.optim.Adam(pruner.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        w = pruner.get_head_gates()
        pruner.compute_L_AST(0.5, 1 - w.mean(), 0.0, 0.0).backward()
        optimizer.step()
    return float(pruner.get_head_gates().detach().mean())


def test_1_the_plain_sum_rewards_density_and_tracking_reaches_its_target():
    assert trained_gates("spec") > 0.99
    assert trained_gates("tracking") == pytest.approx(0.25, abs=0.02)


def test_2_gates_start_open():
    dense, x = network(), clip()
    want = dense(x)

    def distance(**cfg):
        gated = network(keep=1.0, keep_head=0.5, keep_channel=0.5, keep_block=0.5, **cfg)
        if cfg.get("gate_init", 3.0) == 3.0:
            mild = (gated(x) - want).abs().max().item()
            gated.pruner.set_temperature(0.1)
            assert_near(gated(x).detach(), want.detach(), "video_vit")
            return mild
        return (gated(x) - want).abs().max().item()

    assert distance() < 0.5 * distance(gate_init=0.0)


def test_3_what_is_left_behind_is_gone_where_a_factor_is_undone():
    x = torch.randn(1, 5, 8)
    assert_near(F.layer_norm(0.1 * x, (8,), eps=1e-9), F.layer_norm(x, (8,), eps=1e-9), "video_vit")
    model = network(keep=0.5, prune_before=0)
    pruner, kept = model.pruner, 18
    score = torch.rand(2, 36)
    first, second = torch.randn(2, 36, 24), torch.randn(2, 36, 24)
    got = pruner.reduce(Tokens(x=first, score=score), 0, 36)
    assert got.x.shape[1] == kept
    # Other values at the places that are left behind change nothing.
    mixed = second.scatter(1, got.position.unsqueeze(-1).expand(-1, -1, 24), got.x)
    again = pruner.reduce(Tokens(x=mixed, score=score), 0, 36)
    assert torch.equal(again.x, got.x)
    # Positions were added before, and travel with their tokens.
    _, places = model._with_positions(torch.zeros(2, 4, 9, 24))
    moved = pruner.reduce(Tokens(x=places, score=score), 0, 36)
    for row, place in enumerate(got.position[1].tolist()):
        assert torch.equal(moved.x[1, row], places[1, place])


def test_4_attention_crosses_frames_heads_are_gated_one_by_one_and_samples_apart():
    model, x = network(), clip()
    features = model.patch_embed(x)
    _, tokens = model._with_positions(features)
    other = tokens.clone()
    other[:, 0] = 5 * torch.randn(2, 24)
    changed = (model.blocks[0](other)[0] - model.blocks[0](tokens)[0]).abs().amax(2)
    assert bool((changed[:, 27:].amax(1) > 1e-3).all())
    gate = torch.tensor([1.0, 0.0, 0.5])
    one_by_one = model.blocks[0](tokens, head=gate)[0]
    collapsed = model.blocks[0](tokens, head=gate.mean().expand(3))[0]
    assert float((one_by_one - collapsed).abs().max()) > 1e-2
    cuts = [[(0, 4)], [(0, 2), (2, 4)]]

    def over_time(features):
        found = over_windows(distributions(features), [(0, 4), (0, 2), (2, 4)]).unbind(1)
        return time_entropy(dict(zip([(0, 4), (0, 2), (2, 4)], found, strict=True)), cuts)

    found = over_time(features)
    assert found.shape == (2, 9)
    for b in range(2):
        assert_near(over_time(features[b : b + 1])[0], found[b], "video_vit")
    assert bool(entropy(torch.tensor([1.0, 0.0])).isfinite())


def test_5_small_activations_are_told_apart():
    torch.manual_seed(0)
    x = 0.05 * torch.randn(1, 8, 49, 192)
    raw, mended = (entropy(distributions(x, standardize=s)) for s in (False, True))
    spacing = 2.0**-7 * 4
    assert float(raw.std()) < 0.02 * spacing
    assert len(raw.bfloat16().unique()) == 1
    assert float(mended.std()) > 100 * float(raw.std())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(entropy(distributions(x)), mended)
    # Motion tells what stands still from what moves, at equal entropies.
    still, moving = x[:, :1].expand(-1, 8, -1, -1), x
    change = [
        (entropy(p.mean(1)) - entropy(p).mean(1)).mean() for p in map(distributions, (still, moving))
    ]  # fmt: skip
    assert abs(float(change[0])) < 1e-5
    assert float(change[1]) > 0.1


def dead_frames(**cfg):
    """How many of 8 frames keep no token, where one half of the clip is busier within its frames than the other."""
    torch.manual_seed(3)
    x = torch.randn(1, 8, 16, 32)
    x[:, 4:] = 8 * x[:, 4:, :1] + 0.1 * x[:, 4:]
    pruner = ASTPruner({"patch_grid_h": 4, "patch_grid_w": 4, "keep": 0.25, **cfg}, 32, 2, 2, 16).eval()
    mask, _ = pruner.forward_token_gating(x)
    return int((mask.sum((2, 3)) == 0).sum())


def test_6_no_frame_dies():
    assert dead_frames(region_importance="space", min_keep_frame=0, space_weight=4.0) >= 3
    assert dead_frames(region_importance="time", space_weight=4.0) == 0


def test_7_a_fixed_share_gives_no_signal_and_a_learned_one_does():
    model = network(keep=0.5, min_keep_frame=0).train()
    _, info = model(clip(), return_intermediate=True)
    assert "token" not in model.pruner.targets()
    assert not info["L_AST"].requires_grad
    model = network(keep=0.5, learn_keep=True, score_head=True, lambda_token=1.0).train()
    model.pruner.keep_logits.data += 1.0
    logits, info = model(clip(), return_intermediate=True)
    info["L_AST"].backward(retain_graph=True)
    assert model.pruner.keep_logits.grad.item() > 0
    model.pruner.keep_logits.grad = None
    logits.square().sum().backward()
    assert model.pruner.keep_logits.grad.item() != 0
    assert bool(model.pruner.scorer.head.weight.grad.abs().sum() > 0)


def test_8_operations_count_all_tokens_and_follow_the_gates():
    model = network(keep=0.5, keep_head=0.5, keep_channel=0.5, keep_block=0.5)
    args = model.args
    tokens, c, hidden = 36, 24, 48
    assert block_flops(args, 0, tokens) == 8 * tokens * c * c + 4 * tokens**2 * c + 4 * tokens * c * hidden
    _, info = model.train()(clip(), return_intermediate=True)
    info["flops"].sum().backward()
    for gate in (model.pruner.head_gate, model.pruner.channel_gate, model.pruner.block_gate):
        assert bool((gate.logits.grad > 0).all())
