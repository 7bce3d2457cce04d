import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.recipes.video import load_trained, train_video
from sparseflow.recipes.video.slice import slice_video
from tests.video_runs import TINY, small_video

GATES = {
    "prune_before": 0,
    "keep_head": 0.5,
    "keep_channel": 0.5,
    "keep_block": 0.5,
    "keep": 0.5,
    "score": "motion",
    "gate": "hard",
}


def test_gates_reach_their_targets_and_are_sliced_out(tmp_path):
    more = {"model_args": TINY | {"num_heads": 4}, "epochs": 16, "clips": 64}
    config = small_video(tmp_path, ast_cfg=GATES | {"learn_keep": True}, gate_lr=0.3, warmup_epochs=1, **more)
    record = train_video(config, progress=False)
    path = tmp_path / "sliced.safetensors"
    body = slice_video(record["file"], path)
    assert body["ok"], body["checks"]
    assert {c["show"] for c in body["checks"]} == {"1", "5"}
    assert abs(record["test"]["keeps"]["token"] - 0.5) <= 0.02
    assert sum(c["show"] == "5" for c in body["checks"]) == 3
    assert body["heads"] == [2]
    assert body["hidden"] == [16]
    assert body["parameters"][1] < body["parameters"][0]
    assert body["flops"][1] < body["flops"][0]
    found = load_trained(path)
    assert found.record["sliced_from"] == record["file"]
    logits = found.model(torch.rand(2, 4, 1, 24, 24))
    assert logits.isfinite().all()


def test_without_gates_there_is_nothing_to_slice(tmp_path):
    record = train_video(small_video(tmp_path, epochs=1), progress=False)
    with pytest.raises(ConfigError, match="has no gates to slice by; train with keep_head"):
        slice_video(record["file"], tmp_path / "a.safetensors")
