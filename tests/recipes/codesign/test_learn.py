import pytest
import torch

from sparseflow.errors import DataError
from sparseflow.recipes.codesign.learn import Guard, Learner
from sparseflow.recipes.video.config import VideoConfig
from sparseflow.recipes.video.network import build
from sparseflow.recipes.video.sources import open_sources

CONFIG = VideoConfig(
    num_frames=2, img_size=16, digits={"digit": 8, "speeds": (2,), "still": 0, "clutter": 0}, clips=64, test_clips=8,
    model_args={"embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0, "patch_size": 8}, batch_size=8, epochs=2,
    ast_cfg={"keep": 0.5, "learn_keep": True, "score": "motion"}, lr=1e-3, device="cpu",
)  # fmt: skip


def _learner(config=CONFIG, steps=10) -> Learner:
    torch.manual_seed(0)
    train, _ = open_sources(config, torch.device("cpu"))
    model = build(config, classes=len(train.classes), channels=train.channels)
    return Learner(model, config, train, cast=_Nothing, steps=steps)


class _Nothing:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return False


def test_a_bill_moves_the_share_that_is_kept():
    kept = []
    for weight in (0.0, 50.0):
        learner = _learner()
        pruner = learner.model.pruner
        learner.phase(10, lambda p=pruner: p.keeps()[0].log(), lambda _, w=weight: w, Guard(0.5))
        kept.append(pruner.keeps()[0].item())
    assert kept[1] < kept[0] - 0.005


def test_the_rest_of_the_steps_go_on_where_they_stopped():
    learner = _learner()
    first = learner.phase(3, None, lambda _: 1.0, Guard(0.1))
    assert learner.done == 3
    assert first.loss_hw == 0.0
    learner.phase(7, None, lambda _: 1.0, Guard(0.1))
    assert learner.done == 10


def test_too_few_clips_are_said():
    learner = _learner()
    learner.source.count = 4
    with pytest.raises(DataError, match="batch_size"):
        learner.phase(1, None, lambda _: 1.0, Guard(0.1))


def test_the_guard_holds_until_the_accuracy_falls_and_then_again():
    guard = Guard(0.1)
    for _ in range(10):
        guard.see(0.8)
    assert guard.holds
    guard.lock()
    for _ in range(30):
        guard.see(0.5)
    assert not guard.holds
    for _ in range(100):
        guard.see(0.8)
    assert guard.holds


def test_a_closed_network_keeps_its_share_and_learns_as_it_runs():
    learner = _learner()
    learner.close()
    pruner = learner.model.pruner
    before = pruner.keeps().tolist()
    learner.phase(2, None, lambda _: 0.0, Guard(0.1))
    assert pruner.keeps().tolist() == before
    learner.model.train()
    assert not pruner.soft
