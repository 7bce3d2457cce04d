import json

import pytest

from sparseflow.errors import ConfigError
from sparseflow.nn.models.video_vit.args import VideoViTArgs


def test_sizes_follow():
    args = VideoViTArgs(img_size=48, num_frames=6, patch_size=8, tubelet_size=2, embed_dim=12, num_heads=3, depth=2)
    assert args.grid == (6, 6)
    assert args.num_patches == 36
    assert args.times == 3
    assert args.tokens == 108
    assert args.head_dim == 4
    assert args.heads == (3, 3)
    assert args.hidden == (48, 48)


def test_json_round_trip():
    args = VideoViTArgs(depth=2, block_heads=(3, 0), block_hidden=(5, 7), pool="cls")
    assert VideoViTArgs.from_dict(json.loads(json.dumps(args.to_dict()))) == args
    assert args.heads == (3, 0)
    assert args.hidden == (5, 7)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"img_size": 0}, "img_size"),
        ({"depth": True}, "depth"),
        ({"patch_size": 15}, "patch_size"),
        ({"tubelet_size": 3}, "tubelet_size"),
        ({"num_heads": 5}, "num_heads"),
        ({"mlp_ratio": float("inf")}, "mlp_ratio"),
        ({"drop_rate": 1.0}, "drop_rate"),
        ({"drop_path_rate": "x"}, "drop_path_rate"),
        ({"pool": "max"}, "pool"),
        ({"positions": "rotary"}, "positions"),
        ({"block_heads": (12,)}, "block_heads"),
        ({"depth": 1, "block_hidden": (-1,)}, "block_hidden"),
        ({"frames": 8}, "frames"),
    ],
)
def test_what_is_wrong_is_named(given, word):
    with pytest.raises(ConfigError, match=word):
        VideoViTArgs.from_dict(given)
