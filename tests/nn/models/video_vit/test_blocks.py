import math

import pytest
import torch

from sparseflow.nn.models.video_vit.args import VideoViTArgs
from sparseflow.nn.models.video_vit.blocks import Attention, Block, DropPath, Mlp, PatchEmbed
from tests.tolerances import assert_near

ARGS = VideoViTArgs(img_size=24, num_frames=4, patch_size=8, embed_dim=12, num_heads=3, depth=1, tubelet_size=2)


def naive_attention(module, x, bias, gate):
    batch, length, _ = x.shape
    width = module.head_dim
    out = torch.zeros(batch, length, module.heads * width, dtype=x.dtype)
    qkv = x @ module.qkv.weight.to(x.dtype).T + module.qkv.bias.to(x.dtype)
    for b in range(batch):
        for h in range(module.heads):
            q, k, v = (
                qkv[b, :, (part * module.heads + h) * width : (part * module.heads + h + 1) * width]
                for part in range(3)
            )
            weights = torch.softmax(q @ k.T / math.sqrt(width) + bias[b], -1)
            out[b, :, h * width : (h + 1) * width] = gate[h] * (weights @ v)
    return out @ module.proj.weight.to(x.dtype).T + module.proj.bias.to(x.dtype)


def test_patches_are_the_convolution():
    torch.manual_seed(0)
    embed = PatchEmbed(ARGS)
    clip = torch.randn(2, 4, 3, 24, 24)
    want = embed.proj(clip.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1).detach()
    got = embed(clip).detach()
    assert got.shape == (2, 2, 9, 12)
    assert_near(got, want, "video_vit")


def test_attention_is_the_naive_loop():
    torch.manual_seed(1)
    module = Attention(ARGS, 2)
    x, gate = torch.randn(2, 7, 12), torch.tensor([0.25, 1.5])
    bias = torch.randn(2, 7)
    bias[1, 3] = -math.inf
    got, (q, k) = module(x, bias, gate)
    assert q.shape == k.shape == (2, 2, 7, 4)
    assert_near(got, naive_attention(module, x.double(), bias.double(), gate), "video_vit")
    plain, _ = module(x)
    assert_near(plain, naive_attention(module, x.double(), torch.zeros(2, 7), torch.ones(2)), "video_vit")


def test_a_hidden_token_is_never_read():
    torch.manual_seed(2)
    module = Attention(ARGS, 3)
    x = torch.randn(1, 6, 12)
    bias = torch.zeros(1, 6)
    bias[0, 2] = -math.inf
    other = x.clone()
    other[0, 2] += 100
    keep = [0, 1, 3, 4, 5]
    torch.testing.assert_close(module(x, bias)[0][:, keep], module(other, bias)[0][:, keep], rtol=0, atol=0)


def test_channel_gate_scales_what_is_hidden():
    torch.manual_seed(3)
    module = Mlp(ARGS, 5)
    x, gate = torch.randn(2, 3, 12), torch.tensor([0.0, 1.0, 0.5, 1.0, 2.0])
    want = (torch.nn.functional.gelu(module.fc1(x)) * gate) @ module.fc2.weight.T + module.fc2.bias
    assert_near(module(x, gate), want, "video_vit")


def test_closed_block_is_the_identity():
    block = Block(ARGS, 3, 8)
    x = torch.randn(2, 5, 12)
    y, seen = block(x, block=torch.zeros(()))
    assert seen is None
    torch.testing.assert_close(y, x, rtol=0, atol=0)
    assert block(x, look=True)[1] is not None


@pytest.mark.parametrize(("heads", "hidden"), [(0, 8), (3, 0), (0, 0)])
def test_halves_can_be_left_out(heads, hidden):
    block = Block(ARGS, heads, hidden)
    x = torch.randn(2, 5, 12)
    y, seen = block(x, look=True)
    assert y.shape == x.shape
    assert (seen is None) == (heads == 0)
    assert torch.equal(y, x) == (not heads and not hidden)
    names = {name.split(".")[0] for name, _ in block.named_parameters()}
    assert ("attn" in names) == bool(heads)
    assert ("mlp" in names) == bool(hidden)


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    torch.manual_seed(4)
    drop = DropPath(0.25)
    x = torch.ones(4000, 2, 3)
    y = drop(x)
    assert set(y.unique().tolist()) <= {0.0, float(torch.tensor(1.0) / 0.75)}
    assert bool((y.amax((1, 2)) == y.amin((1, 2))).all())
    assert abs(float(y.mean()) - 1) < 0.05
    assert torch.equal(drop.eval()(x), x)
