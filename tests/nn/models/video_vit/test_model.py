import pytest
import torch

from sparseflow.errors import DataError
from sparseflow.nn.models.video_vit import VideoViT
from tests.tolerances import assert_near
from tests.torchvision_shim import install

SMALL = {
    "img_size": 24, "num_frames": 4, "num_classes": 5, "embed_dim": 24, "depth": 2, "num_heads": 3, "mlp_ratio": 2.0,
    "patch_size": 8,
}  # fmt: skip


def randomised(**given):
    torch.manual_seed(0)
    model = VideoViT(**{**SMALL, **given}).eval()
    for p in model.parameters():
        p.data.normal_(std=0.3)
    return model


def torchvision_encoder(model, length):
    """Return torchvision's encoder of image transformers with the weights of `model`."""
    if not install():
        pytest.skip("torchvision is not installed")
    from functools import partial

    from torchvision.models.vision_transformer import Encoder

    a = model.args
    norm = partial(torch.nn.LayerNorm, eps=a.norm_eps)
    encoder = Encoder(length, a.depth, a.num_heads, a.embed_dim, a.hidden[0], 0.0, 0.0, norm)
    layers = {f"encoder_layer_{i}": block.state_dict() for i, block in enumerate(model.blocks)}
    names = {
        "norm1": "ln_1", "attn.qkv.weight": "self_attention.in_proj_weight", "attn.qkv.bias":
        "self_attention.in_proj_bias", "attn.proj": "self_attention.out_proj", "norm2": "ln_2", "mlp.fc1": "mlp.0",
        "mlp.fc2": "mlp.3",
    }  # fmt: skip
    state = {f"ln.{k}": t for k, t in model.norm.state_dict().items()}
    state["pos_embedding"] = torch.zeros(1, length, a.embed_dim)
    for layer, tensors in layers.items():
        for key, tensor in tensors.items():
            ours = next(name for name in names if key.startswith(name))
            state[f"layers.{layer}.{key.replace(ours, names[ours], 1)}"] = tensor
    encoder.load_state_dict(state)
    return encoder.eval()


@pytest.mark.parametrize("positions", ["factored", "joint"])
def test_equals_a_plain_vit_with_a_class_token(positions):
    model = randomised(pool="cls", positions=positions)
    clip = torch.randn(2, 4, 3, 24, 24)
    tokens = model.patch_embed(clip)
    if positions == "factored":
        places = (model.pos_embed[0][None] + model.time_embed[0][:, None]).flatten(0, 1)
    else:
        places = model.pos_embed[0]
    sequence = torch.cat([model.cls_token.expand(2, -1, -1), tokens.flatten(1, 2) + places], 1)
    want = model.head(torchvision_encoder(model, 37)(sequence)[:, 0])
    assert_near(model(clip), want, "video_vit")


def test_equals_a_plain_vit_with_the_mean():
    model = randomised()
    clip = torch.randn(2, 4, 3, 24, 24)
    sequence = (model.patch_embed(clip) + model.pos_embed[:, None] + model.time_embed[:, :, None]).flatten(1, 2)
    encoder = torchvision_encoder(model, 36)
    encoder.ln = torch.nn.Identity()
    assert_near(model(clip), model.head(model.norm(encoder(sequence).mean(1))), "video_vit")


def test_both_layouts_and_what_is_ambiguous():
    model = randomised()
    clip = torch.randn(2, 4, 3, 24, 24)
    assert torch.equal(model(clip), model(clip.transpose(1, 2)))
    three = randomised(num_frames=3)
    clip = torch.randn(2, 3, 3, 24, 24)
    assert not torch.equal(three(clip), three(clip.transpose(1, 2)))


def test_info_of_a_dense_network():
    model = randomised(tubelet_size=2)
    logits, info = model(torch.randn(2, 4, 3, 24, 24), return_intermediate=True)
    assert logits.shape == (2, 5)
    assert info["token_feat"].shape == (2, 2, 9, 24)
    assert info["L_AST"] == 0
    assert set(info["ast_stats"]) == {"sparsity_token", "sparsity_head", "sparsity_ch", "sparsity_block"}
    assert all(v == 0 for v in info["ast_stats"].values())
    assert info["kept"] is None
    assert info["score"] is None


def test_arguments_build_it_again():
    model = randomised(block_heads=(2, 0), block_hidden=(0, 7), drop_path_rate=0.2)
    again = VideoViT(**model.arguments)
    again.load_state_dict(model.state_dict())
    clip = torch.randn(1, 4, 3, 24, 24)
    assert torch.equal(again.eval()(clip), model(clip))
    assert [b.drop_path.share for b in again.blocks] == [0.0, 0.2]


