import pytest
import torch

from sparseflow.compress.prune import slice_model
from sparseflow.errors import ConfigError
from sparseflow.nn.models.video_vit import VideoViT, load_video, save_video
from tests.tolerances import assert_near

SIZES = {
    "img_size": 24, "num_frames": 4, "num_classes": 5, "embed_dim": 24, "depth": 4, "num_heads": 3, "mlp_ratio": 2.0,
    "patch_size": 8,
}  # fmt: skip


def gated(pool="mean", **cfg):
    torch.manual_seed(0)
    model = VideoViT(**SIZES, pool=pool, use_ast_prune=True, ast_cfg=cfg).eval()
    for p in model.parameters():
        p.data.normal_(std=0.3)
    return model


CLIP = torch.randn(2, 4, 3, 24, 24, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("pool", ["mean", "cls"])
@pytest.mark.parametrize(
    "cfg",
    [
        {"keep_head": 0.67, "keep": 1.0},
        {"keep_channel": 0.5, "keep": 1.0},
        {"keep_block": 0.75, "keep": 1.0},
        {"keep_head": 0.34, "keep_channel": 0.25, "keep_block": 0.5, "keep": 1.0},
        {"keep_head": 0.67, "keep_channel": 0.5, "keep_block": 0.75, "keep": 0.5},
        {"keep_head": 0.67, "keep_block": 0.75, "keep_schedule": {0: 0.75, 2: 0.5}, "score_head": True},
    ],
)
def test_sliced_equals_gated(pool, cfg):
    model = gated(pool, **cfg)
    before = {k: t.clone() for k, t in model.state_dict().items()}
    small = slice_model(model)
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items())
    model.pruner.harden()
    assert_near(small(CLIP), model(CLIP), "video_vit")
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    assert small.pruner is None or not small.pruner.gates()


def test_sizes_are_the_targets():
    small = slice_model(gated(keep_head=0.34, keep_channel=0.25, keep_block=0.5, keep=1.0))
    assert small.args.depth == 2
    assert small.args.heads == (1, 1)
    assert small.args.hidden == (12, 12)
    assert small.pruner is None


def test_it_saves_loads_and_trains_as_a_plain_network(tmp_path):
    small = slice_model(gated(keep_head=0.67, keep_channel=0.5, keep=0.5))
    save_video(tmp_path / "small.safetensors", small, record={"from": "gated"})
    again, record = load_video(tmp_path / "small.safetensors")
    assert record == {"from": "gated"}
    assert torch.equal(again(CLIP), small(CLIP))
    again.train()(CLIP).sum().backward()
    torch.testing.assert_close(slice_model(again.eval())(CLIP), again(CLIP), rtol=0, atol=0)


def test_learned_shares_are_fixed():
    model = gated(keep_schedule={1: 0.5, 2: 0.25}, learn_keep=True, keep_channel=0.5)
    model.pruner.keep_logits.data[:] = torch.tensor([0.8, -0.3])
    small = slice_model(model)
    assert small.pruner.counts(36) == model.pruner.counts(36)
    assert small.pruner.keep_logits is None
    model.pruner.harden()
    assert_near(small(CLIP), model(CLIP), "video_vit")


def test_a_dense_network_is_copied():
    model = VideoViT(**SIZES).eval()
    small = slice_model(model)
    assert small is not model
    assert torch.equal(small(CLIP), model(CLIP))


def test_type_and_mode_stay():
    small = slice_model(gated(keep_head=0.67).double().train())
    assert small.training
    assert small.head.weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("cfg", "word"),
    [
        ({"score": "evit", "keep_head": 0.67}, "evit"),
        ({"score": "tome", "keep_block": 0.5}, "tome"),
        ({"keep_block": 0.25, "prune_before": 3}, "no block"),
    ],
)
def test_what_cannot_be_sliced_is_refused(cfg, word):
    model = gated(**cfg)
    if model.pruner.block_gate is not None:
        model.pruner.block_gate.logits.data[:] = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    with pytest.raises(ConfigError, match=word):
        slice_model(model)
