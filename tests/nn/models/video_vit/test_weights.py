import math

import pytest
import torch
from safetensors.torch import save_file

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.models.video_vit import VideoViT, load_pretrained, load_video, save_video
from tests.tolerances import assert_near

SIZES = {
    "img_size": 16, "num_frames": 4, "num_classes": 5, "embed_dim": 12, "depth": 2, "num_heads": 3, "mlp_ratio": 2.0,
    "patch_size": 8,
}  # fmt: skip


def network(**given):
    torch.manual_seed(0)
    return VideoViT(**{**SIZES, **given}).eval()


def image_weights(side=2, classes=5, cls=True):
    """State dict of an image transformer in timm's names."""
    torch.manual_seed(1)
    state = {
        "patch_embed.proj.weight": torch.randn(12, 3, 8, 8), "patch_embed.proj.bias": torch.randn(12),
        "pos_embed": torch.randn(1, side * side + cls, 12), "norm.weight": torch.randn(12), "norm.bias":
        torch.randn(12), "head.weight": torch.randn(classes, 12), "head.bias": torch.randn(classes),
    }  # fmt: skip
    if cls:
        state["cls_token"] = torch.randn(1, 1, 12)
    for i in range(2):
        for name, shape in (("norm1", (12,)), ("attn.qkv", (36, 12)), ("attn.proj", (12, 12)), ("norm2", (12,)),
                            ("mlp.fc1", (24, 12)), ("mlp.fc2", (12, 24))):  # fmt: skip
            state[f"blocks.{i}.{name}.weight"] = torch.randn(shape)
            state[f"blocks.{i}.{name}.bias"] = torch.randn(shape[0])
    return state


@pytest.mark.parametrize("ending", ["safetensors", "npz", "pt"])
def test_there_and_back(tmp_path, ending):
    model = network(block_heads=(2, 0), block_hidden=(0, 7), pool="cls")
    path = tmp_path / f"a.{ending}"
    save_video(path, model, record={"top1": 0.5})
    again, record = load_video(path)
    assert record == {"top1": 0.5}
    assert again.arguments == model.arguments
    clip = torch.randn(2, 4, 3, 16, 16)
    assert torch.equal(again(clip), model(clip))
    save_video(tmp_path / f"b.{ending}", again, record=record)
    assert path.read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_another_file_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(DataError, match="no VideoViT"):
        load_video(tmp_path / "a.safetensors")


