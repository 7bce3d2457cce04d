import pytest
import torch

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.models.video_vit import save_video
from sparseflow.recipes.video.network import build
from tests.video_runs import TINY, dense, small_video


def test_sizes_follow_the_data_and_the_settings(tmp_path):
    model = build(small_video(tmp_path), classes=5, channels=2)
    a = model.arguments
    assert (a["num_classes"], a["in_chans"], a["img_size"], a["num_frames"], a["embed_dim"]) == (5, 2, 24, 4, 16)
    assert a["ast_cfg"]["score"] == "motion"
    assert not build(dense(tmp_path), classes=5, channels=2).arguments["use_ast_prune"]
    videos = build(dense(tmp_path, dataset="ucf101", model_args={"depth": 1}, img_size=32), classes=2, channels=3)
    assert (videos.arguments["embed_dim"], videos.arguments["patch_size"]) == (768, 16)


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"VideoViT lacks.*colour"):
        build(dense(tmp_path, model_args={"colour": 1}), classes=2, channels=1)
    with pytest.raises(ConfigError, match="unknown fields colour of ast_cfg"):
        build(small_video(tmp_path, ast_cfg={"colour": 1}), classes=2, channels=1)


def test_a_dense_network_starts_a_pruned_one_and_one_of_other_classes(tmp_path):
    first = build(dense(tmp_path), classes=5, channels=1)
    path = tmp_path / "dense.safetensors"
    save_video(path, first)
    keep_all = {"keep": 1.0, "score": "motion"}
    pruned = build(small_video(tmp_path, init_from=str(path), ast_cfg=keep_all), classes=5, channels=1).eval()
    x = torch.rand(2, 4, 1, 24, 24)
    torch.testing.assert_close(pruned(x), first.eval()(x))
    other = build(dense(tmp_path, init_from=str(path)), classes=3, channels=1)
    assert torch.equal(other.blocks[0].mlp.fc1.weight, first.blocks[0].mlp.fc1.weight)
    assert other.head.weight.shape == (3, 16)


def test_what_does_not_fit_is_named(tmp_path):
    path = tmp_path / "dense.safetensors"
    save_video(path, build(dense(tmp_path), classes=5, channels=1))
    wide = dense(tmp_path, init_from=str(path), model_args=TINY | {"embed_dim": 32})
    with pytest.raises(DataError, match=r"dense\.safetensors: .* is .*, here"):
        build(wide, classes=5, channels=1)
    deep = dense(tmp_path, init_from=str(path), model_args=TINY | {"depth": 3})
    with pytest.raises(DataError, match=r"lacks blocks\.2"):
        build(deep, classes=5, channels=1)
    with pytest.raises(DataError):
        build(dense(tmp_path, init_from=str(tmp_path / "none.safetensors")), classes=5, channels=1)


def test_tables_of_positions_begin_as_asked(tmp_path):
    plain, wide = (build(dense(tmp_path, position_std=std), classes=2, channels=1) for std in (None, 0.5))
    assert float(plain.pos_embed.detach().std()) < 0.03
    assert 0.4 < float(wide.pos_embed.detach().std()) < 0.6
    assert 0.3 < float(wide.time_embed.detach().std()) < 0.7
