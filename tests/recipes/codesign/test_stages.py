import pytest
import torch

from sparseflow.errors import UnsupportedError
from sparseflow.hardware.mapping import coarse_partition
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.recipes.codesign.stages import cut
from sparseflow.recipes.codesign.workloads import video_layers


@pytest.mark.parametrize("size", [1, 2, 9])
def test_parts_one_after_the_other_are_the_network(size):
    torch.manual_seed(0)
    model = VideoViT(32, 4, 8, 48, 3, 4, 2.0, 8, in_chans=1).eval()
    layers = video_layers(model)
    parts = cut(model, layers, coarse_partition(layers, segment_size=size))
    x = clip = torch.randn(2, 4, 1, 32, 32)
    for part in parts:
        x = part(x)
    assert torch.equal(x, model(clip))


def test_what_cannot_be_cut_is_said():
    pruned = VideoViT(32, 4, 8, 48, 3, 4, 2.0, 8, use_ast_prune=True)
    with pytest.raises(UnsupportedError, match="slice"):
        cut(pruned, video_layers(pruned), coarse_partition(video_layers(pruned)))
    model = VideoViT(32, 4, 8, 48, 1, 4, 2.0, 8)
    layers = [x for x in video_layers(model) if "blocks" in x.name]
    segments = [*coarse_partition(layers[:1]), *coarse_partition(layers[1:])]
    with pytest.raises(UnsupportedError, match="within block 0"):
        cut(model, [layers[0]], [segments[0], segments[0]])
