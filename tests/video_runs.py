"""Small trainings of video transformers for tests."""

from dataclasses import replace

from sparseflow.recipes.video import VideoConfig

TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0, "patch_size": 8}
DIGITS = {"digit": 8, "speeds": [1, 2], "still": 1, "clutter": 2}


def small_video(tmp_path, **more) -> VideoConfig:
    """Return a run of seconds: 4 frames of 24×24, two blocks."""
    given = {
        "num_frames": 4, "img_size": 24, "model_args": TINY, "digits": DIGITS, "epochs": 2, "warmup_epochs": 0.5,
        "clips": 32, "test_clips": 24, "batch_size": 8, "eval_batch": 16, "device": "cpu", "out": str(tmp_path),
        "workers": 0, "ast_cfg": {"keep": 0.5, "score": "motion", "gate": "hard"},
    }  # fmt: skip
    return replace(VideoConfig(), **given | more)


def dense(tmp_path, **more) -> VideoConfig:
    """Return the same run without pruning."""
    return small_video(tmp_path, **{"mode": "dense_baseline", "ast_cfg": {}} | more)