def test_gradients_reach_every_parameter():
    model = randomised(pool="cls").train()
    model(torch.randn(2, 4, 3, 24, 24)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


@pytest.mark.parametrize("shape", [(2, 4, 3, 24), (2, 5, 3, 24, 24), (2, 4, 3, 24, 16), (2, 4, 1, 24, 24)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DataError, match=r"expected \[B, 4, 3, 24, 24\]"):
        randomised()(torch.zeros(shape))


def pruned(**cfg):
    given = {k: cfg.pop(k) for k in ("pool", "depth") if k in cfg}
    return randomised(use_ast_prune=True, ast_cfg=cfg, **given)


@pytest.mark.parametrize("pool", ["mean", "cls"])
@pytest.mark.parametrize("mode", ["levels", "sliding"])
def test_gathered_equals_masked(pool, mode):
    clip = torch.randn(3, 4, 3, 24, 24)
    for schedule in ({0: 0.5}, {1: 0.25}, {0: 0.75, 1: 0.4}):
        gather = pruned(keep_schedule=schedule, pool=pool, entropy_mode=mode)
        mask = pruned(keep_schedule=schedule, pool=pool, entropy_mode=mode, execution="mask")
        mask.load_state_dict(gather.state_dict())
        got, info = gather(clip, return_intermediate=True)
        want, hidden = mask(clip, return_intermediate=True)
        assert_near(got, want, "video_vit")
        assert torch.equal(info["kept"], hidden["kept"])
        assert info["kept"].shape == (3, int(min(schedule.values()) * 36))


@pytest.mark.parametrize("score", ["entropy", "motion", "uniform", "random", "evit", "tome"])
def test_keeping_all_equals_the_plain_vit(score):
    model, plain = pruned(keep=1.0, score=score), randomised()
    plain.load_state_dict({k: t for k, t in model.state_dict().items() if not k.startswith("pruner.")})
    clip = torch.randn(2, 4, 3, 24, 24)
    assert_near(model(clip), plain(clip), "video_vit")


@pytest.mark.parametrize("pool", ["mean", "cls"])
@pytest.mark.parametrize("score", ["entropy", "motion", "uniform", "random", "evit", "tome"])
def test_every_score_trains_and_predicts(score, pool):
    model = pruned(score=score, keep=0.3, keep_head=0.7, keep_channel=0.5, keep_block=0.5, pool=pool)
    clip = torch.randn(2, 4, 3, 24, 24)
    logits, info = model.train()(clip, return_intermediate=True)
    (logits.square().sum() + info["L_AST"]).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    logits, info = model.eval()(clip, return_intermediate=True)
    assert logits.shape == (2, 5)
    assert info["kept"].shape == (2, 10)
    assert float(info["ast_stats"]["sparsity_token"]) == pytest.approx(1 - 10 / 36)
    assert set(info["gates"]) == {"head", "ch", "block"}
    assert (info["score"] is not None) == (score in ("entropy", "motion"))
    assert info["flops"].shape == (2,)
    assert info["flops"][1] < info["flops"][0]


def test_soft_gate_tends_to_the_hard_one():
    clip = torch.randn(2, 4, 3, 24, 24)
    hard, soft = pruned(keep=0.5), pruned(keep=0.5, gate_temp=1e-7)
    soft.load_state_dict(hard.state_dict())
    hidden = soft.train()(clip)
    # The k-th token itself sits on the threshold, and weighs a half.
    assert float((hidden - hard(clip)).abs().max()) < 0.3 * float(hard(clip).abs().max())
    open_ = pruned(keep=0.5, gate_temp=1e7).train()
    dense = randomised()
    dense.load_state_dict({k: t for k, t in open_.state_dict().items() if not k.startswith("pruner.")})
    assert_near(open_(clip), dense(clip), "video_vit")


def test_pruned_arguments_build_it_again():
    model = pruned(keep_schedule={0: 0.5, 1: 0.25}, keep_head=0.5, score_head=True, learn_keep=True)
    again = VideoViT(**model.arguments)
    again.load_state_dict(model.state_dict())
    clip = torch.randn(1, 4, 3, 24, 24)
    assert torch.equal(again.eval()(clip), model(clip))


@pytest.mark.parametrize("seed", [0, 1])
def test_all_four_kinds_reach_their_targets(seed):
    torch.manual_seed(seed)
    targets = {"head": 0.5, "channel": 0.25, "block": 0.75}
    sizes = {**SMALL, "img_size": 8, "patch_size": 4, "embed_dim": 16, "num_heads": 4, "depth": 4}
    cfg = {"keep": 0.5, "gate": "hard", **{f"keep_{kind}": rho for kind, rho in targets.items()}}
    model = VideoViT(**sizes, use_ast_prune=True, ast_cfg=cfg).train()
    gates = [p for name, p in model.named_parameters() if "_gate." in name]
    others = [p for name, p in model.named_parameters() if "_gate." not in name]
    optimizer = torch.optim.AdamW([{"params": others, "lr": 3e-3}, {"params": gates, "lr": 0.1, "weight_decay": 0.0}])
    patterns = torch.randn(5, 4, 3, 8, 8)
    for step in range(250):
        model.pruner.anneal(step / 250)
        y = torch.randint(0, 5, (4,))
        logits, info = model(patterns[y] + torch.randn(4, 4, 3, 8, 8), return_intermediate=True)
        optimizer.zero_grad()
        (torch.nn.functional.cross_entropy(logits, y) + info["L_AST"]).backward()
        optimizer.step()
    model.pruner.anneal(1.0)
    _, info = model.eval()(patterns, return_intermediate=True)
    kept = {kind: 1 - value.item() for kind, value in info["ast_stats"].items()}
    for kind, rho in (("token", 0.5), ("head", 0.5), ("ch", 0.25), ("block", 0.75)):
        assert abs(kept[f"sparsity_{kind}"] - rho) <= 0.02
    # And they have decided: closing what is to be closed changes little.
    open_ = {kind: (w > 0.5).float().mean().item() for kind, w in info["gates"].items()}
    assert abs(open_["head"] - 0.5) <= 0.07
    assert abs(open_["ch"] - 0.25) <= 0.05
    assert open_["block"] == 0.75
