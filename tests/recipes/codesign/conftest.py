import json

import pytest

from sparseflow.hardware.chiplet import load_library
from sparseflow.hardware.loss import HwWeights
from sparseflow.hardware.proxy import LayerSpec
from sparseflow.hardware.system import System
from sparseflow.recipes.codesign.config import CodesignConfig
from sparseflow.recipes.codesign.predictor import Bounds
from sparseflow.recipes.video.config import VideoConfig


def _tiny(out) -> CodesignConfig:
    video = VideoConfig(
        num_frames=2, img_size=16, digits={"digit": 8, "speeds": (2,), "still": 0, "clutter": 0}, clips=64,
        test_clips=16, batch_size=8, lr=1e-3, device="cpu", warmup_epochs=0.5,
        model_args={"embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0, "patch_size": 8},
        ast_cfg={"keep": 0.5, "learn_keep": True, "score": "motion", "keep_channel": 0.5},
    )  # fmt: skip
    return CodesignConfig(
        video=video, outer_epochs=2, steps_theta=3, steps_final=2, steps_alpha=3, candidates=4, steps_layout=5, slots=3,
        fixed=("big_core", "big_core"), types=("big_core", "small_core"), segment_size=1, proxy="roofline", batch=4096,
        hw=HwWeights(area_limit_mm2=1300), out=str(out),
    )  # fmt: skip


@pytest.fixture
def tiny(tmp_path):
    """A co-design of seconds: a network of two blocks on eight directions, three slots."""
    return _tiny(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """What such a co-design came to, once for all tests; its text, as nobody may change it."""
    from sparseflow.recipes.codesign.run import codesign

    return json.dumps(codesign(_tiny(tmp_path_factory.mktemp("codesign"))))


@pytest.fixture
def system():
    """Four slots of two types."""
    types = load_library(names=["big_core", "small_core"])
    return System(types, Bounds(), slots=4, segment_size=1)


@pytest.fixture
def layers():
    """Four blocks of a transformer."""
    given = {"tokens": 256, "channels": 384, "batch": 16, "precision": "float16"}
    return [
        layer
        for i in range(4)
        for layer in (
            LayerSpec(name=f"a{i}", kind="attn", heads=6, **given),
            LayerSpec(name=f"m{i}", kind="mlp", mlp_ratio=4.0, **given),
        )
    ]
