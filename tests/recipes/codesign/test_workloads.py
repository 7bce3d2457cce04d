import pytest
import torch

from sparseflow.errors import DataError
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.nn.models.video_vit.cost import block_flops
from sparseflow.recipes.codesign.workloads import kept_layers, read_workload, video_layers


def _model(**cfg) -> VideoViT:
    return VideoViT(32, 4, 8, 48, 3, 4, 2.0, 8, in_chans=1, use_ast_prune=bool(cfg), ast_cfg=cfg or None)


def test_a_dense_network_s_layers_are_its_blocks_operations():
    model = _model()
    layers = video_layers(model)
    blocks = [layer for layer in layers if layer.name.startswith("blocks.")]
    assert len(blocks) == 6
    assert sum(x.flops for x in blocks) == sum(block_flops(model.args, i, model.args.tokens) for i in range(3))
    assert kept_layers(model) == layers


def test_layers_carry_gradients_to_what_is_learned():
    model = _model(keep=0.5, learn_keep=True, keep_head=0.5, keep_channel=0.5, keep_block=0.5)
    sum(x.flops for x in video_layers(model)).backward()
    pruner = model.pruner
    for p in (
        pruner.keep_logits, pruner.head_gate.logits, pruner.channel_gate.logits, pruner.block_gate.logits
    ):  # fmt: skip
        assert bool((p.grad > 0).all())


def test_layers_in_the_end_are_those_of_the_network_that_runs():
    model = _model(keep=0.25, keep_head=0.5, keep_channel=0.5, keep_block=0.67, gate="hard").eval()
    with torch.no_grad():
        model.pruner.block_gate.logits[0, 1] = -3
    layers = {x.name: x for x in kept_layers(model)}
    assert "blocks.1.attn" not in layers
    assert float(layers["blocks.2.attn"].length) == 16
    assert layers["blocks.2.attn"].keep_head == 0.5
    assert layers["blocks.2.mlp"].hidden == 48


@pytest.mark.parametrize("text", [None, "no json", "{}"])
def test_no_workload_is_an_error_that_names_the_file(tmp_path, text):
    path = tmp_path / "w.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"w\.json"):
        read_workload(path)