@pytest.mark.parametrize("tubelet", [1, 2])
def test_a_still_clip_embeds_as_its_image(tmp_path, tubelet):
    state = image_weights()
    save_file(state, tmp_path / "image.safetensors")
    model = network(pool="cls", tubelet_size=tubelet)
    report = load_pretrained(model, tmp_path / "image.safetensors")
    assert not report.fresh
    assert not report.unused
    image = torch.randn(2, 3, 16, 16)
    tokens = model.patch_embed(image[:, None].expand(-1, 4, -1, -1, -1))
    want = torch.nn.functional.conv2d(image, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], 8)
    for t in range(4 // tubelet):
        assert_near(tokens[:, t].detach(), want.flatten(2).transpose(1, 2), "video_vit")
    assert not model.time_embed.any()
    torch.testing.assert_close(model.cls_token, state["cls_token"] + state["pos_embed"][:, :1])


def test_another_grid_and_other_classes(tmp_path):
    save_file(image_weights(side=3, classes=9), tmp_path / "image.safetensors")
    model = network(pool="mean")
    head = model.head.weight.clone()
    report = load_pretrained(model, tmp_path / "image.safetensors")
    assert report.fresh == ("head.weight", "head.bias")
    assert report.unused == ("cls_token",)
    assert torch.equal(model.head.weight, head)
    constant = image_weights(side=3, cls=False)
    constant["pos_embed"][:] = 0.25
    save_file(constant, tmp_path / "constant.safetensors")
    load_pretrained(model, tmp_path / "constant.safetensors")
    torch.testing.assert_close(model.pos_embed, torch.full((1, 4, 12), 0.25))


def test_videomae(tmp_path):
    state = {f"encoder.{k}": t for k, t in image_weights(cls=False).items() if k != "pos_embed"}
    state["encoder.patch_embed.proj.weight"] = torch.randn(12, 3, 2, 8, 8)
    state["decoder.norm.weight"] = torch.zeros(3)
    state["mask_token"] = torch.zeros(3)
    for i in range(2):
        bias = state.pop(f"encoder.blocks.{i}.attn.qkv.bias")
        state[f"encoder.blocks.{i}.attn.q_bias"] = bias[:12].clone()
        state[f"encoder.blocks.{i}.attn.v_bias"] = bias[24:].clone()
    state["encoder.fc_norm.weight"], state["encoder.fc_norm.bias"] = torch.full((12,), 2.0), torch.full((12,), 3.0)
    save_file(state, tmp_path / "mae.safetensors")
    model = network(tubelet_size=2, positions="joint")
    load_pretrained(model, tmp_path / "mae.safetensors")
    assert bool((model.norm.weight == 2).all())
    assert torch.equal(model.patch_embed.proj.weight, state["encoder.patch_embed.proj.weight"])
    qkv = model.blocks[1].attn.qkv.bias
    assert torch.equal(qkv[:12], state["encoder.blocks.1.attn.q_bias"])
    assert not qkv[12:24].any()
    for place, column in ((0, 1), (3, 4), (7, 11)):
        angle = place / 10000 ** (2 * (column // 2) / 12)
        want = math.sin(angle) if column % 2 == 0 else math.cos(angle)
        assert model.pos_embed[0, place, column].item() == pytest.approx(want, abs=1e-6)
    single = network(positions="joint")
    load_pretrained(single, tmp_path / "mae.safetensors")
    want = state["encoder.patch_embed.proj.weight"].sum(2, keepdim=True)
    torch.testing.assert_close(single.patch_embed.proj.weight, want)


def test_layer_scales_are_folded(tmp_path):
    plain, scaled = image_weights(), image_weights()
    for name, layer in (("ls1", "attn.proj"), ("ls2", "mlp.fc2")):
        factors = torch.rand(12) + 0.5
        scaled[f"blocks.0.{name}.gamma"] = factors
        plain[f"blocks.0.{layer}.weight"] = plain[f"blocks.0.{layer}.weight"] * factors[:, None]
        plain[f"blocks.0.{layer}.bias"] = plain[f"blocks.0.{layer}.bias"] * factors
    save_file(plain, tmp_path / "plain.safetensors")
    save_file(scaled, tmp_path / "scaled.safetensors")
    a, b = network(pool="cls"), network(pool="cls")
    load_pretrained(a, tmp_path / "plain.safetensors")
    load_pretrained(b, tmp_path / "scaled.safetensors")
    clip = torch.randn(1, 4, 3, 16, 16)
    torch.testing.assert_close(a(clip), b(clip), rtol=0, atol=0)


def test_key_map(tmp_path):
    state = image_weights()
    state["embeddings.weight"] = state.pop("patch_embed.proj.weight")
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(DataError, match=r"no tensor for patch_embed\.proj\.weight"):
        load_pretrained(network(pool="cls"), tmp_path / "a.safetensors")
    load_pretrained(
        network(pool="cls"), tmp_path / "a.safetensors", key_map={"embeddings.weight": "patch_embed.proj.weight"}
    )
    with pytest.raises(ConfigError, match="missing"):
        load_pretrained(network(pool="cls"), tmp_path / "a.safetensors", key_map={"missing": "norm.weight"})


@pytest.mark.parametrize("fault", ["shape", "nan", "depth"])
def test_what_does_not_fit_changes_nothing(tmp_path, fault):
    state = image_weights()
    if fault == "shape":
        state["blocks.1.mlp.fc1.weight"] = torch.zeros(23, 12)
    elif fault == "nan":
        state["blocks.1.norm1.bias"][3] = math.nan
    else:
        state = {k: t for k, t in state.items() if not k.startswith("blocks.1")}
    save_file(state, tmp_path / "a.safetensors")
    model = network(pool="cls")
    before = {k: t.clone() for k, t in model.state_dict().items()}
    with pytest.raises(DataError, match=r"blocks\.1.*nothing was loaded"):
        load_pretrained(model, tmp_path / "a.safetensors")
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items())
