"""Distillation against PyTorch's own, and the reward of both losses."""

import pytest
import torch
import torch.nn.functional as F

from sparseflow.compress.approximate.reward import RewardConfig, distillation
from sparseflow.errors import ConfigError


def test_distillation_is_the_batchmean_of_kl() -> None:
    g = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(3, 5, 10, generator=g) * 4, torch.randn(5, 10, generator=g) * 4
    got = distillation(student, teacher, 2.0)
    assert got.shape == (3, 5)
    for one, losses in zip(student.double(), got, strict=True):
        soft = F.softmax(teacher.double() / 2, 1)
        want = 4 * F.kl_div(F.log_softmax(one / 2, 1), soft, reduction="batchmean")
        assert float(losses.mean()) == pytest.approx(float(want), abs=1e-12)
    assert (got >= 0).all()
    assert distillation(teacher, teacher).abs().max() == 0


def test_far_logits_stay_finite() -> None:
    far = torch.tensor([[1e4, -1e4]])
    assert distillation(far, -far).isfinite().all()


def test_reward_and_settings() -> None:
    kd, at = torch.tensor([0.5, 0.0]), torch.tensor([0.01, 0.0])
    assert RewardConfig(attention=10).combine(kd, at).tolist() == pytest.approx([-0.6, 0.0])
    assert RewardConfig().to_dict()["attention"] == 100.0
    with pytest.raises(ConfigError, match="temperature"):
        RewardConfig(temperature=0)
    with pytest.raises(ConfigError, match="attention weight"):
        RewardConfig(attention=float("nan"))
